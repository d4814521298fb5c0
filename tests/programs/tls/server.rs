//! A server's end of TLS by rustls, with the provider that it was built with.

use std::{error::Error, path::Path, sync::Arc};

use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    },
};

/// Takes cert.pem and key.pem of `folder`.
pub(crate) fn acceptor(folder: &Path) -> Result<TlsAcceptor, Box<dyn Error + Send + Sync>> {
    let certificate = CertificateDer::from_pem_file(folder.join("cert.pem"))?;
    let key = PrivateKeyDer::from_pem_file(folder.join("key.pem"))?;
    let config =
        ServerConfig::builder().with_no_client_auth().with_single_cert(vec![certificate], key)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}
