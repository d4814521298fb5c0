//! Answers as the plan of `tests/src/plan.rs` wants it, with hyper over rustls 0.21, and logs it. It has a server's end of 0.23, too.
//!
//! `server LOG FOLDER`: by the cert.pem and key.pem in FOLDER.

#[path = "../../../programs/plan/answers.rs"]
mod answers;

use std::{
    env,
    fs::{self, File},
    hint,
    path::Path,
    sync::Arc,
};

use answers::Result;
use tokio_rustls::{
    TlsAcceptor,
    rustls::{Certificate, PrivateKey, ServerConfig},
};

#[tokio::main]
async fn main() -> Result<()> {
    let [log, folder] = [1, 2].map(|at| env::args().nth(at));
    let log = log.ok_or("where is the log?")?;
    let log = File::options().append(true).create(true).open(log)?;
    hint::black_box(other()?);
    let acceptor = acceptor(Path::new(&folder.ok_or("where is the certificate?")?))?;
    answers::run(log, Some(acceptor)).await
}

fn acceptor(folder: &Path) -> Result<TlsAcceptor> {
    let certificates = fs::read(folder.join("cert.pem"))?;
    let certificates = rustls_pemfile::certs(&mut &certificates[..])?;
    let certificates = certificates.into_iter().map(Certificate).collect();
    let key = fs::read(folder.join("key.pem"))?;
    let key = rustls_pemfile::pkcs8_private_keys(&mut &key[..])?.pop().ok_or("no key")?;
    let config = ServerConfig::builder().with_safe_defaults().with_no_client_auth();
    Ok(TlsAcceptor::from(Arc::new(config.with_single_cert(certificates, PrivateKey(key))?)))
}

fn other() -> Result<rustls::ServerConnection> {
    use rustls::{ServerConfig, ServerConnection, crypto::ring, server::ResolvesServerCertUsingSni};
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let config = config.with_safe_default_protocol_versions()?.with_no_client_auth();
    let nobody = Arc::new(ResolvesServerCertUsingSni::new());
    Ok(ServerConnection::new(Arc::new(config.with_cert_resolver(nobody)))?)
}
