//! A certificate authority of one test, and what it vouches for.

use std::{
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    SanType,
};
use tempfile::TempDir;

/// PEM files.
pub struct Files {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: TempDir,
}

impl Authority {
    /// # Panics
    /// If there is no folder for it.
    #[must_use]
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("a certificate");
        let folder = TempDir::new().expect("a folder");
        fs::write(folder.path().join("ca.pem"), issuer.pem()).expect("a file");
        Self { issuer, folder }
    }

    /// The authority's own certificate.
    #[must_use]
    pub fn certificate(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// Of a server at `ip`.
    #[must_use]
    pub fn server(&self, ip: IpAddr) -> Files {
        self.sign(
            &format!("server-{ip}"),
            ExtendedKeyUsagePurpose::ServerAuth,
            vec![SanType::IpAddress(ip)],
        )
    }

    /// Of a client.
    #[must_use]
    pub fn client(&self) -> Files {
        let name = "client".try_into().expect("ASCII");
        self.sign("client", ExtendedKeyUsagePurpose::ClientAuth, vec![SanType::DnsName(name)])
    }

    fn sign(&self, name: &str, purpose: ExtendedKeyUsagePurpose, names: Vec<SanType>) -> Files {
        let mut params = CertificateParams::default();
        params.extended_key_usages = vec![purpose];
        params.subject_alt_names = names;
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        let file = |suffix: &str, text: &str| write(self.folder.path(), name, suffix, text);
        Files {
            certificate: file("pem", &certificate.pem()),
            key: file("key", &key.serialize_pem()),
        }
    }
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

fn write(folder: &Path, name: &str, suffix: &str, text: &str) -> PathBuf {
    let path = folder.join(format!("{name}.{suffix}"));
    fs::write(&path, text).expect("a file");
    path
}
