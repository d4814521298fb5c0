//! Answers as the plan of `tests/src/plan.rs` wants it, with hyper over rustls 0.22, and logs it.
//!
//! `server LOG FOLDER`: by the cert.pem and key.pem in FOLDER.

#[path = "../../../programs/plan/answers.rs"]
mod answers;
mod provider;

use std::{env, fs::File, path::Path, sync::Arc};

use answers::Result;
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use tokio_rustls::TlsAcceptor;

#[tokio::main]
async fn main() -> Result<()> {
    let [log, folder] = [1, 2].map(|at| env::args().nth(at));
    let log = log.ok_or("where is the log?")?;
    let log = File::options().append(true).create(true).open(log)?;
    let acceptor = acceptor(Path::new(&folder.ok_or("where is the certificate?")?))?;
    answers::run(log, Some(acceptor)).await
}

fn acceptor(folder: &Path) -> Result<TlsAcceptor> {
    let certificate = CertificateDer::from_pem_file(folder.join("cert.pem"))?;
    let key = PrivateKeyDer::from_pem_file(folder.join("key.pem"))?;
    let config = ServerConfig::builder_with_provider(provider::chosen());
    let config = config.with_safe_default_protocol_versions()?.with_no_client_auth();
    Ok(TlsAcceptor::from(Arc::new(config.with_single_cert(vec![certificate], key)?)))
}
