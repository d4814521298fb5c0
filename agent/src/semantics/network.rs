//! What spans of every protocol say of the connection: its ends and its transport.

use std::{cell::RefCell, fmt::Write, net::IpAddr};

use opentelemetry_semantic_conventions::attribute as key;

use crate::{
    attribute::{AttributeOptions, AttributeSink},
    exchange::{Connection, Endpoint, Exchange, Role},
};

/// `server.address` without its text: formatting an address is left to who needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Address<'a> {
    Name(&'a str),
    Ip(IpAddr),
}

thread_local! {
    /// Where values are composed that are not one piece of the exchange: kept, so that spans cost no
    /// allocation each. A sink may not visit another span while it takes a value.
    static SCRATCH: RefCell<String> = const { RefCell::new(String::new()) };
}

pub(super) fn compose(sink: &mut impl AttributeSink, key: &str, write: impl FnOnce(&mut String)) {
    SCRATCH.with_borrow_mut(|scratch| {
        scratch.clear();
        write(scratch);
        if !scratch.is_empty() {
            sink.str(key, scratch);
        }
    });
}

fn address(sink: &mut impl AttributeSink, key: &str, address: Address<'_>) {
    match address {
        Address::Name(name) => sink.str(key, name),
        Address::Ip(ip) => compose(sink, key, |out| write_ip(out, ip)),
    }
}

/// An address as text. Written by hand for IPv4, which most are: `Display` takes ten times as long, and a span has up to
/// three.
fn write_ip(out: &mut String, ip: IpAddr) {
    let IpAddr::V4(ip) = ip else {
        let _ = write!(out, "{ip}"); // a String takes everything
        return;
    };
    for (at, octet) in ip.octets().into_iter().enumerate() {
        if at > 0 {
            out.push('.');
        }
        let digit = |value: u8| char::from(b'0' + value % 10);
        if octet > 99 {
            out.push(digit(octet / 100));
        }
        if octet > 9 {
            out.push(digit(octet / 10));
        }
        out.push(digit(octet));
    }
}

/// Address and port of an end of the connection, as far as they are known.
pub(super) fn endpoint(
    sink: &mut impl AttributeSink,
    end: &Endpoint,
    address_key: &str,
    port_key: Option<&str>,
) {
    match end {
        Endpoint::Unknown => {}
        Endpoint::Inet { addr, port } => {
            address(sink, address_key, Address::Ip(*addr));
            if let Some(port_key) = port_key {
                sink.int(port_key, i64::from(*port));
            }
        }
        Endpoint::Unix { path } => {
            if !path.is_empty() {
                sink.str(address_key, path);
            }
        }
    }
}

/// `server.address` and `server.port`.
pub(super) fn server(
    sink: &mut impl AttributeSink,
    (server, port): (Option<Address<'_>>, Option<u16>),
) {
    if let Some(server) = server {
        address(sink, key::SERVER_ADDRESS, server);
        if let Some(port) = port {
            sink.int(key::SERVER_PORT, i64::from(port));
        }
    }
}

/// The other end and this one, as far as they have names of their own. Of a Unix socket one path is
/// known, and it is the server's: clients do not bind theirs.
pub(super) fn peer_and_local(exchange: &Exchange) -> (&Endpoint, &Endpoint) {
    let Connection { local, remote, .. } = &*exchange.connection;
    match (remote, exchange.role) {
        (Endpoint::Unix { path }, role) if matches!(local, Endpoint::Unix { path: own } if own == path) => {
            match role {
                Role::Server => (&Endpoint::Unknown, local),
                Role::Client => (remote, &Endpoint::Unknown),
            }
        }
        _ => (remote, local),
    }
}

/// `network.peer.*`, `network.local.*` if asked for, and `network.transport`.
pub(super) fn ends(sink: &mut impl AttributeSink, exchange: &Exchange, options: AttributeOptions) {
    let (peer, local) = peer_and_local(exchange);
    let connection = &*exchange.connection;
    let peer_port = Some(key::NETWORK_PEER_PORT);
    endpoint(sink, peer, key::NETWORK_PEER_ADDRESS, peer_port);
    if options.network_local {
        let local_port = Some(key::NETWORK_LOCAL_PORT);
        endpoint(sink, local, key::NETWORK_LOCAL_ADDRESS, local_port);
    }
    match (&connection.local, &connection.remote) {
        (Endpoint::Unix { .. }, _) | (_, Endpoint::Unix { .. }) => {
            sink.str(key::NETWORK_TRANSPORT, "unix");
        }
        (Endpoint::Inet { .. }, _) | (_, Endpoint::Inet { .. }) => {
            sink.str(key::NETWORK_TRANSPORT, "tcp");
        }
        (Endpoint::Unknown, Endpoint::Unknown) => {}
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn addresses_are_written_as_display_writes_them(ip: IpAddr) {
            let mut text = String::new();
            write_ip(&mut text, ip);
            prop_assert_eq!(text, ip.to_string());
        }
    }
}
