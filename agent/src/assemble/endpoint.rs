//! What an [`Open`] record says of a connection's two ends.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use remora_common::record::{Open, Source, family};

use crate::exchange::{Connection, Endpoint};

/// The connection that `open` announces.
pub(super) fn describe(open: &Open, source: Source, joined: bool) -> Connection {
    let (local, remote) = match open.family {
        family::UNIX => {
            let path = unix_path(open);
            (Endpoint::Unix { path: path.clone() }, Endpoint::Unix { path })
        }
        _ => (
            inet(open.family, &open.local_addr, open.local_port),
            inet(open.family, &open.remote_addr, open.remote_port),
        ),
    };
    Connection {
        id: open.conn_id,
        tgid: open.tgid,
        local,
        remote,
        source,
        netns: open.netns,
        joined,
    }
}

fn inet(family: u16, addr: &[u8; 16], port: u16) -> Endpoint {
    let addr = match family {
        family::INET => IpAddr::V4(Ipv4Addr::new(addr[0], addr[1], addr[2], addr[3])),
        family::INET6 => Ipv6Addr::from(*addr).to_canonical(),
        _ => return Endpoint::Unknown,
    };
    // Addresses that could not be read are all zero, as is an unbound socket's.
    if addr.is_unspecified() && port == 0 {
        Endpoint::Unknown
    } else {
        Endpoint::Inet { addr, port }
    }
}

/// The path either end is bound to; the record does not say which one.
fn unix_path(open: &Open) -> Box<str> {
    let len = usize::from(open.unix_path_len).min(open.unix_path.len());
    match &open.unix_path[..len] {
        [0, name @ ..] => format!("@{}", String::from_utf8_lossy(name)).into_boxed_str(),
        path => {
            let end = memchr::memchr(0, path).unwrap_or(path.len());
            String::from_utf8_lossy(&path[..end]).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use zerocopy::FromZeros;

    use super::*;

    fn open(family: u16) -> Open {
        let mut open = Open::new_zeroed();
        open.family = family;
        (open.local_port, open.remote_port) = (80, 40_000);
        open
    }

    #[test]
    fn mapped_addresses_are_ipv4() {
        let mut open = open(family::INET6);
        open.local_addr = Ipv4Addr::LOCALHOST.to_ipv6_mapped().octets();
        let info = describe(&open, Source::Socket, false);
        let addr = IpAddr::V4(Ipv4Addr::LOCALHOST);
        assert_eq!(info.local, Endpoint::Inet { addr, port: 80 });
    }

    #[test]
    fn abstract_unix_names_begin_with_at() {
        let mut open = open(family::UNIX);
        open.unix_path[..5].copy_from_slice(b"\0bus\0");
        open.unix_path_len = 4;
        let info = describe(&open, Source::Socket, false);
        assert_eq!(info.local, Endpoint::Unix { path: "@bus".into() });
        open.unix_path_len = u16::MAX;
        describe(&open, Source::Socket, false);
    }
}
