//! Sends the plan on standard input with reqwest over rustls 0.21; one JSON line each.
//!
//! `client URL`

#[path = "../asks.rs"]
mod asks;

use std::error::Error;

use reqwest::Client;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // The tests' certificates are signed by themselves.
    asks::ask(Client::builder().danger_accept_invalid_certs(true).build()?).await
}
