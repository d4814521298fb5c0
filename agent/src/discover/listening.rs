//! Which TCP ports a process listens on: the sockets it holds, looked up among the listening ones of its
//! network namespace. Done for unselected processes only if a selector asks for ports.

use std::collections::{HashMap, hash_map::Entry};

use procfs::process::{FDTarget, Process};

use super::sockets::SocketTable;

/// TCP tables by network namespace, read once per scan and only where a socket is held at all.
#[derive(Default)]
pub(super) struct Listening(HashMap<u64, SocketTable>);

impl Listening {
    /// The ports `process` listens on; empty if that cannot be found out.
    pub(super) fn ports(&mut self, process: &Process) -> Vec<u16> {
        let Ok(descriptors) = process.fd() else { return Vec::new() };
        let sockets: Vec<u64> = descriptors
            .flatten()
            .filter_map(|descriptor| match descriptor.target {
                FDTarget::Socket(inode) => Some(inode),
                _ => None,
            })
            .collect();
        if sockets.is_empty() {
            return Vec::new();
        }
        let Some(table) = self.table(process) else { return Vec::new() };
        let mut ports: Vec<u16> =
            sockets.into_iter().filter_map(|inode| table.listening_port(inode)).collect();
        ports.sort_unstable();
        ports.dedup();
        ports
    }

    fn table(&mut self, process: &Process) -> Option<&SocketTable> {
        let namespace = network_namespace(process)?;
        match self.0.entry(namespace) {
            Entry::Occupied(table) => Some(table.into_mut()),
            Entry::Vacant(slot) => Some(slot.insert(SocketTable::tcp(process).ok()?)),
        }
    }
}

/// Inode of the process's network namespace, by its link: `net:[4026531840]`. This is read by path,
/// so it could be another process's after all: then its table is searched for inodes that it does
/// not hold, for they are unique across namespaces.
fn network_namespace(process: &Process) -> Option<u64> {
    let link = std::fs::read_link(format!("/proc/{}/ns/net", process.pid())).ok()?;
    link.to_str()?.strip_prefix("net:[")?.strip_suffix(']')?.parse().ok()
}
