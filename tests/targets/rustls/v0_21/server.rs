//! Answers as the plan of `tests/src/plan.rs` wants it, with hyper over rustls 0.21, and logs it.
//!
//! `server LOG FOLDER`: by the cert.pem and key.pem in FOLDER.

#[path = "../../../programs/plan/answers.rs"]
mod answers;

use std::{
    env,
    fs::{self, File},
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
