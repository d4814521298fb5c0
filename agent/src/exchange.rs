//! What the stages after reassembly speak of: an [`Exchange`] is one request with its response, seen
//! from one end of one connection. Nothing here knows where the bytes came from or how they are
//! exported.

use std::{
    borrow::Cow,
    fmt::{self, Display},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use remora_common::record::Source;

use crate::{
    accounting::Lost,
    trace_context::{TraceContext, TraceParent, TraceState},
};

/// Which end of the exchange the traced process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// It received the request.
    Server,
    /// It sent the request.
    Client,
}

/// One end of a connection.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Endpoint {
    /// Not known (the socket was gone before it could be asked).
    #[default]
    Unknown,
    /// TCP. IPv4-mapped IPv6 addresses are given as IPv4.
    Inet { addr: IpAddr, port: u16 },
    /// A Unix socket's path; empty if unnamed, abstract names begin with `@`.
    Unix { path: Box<str> },
}

/// `127.0.0.1:8081`, `[::1]:8081`, `/run/app.sock`; nothing of what is unknown.
impl Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => Ok(()),
            Self::Inet { addr, port } => SocketAddr::new(*addr, *port).fmt(f),
            Self::Unix { path } => f.write_str(path),
        }
    }
}

/// What is known of a connection for all of its exchanges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// Unique for the agent's life.
    pub id: u64,
    /// The process whose end of the connection this is (by the agent's pid namespace).
    pub tgid: u32,
    pub local: Endpoint,
    pub remote: Endpoint,
    /// Where plaintext was seen; anything but [`Source::Socket`] means TLS.
    pub source: Source,
    /// Network namespace inode, 0 if unknown.
    pub netns: u32,
    /// The connection was open before it was watched.
    pub joined: bool,
}

impl Connection {
    /// The client's address, then the server's; the process is the one of `role`. `None`: not over the Internet protocol.
    #[must_use]
    pub fn addresses(&self, role: Role) -> Option<(SocketAddr, SocketAddr)> {
        let address = |end: &Endpoint| match end {
            Endpoint::Inet { addr, port } => Some(SocketAddr::new(*addr, *port)),
            Endpoint::Unix { .. } | Endpoint::Unknown => None,
        };
        let (local, remote) = (address(&self.local)?, address(&self.remote)?);
        Some(match role {
            Role::Client => (local, remote),
            Role::Server => (remote, local),
        })
    }

    /// Whether the bytes on the wire are encrypted.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.source != Source::Socket
    }
}

/// Why an exchange is not a complete request with a complete response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Failure {
    /// The connection ended, orderly, before the response was complete.
    Closed,
    /// The connection was reset (`ECONNRESET`, `EPIPE`).
    Reset,
    /// The transport gave up (`ETIMEDOUT`).
    TimedOut,
    /// Another error of the transport.
    Errno(i32),
    /// One side has given the exchange up, and the connection goes on: a reset of an HTTP/2 stream with this code
    /// (RFC 9113, section 7), or a `GOAWAY` before the request was looked at.
    StreamReset(u32),
}

/// What is not known for certain about an exchange; each mark becomes a `remora.*` attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Marks {
    /// The connection was joined in mid-stream.
    pub joined: bool,
    /// The request's head was not captured to its end.
    pub request_head_cut: bool,
    /// The response's head was not captured to its end.
    pub response_head_cut: bool,
    /// Where the content ended was inferred from what followed (or from time), not from its framing.
    pub end_inferred: bool,
    /// The request's content was counted with framing that was not captured.
    pub request_size_estimated: bool,
    /// The response's content was counted with framing that was not captured.
    pub response_size_estimated: bool,
    /// The response was over, or the connection, before the request's content was.
    pub request_content_incomplete: bool,
    /// Records of this connection were lost during the exchange.
    pub gap: bool,
    /// Fields refer to others that came before the connection was watched, or that were lost (RFC 7541).
    pub request_fields_unknown: bool,
    pub response_fields_unknown: bool,
}

impl Marks {
    /// Whether the size of the request's content is exact, and that of all of it.
    #[must_use]
    pub const fn knows_request_size(&self) -> bool {
        !self.request_head_cut && !self.request_size_estimated && !self.request_content_incomplete
    }

    /// Whether the size of the response's content is exact.
    #[must_use]
    pub const fn knows_response_size(&self) -> bool {
        !self.response_head_cut && !self.response_size_estimated
    }
}

/// One request and its response.
#[derive(Clone, Debug, PartialEq)]
pub struct Exchange {
    pub connection: Arc<Connection>,
    pub role: Role,
    /// Thread that moved the request's first byte, and the execution context it was in (0: none known).
    pub tid: u32,
    pub context: u64,
    /// Thread that moved the response's last byte, 0 if unknown: another one than `tid` shows that the
    /// process hands requests over between threads.
    pub response_tid: u32,
    /// Thread that moved the response's first byte, 0 if unknown.
    pub answer_tid: u32,
    /// First byte of the request.
    pub start_mono_ns: u64,
    /// First byte of the response; 0 without a response.
    pub first_byte_mono_ns: u64,
    /// Last byte of the response, or when the exchange failed.
    pub end_mono_ns: u64,
    /// Identifies this exchange among those announced to [`crate::correlate`]: unique per agent life.
    pub serial: u64,
    pub failure: Option<Failure>,
    pub marks: Marks,
    /// What the request carried.
    pub trace: TraceContext,
    pub detail: Detail,
}

/// A protocol whose exchanges are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    Http,
    Grpc,
    Redis,
    Postgres,
}

/// What the protocol says; one variant per protocol.
#[derive(Clone, Debug, PartialEq)]
pub enum Detail {
    /// Of any version.
    Http(Box<HttpExchange>),
    Grpc(Box<RpcExchange>),
    Redis(Box<DbExchange>),
    Postgres(Box<DbExchange>),
}

impl Detail {
    #[must_use]
    pub const fn protocol(&self) -> Protocol {
        match self {
            Self::Http(_) => Protocol::Http,
            Self::Grpc(_) => Protocol::Grpc,
            Self::Redis(_) => Protocol::Redis,
            Self::Postgres(_) => Protocol::Postgres,
        }
    }

    /// For what only HTTP has. What a span of any protocol says, [`crate::semantics`] answers.
    #[must_use]
    pub const fn http(&self) -> Option<&HttpExchange> {
        match self {
            Self::Http(http) => Some(http),
            Self::Grpc(_) | Self::Redis(_) | Self::Postgres(_) => None,
        }
    }

    /// As [`Self::http`].
    pub const fn http_mut(&mut self) -> Option<&mut HttpExchange> {
        match self {
            Self::Http(http) => Some(http),
            Self::Grpc(_) | Self::Redis(_) | Self::Postgres(_) => None,
        }
    }

    /// Header fields of request and response that were asked for, of protocols that have them.
    pub const fn headers_mut(
        &mut self,
    ) -> Option<(&mut Vec<HeaderValues>, &mut Vec<HeaderValues>)> {
        let http = match self {
            Self::Http(http) => http,
            Self::Grpc(rpc) => &mut rpc.http,
            Self::Redis(_) | Self::Postgres(_) => return None,
        };
        Some((&mut http.request_headers, &mut http.response_headers))
    }

    /// For what only databases have.
    #[must_use]
    pub const fn db(&self) -> Option<&DbExchange> {
        match self {
            Self::Redis(db) | Self::Postgres(db) => Some(db),
            Self::Http(_) | Self::Grpc(_) => None,
        }
    }
}

/// An HTTP exchange (RFC 9110).
#[derive(Clone, Debug, PartialEq, Default)]
pub struct HttpExchange {
    /// As on the wire; empty if it is not known.
    pub method: Box<str>,
    /// Request target as on the wire (RFC 9112 section 3.2; RFC 9113 section 8.3.1), lossy UTF-8; empty if it is not
    /// known.
    pub target: Box<str>,
    /// `(1, 1)` for HTTP/1.1.
    pub version: (u8, u8),
    /// The `Host` field, or `:authority`.
    pub host: Option<Box<str>>,
    pub user_agent: Option<Box<str>>,
    /// First address of `Forwarded` (`for=`), else of `X-Forwarded-For`.
    pub forwarded_for: Option<Box<str>>,
    /// `proto=` of `Forwarded`, else `X-Forwarded-Proto`.
    pub forwarded_proto: Option<Box<str>>,
    /// Status of the final response; 0 without one.
    pub status: u16,
    /// Content bytes that were moved (after transfer coding for captured framing, else as framed).
    pub request_content_len: u64,
    pub response_content_len: u64,
    /// Bytes of the heads.
    pub request_head_len: u32,
    pub response_head_len: u32,
    /// The connection became something else (101, CONNECT).
    pub upgraded: bool,
    /// Fields that were asked for, credentials hidden.
    pub request_headers: Vec<HeaderValues>,
    pub response_headers: Vec<HeaderValues>,
}

/// A call of gRPC: an HTTP/2 exchange whose trailers say how it ended.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct RpcExchange {
    pub http: HttpExchange,
    /// `grpc-status`, if it came.
    pub status: Option<u32>,
}

/// One operation on a database, in the terms of the database conventions. Texts are what spans show:
/// whoever makes them has left out values and credentials.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct DbExchange {
    /// `db.operation.name`: `GET`, `SELECT`; of a batch `PIPELINE GET`, `MULTI SET`; empty if unknown.
    /// Names from a table of commands are borrowed, so that most operations cost no allocation.
    pub operation: Cow<'static, str>,
    /// `db.collection.name`, where the protocol itself says it.
    pub collection: Option<Box<str>>,
    /// `db.namespace`; shared by the exchanges of a connection.
    pub namespace: Option<Arc<str>>,
    /// `db.query.text`, literals already `?`.
    pub query_text: Option<Box<str>>,
    /// `db.query.summary`.
    pub summary: Option<Box<str>>,
    /// `db.stored_procedure.name`.
    pub stored_procedure: Option<Box<str>>,
    /// `db.operation.batch.size`; 0 and 1 are no batch.
    pub batch_size: u32,
    /// `db.response.status_code`: an SQLSTATE, or the first word of a Redis error.
    pub status_code: Option<Box<str>>,
    /// The status is an error (a warning of PostgreSQL is not).
    pub failed: bool,
    /// `db.response.returned_rows`.
    pub returned_rows: Option<u64>,
    /// The query is unknown: the statement was prepared before the agent came.
    pub text_unknown: bool,
    /// The query was longer than what is kept of it.
    pub text_cut: bool,
}

/// All values of one header field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderValues {
    /// The attribute: `http.request.header.x-tenant`.
    pub key: Arc<str>,
    pub values: Vec<Box<str>>,
}

/// Which request of which connection, as both ends of it would say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct At {
    pub client: SocketAddr,
    pub server: SocketAddr,
    /// The network namespace of addresses that mean nothing outside of it: those of the loopback device. 0 of others.
    pub netns: u32,
    /// Bytes that were moved before the request's first one, from the connection's beginning on; of HTTP/2 the number of the
    /// request's stream.
    pub request: u64,
}

impl At {
    /// `None`: there is nothing to tell the other end by.
    #[must_use]
    pub fn of(connection: &Connection, role: Role, request: u64) -> Option<Self> {
        let (client, server) = connection.addresses(role)?;
        let is_local = server.ip().is_loopback();
        let netns = if is_local { connection.netns } else { 0 };
        // Without the beginning nobody knows how far the connection is, and such an address means nothing by itself.
        let is_known = !connection.joined && (netns != 0 || !is_local);
        is_known.then_some(Self { client, server, netns, request })
    }
}

/// A request's head is complete; its response is not. Announced before [`Exchange`] so that requests
/// made while it is open can become its children.
#[derive(Clone, Debug, PartialEq)]
pub struct Started {
    /// The same number comes again in [`Exchange::serial`] or [`Sink::lost`], exactly once.
    pub serial: u64,
    pub role: Role,
    pub tgid: u32,
    /// What both ends call the request, if that is known.
    pub at: Option<At>,
    /// Network namespace inode, 0 if unknown.
    pub netns: u32,
    /// Thread and execution context that moved the request's first byte.
    pub tid: u32,
    pub context: u64,
    pub start_mono_ns: u64,
    /// What the request carried.
    pub trace_parent: Option<TraceParent>,
    pub trace_state: TraceState,
}

/// Takes what reassembly yields, in the order in which it became known.
pub trait Sink {
    /// A process that is watched has opened a connection.
    fn opened(&mut self, _client: SocketAddr, _server: SocketAddr) {}
    /// The SERVER exchange is handled in another execution context ([`remora_common::context`]) than the one that has read its request.
    fn handled(&mut self, _serial: u64, _context: u64) {}
    /// This thread of a process has begun to answer a request that was not seen.
    fn answered_unseen(&mut self, _tgid: u32, _tid: u32, _mono_ns: u64) {}
    /// A request head was read.
    fn started(&mut self, started: &Started);
    /// The response of an exchange that was announced is over, and the process done with it as far as anybody can
    /// tell. More of the request's content may come; [`Self::finished`] follows.
    fn answered(&mut self, serial: u64);
    /// An exchange ended, well or not.
    fn finished(&mut self, exchange: Exchange);
    /// An exchange will not become a span. `serial` is 0 if it was never announced.
    fn lost(&mut self, serial: u64, reason: Lost);
    /// The connection should be captured otherwise from now on ([`remora_common::policy`]). Advice:
    /// the kernel side may miss it.
    fn capture(&mut self, conn_id: u64, policy: u8);
}
