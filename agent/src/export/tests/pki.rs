//! A certificate authority, a server for `localhost` and a client, made anew for each test.

use std::{path::PathBuf, sync::Arc};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{RootCertStore, ServerConfig, crypto::ring, server::WebPkiClientVerifier};
use tempfile::TempDir;
use tokio_rustls::TlsAcceptor;

use crate::trust::Tls;

pub(crate) struct Pki {
    pub(crate) ca: String,
    /// Certificate and key.
    pub(crate) server: (String, String),
    client: (String, String),
    dir: TempDir,
}

impl Pki {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let issue = |name: &str| {
            let key = KeyPair::generate().unwrap();
            let params = CertificateParams::new([name.to_owned()]).unwrap();
            (params.signed_by(&key, &ca).unwrap().pem(), key.serialize_pem())
        };
        Self {
            server: issue("localhost"),
            client: issue("agent"),
            ca: ca.pem(),
            dir: tempfile::tempdir().unwrap(),
        }
    }

    /// Demands a client certificate.
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        let provider = Arc::new(ring::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(Tls::certificates(self.ca.as_bytes()).unwrap());
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
                .build();
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier.unwrap())
            .with_single_cert(
                Tls::certificates(self.server.0.as_bytes()).unwrap(),
                Tls::key(self.server.1.as_bytes()).unwrap(),
            )
            .unwrap();
        TlsAcceptor::from(Arc::new(config))
    }

    /// Writes the authority's certificate, the client's and its key to files, as variables want them.
    pub(crate) fn files(&self) -> [(&'static str, PathBuf); 3] {
        [
            ("CERTIFICATE", &self.ca),
            ("CLIENT_CERTIFICATE", &self.client.0),
            ("CLIENT_KEY", &self.client.1),
        ]
        .map(|(name, pem)| {
            let path = self.dir.path().join(name);
            std::fs::write(&path, pem).unwrap();
            (name, path)
        })
    }
}
