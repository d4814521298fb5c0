//! Which addresses a socket has, by its inode, in one process's network namespace: for connections
//! that were open before the process was watched, and for the ports a process listens on.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
};

use procfs::{
    ProcResult,
    net::{TcpState, UnixState},
    process::Process,
};

use crate::exchange::Endpoint;

/// State of a socket, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketState {
    Listening,
    Connected,
    /// Opening, closing or unbound.
    Other,
}

/// One TCP or Unix stream socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketEntry {
    pub local: Endpoint,
    /// [`Endpoint::Unknown`] for Unix sockets: the tables do not name their peer.
    pub remote: Endpoint,
    pub state: SocketState,
}

/// The sockets of one network namespace at one moment, by inode.
#[derive(Clone, Debug, Default)]
pub struct SocketTable(HashMap<u64, SocketEntry>);

impl SocketTable {
    /// TCP (v4, v6) and Unix sockets in the network namespace of the *selected* process `tgid`.
    ///
    /// # Errors
    /// The process is gone or its tables may not be read. A family the kernel lacks is absent.
    pub fn of_process(tgid: u32) -> ProcResult<Self> {
        let process = Process::new(pid(tgid))?;
        let mut table = Self::tcp(&process)?;
        for unix in process.unix().unwrap_or_default() {
            let path = unix.path.map_or(Box::from(""), |path| path.to_string_lossy().into());
            let state = match unix.state {
                UnixState::CONNECTED => SocketState::Connected,
                _ => SocketState::Other,
            };
            let entry =
                SocketEntry { local: Endpoint::Unix { path }, remote: Endpoint::Unknown, state };
            table.0.insert(unix.inode, entry);
        }
        Ok(table)
    }

    pub(super) fn tcp(process: &Process) -> ProcResult<Self> {
        let v4 = process.tcp()?;
        let v6 = process.tcp6().unwrap_or_default(); // absent with ipv6.disable=1
        let entries = v4.into_iter().chain(v6).filter(|entry| entry.inode != 0).map(|entry| {
            let state = match entry.state {
                TcpState::Listen => SocketState::Listening,
                TcpState::Established => SocketState::Connected,
                _ => SocketState::Other,
            };
            let found = SocketEntry {
                local: endpoint(entry.local_address),
                remote: endpoint(entry.remote_address),
                state,
            };
            (entry.inode, found)
        });
        Ok(Self(entries.collect()))
    }

    /// The socket with this inode (`socket:[N]` in `/proc/PID/fd`).
    #[must_use]
    pub fn find(&self, inode: u64) -> Option<&SocketEntry> {
        self.0.get(&inode)
    }

    /// The TCP port this socket listens on.
    pub(super) fn listening_port(&self, inode: u64) -> Option<u16> {
        match self.find(inode)? {
            SocketEntry {
                local: Endpoint::Inet { port, .. },
                state: SocketState::Listening,
                ..
            } => Some(*port),
            _ => None,
        }
    }

    /// Whether the process that owns `local` is the one that accepted: somebody listens on its port.
    #[must_use]
    pub fn is_accepted(&self, entry: &SocketEntry) -> bool {
        let Endpoint::Inet { addr, port } = entry.local else { return false };
        self.0.values().any(|other| {
            other.state == SocketState::Listening
                && matches!(other.local, Endpoint::Inet { addr: bound, port: listening }
                    if listening == port && (bound == addr || bound.is_unspecified()))
        })
    }
}

fn endpoint(address: SocketAddr) -> Endpoint {
    let addr = match address.ip() {
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(IpAddr::V6(v6), IpAddr::V4),
        v4 => v4,
    };
    Endpoint::Inet { addr, port: address.port() }
}

/// Linux process ids fit in an `i32` (`PID_MAX_LIMIT` is 2²²); anything else names no process.
pub(crate) fn pid(tgid: u32) -> i32 {
    i32::try_from(tgid).unwrap_or(-1)
}

#[cfg(test)]
mod tests {
    use std::{
        net::{TcpListener, TcpStream},
        os::unix::net::UnixListener,
    };

    use super::*;

    fn inode(socket: &impl std::os::fd::AsRawFd) -> u64 {
        let link = format!("/proc/self/fd/{}", socket.as_raw_fd());
        let link = std::fs::read_link(link).unwrap();
        let text = link.to_str().unwrap();
        text.trim_start_matches("socket:[").trim_end_matches(']').parse().unwrap()
    }

    #[test]
    fn finds_both_ends_of_a_connection_and_who_accepted_it() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(address) else {
                eprintln!("skipped for {address}: this host cannot bind it");
                continue;
            };
            let at = listener.local_addr().unwrap();
            let client = TcpStream::connect(at).unwrap();
            let (server, peer) = listener.accept().unwrap();
            let table = SocketTable::of_process(std::process::id()).unwrap();

            assert_eq!(table.listening_port(inode(&listener)), Some(at.port()));
            let accepted = table.find(inode(&server)).unwrap();
            assert_eq!((&accepted.local, &accepted.remote), (&endpoint(at), &endpoint(peer)));
            assert_eq!(accepted.state, SocketState::Connected);
            assert!(table.is_accepted(accepted));
            let opened = table.find(inode(&client)).unwrap();
            assert_eq!((&opened.local, &opened.remote), (&endpoint(peer), &endpoint(at)));
            assert!(!table.is_accepted(opened));
        }
    }

    #[test]
    fn finds_unix_sockets_by_path() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let listener = UnixListener::bind(&path).unwrap();
        let table = SocketTable::of_process(std::process::id()).unwrap();
        let expected = Endpoint::Unix { path: path.to_str().unwrap().into() };
        assert_eq!(table.find(inode(&listener)).unwrap().local, expected);
    }

    #[test]
    fn mapped_addresses_are_given_as_v4() {
        let mapped: SocketAddr = "[::ffff:10.0.0.1]:80".parse().unwrap();
        assert_eq!(endpoint(mapped), endpoint("10.0.0.1:80".parse().unwrap()));
    }

    #[test]
    fn a_process_that_is_gone_is_an_error() {
        assert!(SocketTable::of_process(u32::MAX).is_err());
    }
}
