//! What to attach to a file with a TLS library in it.

use crate::bpf::Probe;

/// A library whose plaintext is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Library {
    OpenSsl,
    BoringSsl,
    GnuTls,
    GoCryptoTls,
    Rustls,
}

impl Library {
    /// Name in logs and reports.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OpenSsl => "OpenSSL",
            Self::BoringSsl => "BoringSSL",
            Self::GnuTls => "GnuTLS",
            Self::GoCryptoTls => "Go crypto/tls",
            Self::Rustls => "rustls",
        }
    }
}

/// Which functions are probed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// The library's own functions; of OpenSSL those behind the exports.
    Internal,
    /// The exports.
    Exports,
}

/// What to attach to a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub library: Library,
    /// Newest symbol version that OpenSSL defines in the file, as `3.2.0` or `1.1.1`; the version of rustls, as
    /// `0.23.46`; empty if the file has none.
    pub version: String,
    pub via: Via,
    /// Programs and file offsets.
    pub points: Vec<(Probe, u64)>,
}
