//! Whom to trust and who we are: PEM files as rustls configurations, with ring as the provider.

use std::{fmt, sync::Arc};

use rustls::{ClientConfig, RootCertStore, crypto::ring};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

/// PEM as read, already found to be well-formed by the functions below.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Tls {
    /// Trusted instead of the system's certificates.
    pub ca: Option<Vec<u8>>,
    /// Our certificate chain and its key.
    pub identity: Option<(Vec<u8>, Vec<u8>)>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("ca", &self.ca.is_some())
            .field("identity", &self.identity.is_some())
            .finish()
    }
}

impl Tls {
    /// Certificates in `pem`: at least one.
    pub(crate) fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, &'static str> {
        let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
        certificates
            .ok()
            .filter(|certificates| !certificates.is_empty())
            .ok_or("a PEM file with a certificate")
    }

    /// The private key in `pem` (PKCS#1, PKCS#8 or SEC1).
    pub(crate) fn key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, &'static str> {
        PrivateKeyDer::from_pem_slice(pem).map_err(|_| "a PEM file with a private key")
    }

    /// For HTTP. Without `https` nobody is trusted, since nobody is asked for a certificate, and the
    /// system's hundred-odd certificates need not be read.
    pub(crate) fn client_config(&self, https: bool) -> Result<ClientConfig, String> {
        let mut roots = RootCertStore::empty();
        match &self.ca {
            _ if !https => {}
            Some(pem) => {
                for certificate in Self::certificates(pem)? {
                    roots
                        .add(certificate)
                        .map_err(|error| format!("cannot trust a certificate: {error}"))?;
                }
            }
            None => {
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
                if roots.is_empty() {
                    return Err("found no certificates on this system, expected some or \
                                OTEL_EXPORTER_OTLP_CERTIFICATE"
                        .into());
                }
            }
        }
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots);
        match &self.identity {
            None => Ok(builder.with_no_client_auth()),
            Some((chain, key)) => builder
                .with_client_auth_cert(Self::certificates(chain)?, Self::key(key)?)
                .map_err(|error| format!("cannot use the client certificate: {error}")),
        }
    }

    /// For gRPC: tonic builds its own configuration from the same files.
    pub(crate) fn tonic_config(&self) -> tonic::transport::ClientTlsConfig {
        use tonic::transport::{Certificate, ClientTlsConfig, Identity};

        let mut config = ClientTlsConfig::new();
        config = match &self.ca {
            Some(pem) => config.ca_certificate(Certificate::from_pem(pem)),
            None => config.with_native_roots(),
        };
        match &self.identity {
            Some((chain, key)) => config.identity(Identity::from_pem(chain, key)),
            None => config,
        }
    }
}
