//! Whom an HTTP request was for, by what it says itself, what proxies tell and what the connection is.

use std::fmt::Write;

use super::super::{
    authority::Authority,
    network::Address,
    redact::{redact_path, redact_query},
    target::{Form, Target},
};
use crate::exchange::{Connection, Endpoint, Exchange, HttpExchange, Role};

/// Scheme, server and their sources: what both spans and metrics say about whom a request was for.
#[derive(Clone, Copy, Debug)]
pub(in crate::semantics) struct Addressed<'a> {
    pub(super) target: Target<'a>,
    /// SERVER: of the original request, as proxies tell; CLIENT: of this one.
    pub(super) scheme: &'static str,
    /// From an absolute-form or authority-form target, else from `Host`.
    authority: Option<Authority<'a>>,
    connection_end: &'a Endpoint,
}

/// The scheme of the original request, as proxies tell, without looking at anything else.
pub(super) fn server_scheme(exchange: &Exchange, http: &HttpExchange) -> &'static str {
    scheme(&exchange.connection, http.forwarded_proto.as_deref())
}

/// The scheme that is said, else what the connection is.
fn scheme(connection: &Connection, said: Option<&str>) -> &'static str {
    let named = |text: &str| {
        // Anybody can send these fields: only names of a closed set become attributes.
        let first = text.split(',').next().unwrap_or_default().trim_matches([' ', '"']);
        ["http", "https", "ws", "wss"].into_iter().find(|s| s.eq_ignore_ascii_case(first))
    };
    let wire = if connection.is_tls() { "https" } else { "http" };
    said.and_then(named).unwrap_or(wire)
}

impl<'a> Addressed<'a> {
    /// Looks at the target, `Host`, the forwarding fields and the connection of an exchange.
    pub(in crate::semantics) fn of(exchange: &'a Exchange, http: &'a HttpExchange) -> Self {
        let target = Target::parse(&http.method, &http.target);
        let connection = &*exchange.connection;
        let (scheme, connection_end) = match exchange.role {
            Role::Server => (server_scheme(exchange, http), &connection.local),
            Role::Client => (scheme(connection, target.scheme), &connection.remote),
        };
        let host = target.authority.or(http.host.as_deref());
        Self { target, scheme, authority: host.and_then(Authority::parse), connection_end }
    }

    /// `server.address` and `server.port`. A name without a port means the default port of the scheme,
    /// except on a Unix socket, where there is none.
    pub(in crate::semantics) fn server(&self) -> (Option<Address<'a>>, Option<u16>) {
        if let Some(authority) = self.authority {
            let port = match self.connection_end {
                Endpoint::Unix { .. } => authority.port,
                _ => authority.port.or(Some(self.default_port())),
            };
            return (Some(Address::Name(authority.host)), port);
        }
        match self.connection_end {
            Endpoint::Inet { addr, port } => (Some(Address::Ip(*addr)), Some(*port)),
            Endpoint::Unix { path } if !path.is_empty() => (Some(Address::Name(path)), None),
            _ => (None, None),
        }
    }

    fn default_port(&self) -> u16 {
        if matches!(self.scheme, "https" | "wss") { 443 } else { 80 }
    }

    /// Writes `url.full` with credentials hidden; a reference relative to an unknown host if there is
    /// neither `Host` nor an address.
    pub(super) fn write_url(&self, out: &mut String) {
        let host = |out: &mut String, scheme: bool| {
            let written = match (self.authority, self.connection_end) {
                (Some(authority), _) => {
                    if scheme {
                        out.push_str(self.scheme);
                        out.push(':');
                    }
                    out.push_str("//");
                    if authority.userinfo {
                        out.push_str("REDACTED:REDACTED@");
                    }
                    let (open, close) = if authority.is_ipv6() { ("[", "]") } else { ("", "") };
                    write!(out, "{open}{}{close}", authority.host).and_then(|()| {
                        match authority.port {
                            Some(port) => write!(out, ":{port}"),
                            None => Ok(()),
                        }
                    })
                }
                (None, Endpoint::Inet { addr, port }) => {
                    let addr = std::net::SocketAddr::new(*addr, *port);
                    write!(out, "{}://{addr}", self.scheme)
                }
                _ => Ok(()),
            };
            debug_assert!(written.is_ok(), "writing to a String does not fail");
        };
        match self.target.form {
            // A tunnel is made to a host: what it will carry is not known, so there is no scheme.
            Form::Authority => host(out, false),
            Form::Asterisk => host(out, true),
            Form::Origin | Form::Absolute | Form::Other => {
                host(out, true);
                if self.target.form == Form::Other {
                    out.push('/');
                }
                out.push_str(&redact_path(self.target.path));
                if let Some(query) = self.target.query {
                    out.push('?');
                    out.push_str(&redact_query(query));
                }
            }
        }
    }
}
