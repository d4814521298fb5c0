//! Sends the plan on standard input with reqwest over rustls 0.23; one JSON line each.
//!
//! `client URL`

#[path = "../asks.rs"]
mod asks;

use std::error::Error;

use reqwest::Client;
use tokio_rustls::rustls::crypto;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    #[cfg(feature = "ring")]
    let provider = crypto::ring::default_provider();
    #[cfg(not(feature = "ring"))]
    let provider = crypto::aws_lc_rs::default_provider();
    provider.install_default().map_err(|_| "a provider is installed")?;
    // The tests' certificates are signed by themselves.
    asks::ask(Client::builder().tls_danger_accept_invalid_certs(true).build()?).await
}
