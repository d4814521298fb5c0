//! The programs for functions of user space: what each is for.

/// A program for a function's entry, or for the return of any of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Probe {
    /// `(ssl, buf, num)`, the result counts bytes.
    SslRead,
    /// `(ssl, buf, num, *done)`.
    SslReadEx,
    SslWrite,
    SslWriteEx,
    /// `(ssl, buf, num, flags, *done)`.
    SslWriteEx2,
    SslDoHandshake,
    /// The return of all of the above.
    SslReturn,
    /// `crypto/tls.(*Conn).Read` and `Write` of Go, behind the check of the stack.
    GoTlsRead,
    GoTlsWrite,
    /// Each return of the former.
    GoTlsReadReturn,
    /// `encrypt` of rustls's encrypters of records: `(result, self, message, sequence number)`.
    RustlsEncrypt,
    RustlsEncryptReturn,
    /// `decrypt` of its decrypters, likewise.
    RustlsDecrypt,
    RustlsDecryptReturn,
    /// The same four of rustls 0.21 and 0.22.
    Rustls22Encrypt,
    Rustls22EncryptReturn,
    Rustls22Decrypt,
    Rustls22DecryptReturn,
    /// Where `runtime.newproc` of Go makes a goroutine runnable.
    GoStarts,
    /// `runtime.goexit0`
    GoEnds,
    /// `net/http.(*persistConn).roundTrip`
    GoRoundTrip,
    /// `(*serverConn).runHandler` of Go's `http2`.
    GoH2Handles,
    /// `(*clientStream).doRequest` of it.
    GoH2Asks,
    /// `(*http2Server).operateHeaders` of grpc-go.
    GoGrpcReads,
    /// Each return of the former.
    GoGrpcHasRead,
    /// `(*Server).handleStream` of grpc-go.
    GoGrpcHandles,
    /// `(*controlBuffer).executeAndPut` of grpc-go.
    GoGrpcPuts,
    /// `(*loopyWriter).headerHandler` of grpc-go.
    GoGrpcWrites,
    /// Where tokio starts a task, with the task as the second argument.
    TokioStarts,
    /// `Schedule::release` of a scheduler of tokio, with the task as the second argument.
    TokioEnds,
    /// `tokio::runtime::task::raw::drop_join_handle_slow`
    TokioJoins,
    /// Where a request is put into the channel of a connection of hyper's client, with the sender's end as the first argument.
    HyperAsks,
    /// Where the connection looks for one: `(result, receiver)`.
    HyperTakes,
    /// Never attached: programs that move plaintext jump there for more of a call.
    TlsMore,
}

impl Probe {
    /// All of them; returns first, so that no entry is remembered whose return is missed.
    pub(super) const ALL: [Self; 34] = [
        Self::TlsMore,
        Self::SslReturn,
        Self::SslRead,
        Self::SslReadEx,
        Self::SslWrite,
        Self::SslWriteEx,
        Self::SslWriteEx2,
        Self::SslDoHandshake,
        Self::GoTlsReadReturn,
        Self::GoTlsRead,
        Self::GoTlsWrite,
        Self::RustlsEncryptReturn,
        Self::RustlsDecryptReturn,
        Self::RustlsEncrypt,
        Self::RustlsDecrypt,
        Self::Rustls22EncryptReturn,
        Self::Rustls22DecryptReturn,
        Self::Rustls22Encrypt,
        Self::Rustls22Decrypt,
        Self::GoEnds,
        Self::GoStarts,
        Self::GoRoundTrip,
        Self::GoGrpcHasRead,
        Self::GoGrpcReads,
        Self::GoGrpcHandles,
        Self::GoGrpcWrites,
        Self::GoGrpcPuts,
        Self::GoH2Handles,
        Self::GoH2Asks,
        Self::TokioEnds,
        Self::TokioJoins,
        Self::TokioStarts,
        Self::HyperTakes,
        Self::HyperAsks,
    ];

    /// Whether it is loaded in any case: most machines have what OpenSSL is used by, and many a program that
    /// uses it lives shortly.
    pub(super) const fn is_loaded_at_start(self) -> bool {
        !matches!(
            self,
            Self::GoTlsReadReturn
                | Self::GoTlsRead
                | Self::GoTlsWrite
                | Self::GoStarts
                | Self::GoEnds
                | Self::GoRoundTrip
                | Self::GoH2Handles
                | Self::GoH2Asks
                | Self::GoGrpcReads
                | Self::GoGrpcHasRead
                | Self::GoGrpcHandles
                | Self::GoGrpcPuts
                | Self::GoGrpcWrites
                | Self::RustlsEncrypt
                | Self::RustlsEncryptReturn
                | Self::RustlsDecrypt
                | Self::RustlsDecryptReturn
                | Self::Rustls22Encrypt
                | Self::Rustls22EncryptReturn
                | Self::Rustls22Decrypt
                | Self::Rustls22DecryptReturn
                | Self::TokioStarts
                | Self::TokioEnds
                | Self::TokioJoins
                | Self::HyperAsks
                | Self::HyperTakes
        )
    }

    /// The program's name in the object.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::SslRead => "ssl_read",
            Self::SslReadEx => "ssl_read_ex",
            Self::SslWrite => "ssl_write",
            Self::SslWriteEx => "ssl_write_ex",
            Self::SslWriteEx2 => "ssl_write_ex2",
            Self::SslDoHandshake => "ssl_do_handshake",
            Self::SslReturn => "ssl_return",
            Self::GoTlsRead => "go_tls_read",
            Self::GoTlsWrite => "go_tls_write",
            Self::GoTlsReadReturn => "go_tls_read_return",
            Self::RustlsEncrypt => "rustls_encrypt",
            Self::RustlsEncryptReturn => "rustls_encrypt_return",
            Self::RustlsDecrypt => "rustls_decrypt",
            Self::RustlsDecryptReturn => "rustls_decrypt_return",
            Self::Rustls22Encrypt => "rustls_encrypt_0_22",
            Self::Rustls22EncryptReturn => "rustls_encrypt_return_0_22",
            Self::Rustls22Decrypt => "rustls_decrypt_0_22",
            Self::Rustls22DecryptReturn => "rustls_decrypt_return_0_22",
            Self::GoStarts => "go_starts",
            Self::GoEnds => "go_ends",
            Self::GoRoundTrip => "go_round_trip",
            Self::GoH2Handles => "go_h2_handles",
            Self::GoH2Asks => "go_h2_asks",
            Self::GoGrpcReads => "go_grpc_reads",
            Self::GoGrpcHasRead => "go_grpc_has_read",
            Self::GoGrpcHandles => "go_grpc_handles",
            Self::GoGrpcPuts => "go_grpc_puts",
            Self::GoGrpcWrites => "go_grpc_writes",
            Self::TokioStarts => "tokio_starts",
            Self::TokioEnds => "tokio_ends",
            Self::TokioJoins => "tokio_joins",
            Self::HyperAsks => "hyper_asks",
            Self::HyperTakes => "hyper_takes",
            Self::TlsMore => "tls_more",
        }
    }

    pub(super) const fn at_return(self) -> bool {
        matches!(
            self,
            Self::SslReturn
                | Self::RustlsEncryptReturn
                | Self::RustlsDecryptReturn
                | Self::Rustls22EncryptReturn
                | Self::Rustls22DecryptReturn
        )
    }
}
