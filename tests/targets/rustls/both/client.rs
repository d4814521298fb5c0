//! Sends the plan on standard input with reqwest over rustls 0.23; one JSON line each. It has a client over 0.21, too.
//!
//! `client URL`

#[path = "../asks.rs"]
mod asks;

use std::{error::Error, hint};

use reqwest::Client;
use rustls::crypto;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    crypto::ring::default_provider().install_default().map_err(|_| "a provider is installed")?;
    let other = reqwest_0_11::Client::new();
    hint::black_box(other.get("https://127.0.0.1:9/").send().await.is_err());
    // The tests' certificates are signed by themselves.
    asks::ask(Client::builder().tls_danger_accept_invalid_certs(true).build()?).await
}
