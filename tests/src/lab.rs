//! The kernel programs by themselves, with this process as their target: what they record, before anything
//! is made of it.

use std::{
    io::Read,
    net::{TcpListener, TcpStream},
    sync::{Mutex, MutexGuard, PoisonError},
};

use remora::{
    bpf::{Door, Options, Programs, Reader, Targets, Verdicts, try_doors},
    decode::Record,
};
use remora_common::{
    counter::Counter,
    record::{CloseCause, Direction, ProcessChange, Role, open_flag},
    target,
};

use crate::{process::start_ticks, skip};

/// One at a time: all tests of a program are one process, and that is the target.
static ALONE: Mutex<()> = Mutex::new(());

/// A [`remora_common::record::Data`] with its content.
#[derive(Debug)]
pub struct Fragment {
    pub conn_id: u64,
    pub direction: Direction,
    pub pos: u64,
    pub total_len: u64,
    pub policy: u8,
    pub flags: u32,
    pub head: Vec<u8>,
    pub tail: [u8; 8],
}

/// What was recorded, in order.
#[derive(Debug, Default)]
pub struct Seen {
    /// Connection, role, port here, port there.
    pub opened: Vec<(u64, Role, u16, u16)>,
    /// Of `opened`, those that were open before.
    pub joined: Vec<u64>,
    pub data: Vec<Fragment>,
    pub closed: Vec<(u64, CloseCause)>,
    /// What was told of processes: which, and what.
    pub processes: Vec<(u32, ProcessChange)>,
    /// Of threads: which, who has started it (0 where it has ended), and what.
    pub threads: Vec<(u32, u32, ProcessChange)>,
    /// Connections that are gone, and where their directions (received, sent) ended.
    pub gone: Vec<(u64, [u64; 2])>,
}

impl Seen {
    pub fn of(&self, direction: Direction) -> impl Iterator<Item = &Fragment> {
        self.data.iter().filter(move |fragment| fragment.direction == direction)
    }

    /// Bytes copied in one direction, joined.
    #[must_use]
    pub fn text(&self, direction: Direction) -> String {
        let bytes: Vec<u8> = self.of(direction).flat_map(|f| f.head.clone()).collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Positions of a direction follow each other without hole or overlap; returns where they end.
    ///
    /// # Panics
    /// If they do not.
    #[must_use]
    pub fn contiguous(&self, conn_id: u64, direction: Direction) -> u64 {
        let mut next = 0;
        for fragment in self.of(direction).filter(|fragment| fragment.conn_id == conn_id) {
            assert_eq!(fragment.pos, next, "{fragment:?}");
            next += fragment.total_len;
        }
        next
    }

    /// The connection that was opened in `role`.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn connection(&self, role: Role) -> u64 {
        let opened = self.opened.iter().find(|(_, r, ..)| *r == role);
        opened.unwrap_or_else(|| panic!("no {role:?} in {:?}", self.opened)).0
    }
}

/// Attached programs with this process selected.
pub struct Lab {
    pub targets: Targets,
    pub verdicts: Verdicts,
    programs: Programs,
    reader: Reader,
    _alone: MutexGuard<'static, ()>,
}

impl Lab {
    /// # Panics
    /// If `door` does not open.
    #[must_use]
    pub fn new(door: Door) -> Self {
        Self::with(&Options {
            doors: vec![door],
            ring_bytes: 16 << 20,
            max_connections: 4096,
            ..Options::default()
        })
    }

    /// # Panics
    /// If none of the doors opens.
    #[must_use]
    pub fn with(options: &Options) -> Self {
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let mut programs = Programs::attach(options).unwrap();
        let (mut targets, _control, verdicts) = programs.shared().unwrap();
        let reader = programs.reader().unwrap();
        let own = std::process::id();
        targets.select(own, start_ticks(own), target::SELECTED).unwrap();
        Self { targets, verdicts, programs, reader, _alone: alone }
    }

    /// Everything recorded so far. Programs run inside the calls, so it is all there.
    ///
    /// # Panics
    /// If anything was dropped.
    pub fn seen(&mut self) -> Seen {
        let mut seen = Seen::default();
        self.reader.drain(usize::MAX, |sample| match Record::decode(sample).unwrap() {
            Record::Data(data) => seen.data.push(Fragment {
                conn_id: data.header.conn_id,
                direction: data.direction,
                pos: data.header.pos,
                total_len: data.header.total_len.into(),
                policy: data.header.policy,
                flags: data.header.flags,
                head: data.head.to_vec(),
                tail: data.header.tail,
            }),
            Record::Open { role, open } => {
                seen.opened.push((open.conn_id, role, open.local_port, open.remote_port));
                if open.flags & open_flag::JOINED != 0 {
                    seen.joined.push(open.conn_id);
                }
            }
            Record::Close { cause, close } => {
                seen.closed.push((close.conn_id, cause));
                if cause == CloseCause::Gone {
                    seen.gone.push((close.conn_id, [close.pos_rx, close.pos_tx]));
                }
            }
            Record::Process { change, process } if process.tid != 0 => {
                seen.threads.push((process.tid, process.parent_tgid, change));
            }
            Record::Process { change, process } => seen.processes.push((process.tgid, change)),
            Record::Listen(_) | Record::Stream(_) => {}
        });
        let drops = self.programs.counters().drops().unwrap();
        // While the kernel moves a page (compaction, huge pages), it cannot be read without a fault. Guests have little memory.
        let allowed = |counter: Counter| match counter {
            Counter::Unreadable if skip::emulated() => 2,
            _ => 0,
        };
        assert!(drops.iter().all(|(counter, count)| *count <= allowed(*counter)), "{drops:?}");
        seen
    }
}

/// Both ends of a connection over loopback: client, server.
///
/// # Panics
/// If there is no loopback.
#[must_use]
pub fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (server, _) = listener.accept().unwrap();
    (client, server)
}

/// # Panics
/// If fewer bytes come.
pub fn exactly(stream: &mut impl Read, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    stream.read_exact(&mut bytes).unwrap();
    bytes
}

/// The doors that open here; says which do not.
///
/// # Panics
/// If they cannot even be tried, or if the verifier refuses one: a kernel may lack a door, but what it has must fit.
#[must_use]
pub fn doors() -> Vec<Door> {
    let tried = try_doors().unwrap();
    for (door, result) in &tried {
        if let Err(error) = result {
            let error = error.to_string();
            println!("{}: {}", door.as_str(), error.lines().next().unwrap_or_default());
            let verdict = error.split_once("Verifier output: ").map_or("", |(_, verdict)| verdict);
            assert!(verdict.trim().is_empty(), "{}: {error}", door.as_str());
        }
    }
    tried.into_iter().filter(|(_, result)| result.is_ok()).map(|(door, _)| door).collect()
}

/// The two ways to see bytes, each by the door that opens most often: a call that ends, and a socket.
#[must_use]
pub fn ways() -> Vec<Door> {
    doors().into_iter().filter(|door| matches!(door, Door::SysExitRaw | Door::Socket)).collect()
}
