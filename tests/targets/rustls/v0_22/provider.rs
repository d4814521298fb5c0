//! What carries out the cryptography. Cargo gives ring in any case, because tokio-rustls asks for it.

use std::sync::Arc;

use rustls::crypto::{self, CryptoProvider};

pub(crate) fn chosen() -> Arc<CryptoProvider> {
    #[cfg(feature = "aws-lc-rs")]
    let provider = crypto::aws_lc_rs::default_provider();
    #[cfg(not(feature = "aws-lc-rs"))]
    let provider = crypto::ring::default_provider();
    Arc::new(provider)
}
