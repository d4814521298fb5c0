//! The kernel side as reassembly may rely on it: which records calls on one connection yield, and
//! which of their bytes are in them. A model of `ebpf/src/capture.rs`, which says why:
//!
//! - a *turn* is a run of bytes in one direction; with it begins a head, if it begins as a message does and no head is
//!   unfinished, and so does one in a fragment that begins as a message does once the head before it has ended;
//! - of a fragment in a head the first KiB is copied, and more of it in [`data_flag::CONTINUED`] pieces
//!   of up to 4 KiB until one has a blank line, which may have begun in what was copied before;
//! - behind a head only the last 8 bytes of a fragment are kept; what is not copied is counted;
//! - [`policy::ALL`] copies every byte, [`policy::EDGES`] the first and the last of a fragment, [`policy::COUNT`] yields nothing;
//! - of a turn no more than [`TURN_LIMIT`] or [`TURN_LIMIT_OF_ALL`] is copied, but for short edges of fragments.

use remora_common::{
    policy::{self, TURN_LIMIT, TURN_LIMIT_OF_ALL},
    record::{
        self, CLASS_LARGE, Close, CloseCause, Direction, Kind, Open, Role, data_flag, family,
    },
};
use zerocopy::FromZeros;

use crate::decode::{Data, Record};

const WINDOW: usize = 1024;

/// A record and its content.
#[derive(Clone, Debug)]
pub(super) enum Owned {
    Open(Role, Box<Open>),
    Data(record::Data, Vec<u8>),
    Close(CloseCause, Close),
}

impl Owned {
    pub(super) fn record(&self) -> Record<'_> {
        match self {
            Self::Open(role, open) => Record::Open { role: *role, open },
            Self::Data(header, head) => Record::Data(Data {
                direction: Direction::from_byte(header.direction).unwrap(),
                source: record::Source::from_byte(header.source).unwrap(),
                header,
                head,
            }),
            Self::Close(cause, close) => Record::Close { cause: *cause, close },
        }
    }

    pub(super) fn mono_ns(&self) -> u64 {
        match self {
            Self::Open(_, open) => open.mono_ns,
            Self::Data(header, _) => header.mono_ns,
            Self::Close(_, close) => close.mono_ns,
        }
    }
}

/// One connection as its kernel-side state sees it.
#[derive(Debug)]
pub(super) struct Kernel {
    pub(super) records: Vec<Owned>,
    pub(super) now_ns: u64,
    pub(super) capture: u8,
    pub(super) source: record::Source,
    conn_id: u64,
    pos: [u64; 2],
    turn: Option<Direction>,
    /// By direction: bytes of the turn that were copied, whether the head in progress has ended or
    /// has hardly begun, and its last bytes.
    copied: [usize; 2],
    head_done: [bool; 2],
    fresh: [bool; 2],
    last: [Vec<u8>; 2],
}

impl Kernel {
    pub(super) fn new(conn_id: u64) -> Self {
        Self {
            records: Vec::new(),
            now_ns: 1_000_000,
            capture: policy::HEADS,
            source: record::Source::Socket,
            conn_id,
            pos: [0; 2],
            turn: None,
            copied: [0; 2],
            head_done: [true; 2],
            fresh: [false; 2],
            last: [Vec::new(), Vec::new()],
        }
    }

    /// With the record that announces it.
    pub(super) fn opened(role: Role, flags: u8) -> Self {
        let mut kernel = Self::new(7);
        let mut open = Open::new_zeroed();
        open.kind = Kind::Open as u8;
        open.role = role as u8;
        open.flags = flags;
        open.family = family::INET;
        open.local_addr[..4].copy_from_slice(&[127, 0, 0, 1]);
        open.remote_addr[..4].copy_from_slice(&[127, 0, 0, 2]);
        (open.local_port, open.remote_port) = (80, 40_000);
        open.mono_ns = kernel.now_ns;
        open.conn_id = kernel.conn_id;
        open.tgid = 100;
        kernel.records.push(Owned::Open(role, Box::new(open)));
        kernel
    }

    pub(super) fn rx(&mut self, bytes: &[u8]) -> &mut Self {
        self.moved(Direction::Rx, bytes)
    }

    pub(super) fn tx(&mut self, bytes: &[u8]) -> &mut Self {
        self.moved(Direction::Tx, bytes)
    }

    /// A call moved `bytes`.
    pub(super) fn moved(&mut self, direction: Direction, bytes: &[u8]) -> &mut Self {
        self.now_ns += 1000;
        let side = direction as usize;
        if self.turn != Some(direction) {
            self.turn = Some(direction);
            self.copied[side] = 0;
            if self.head_done[side] {
                self.begin_head(side);
            }
        }
        if self.capture == policy::COUNT {
            self.pos[side] += bytes.len() as u64;
            return self;
        }
        let all = self.capture == policy::ALL;
        let limit = if all { TURN_LIMIT_OF_ALL } else { TURN_LIMIT } as usize;
        if self.capture == policy::EDGES || all && self.copied[side] >= limit {
            return self.edges(direction, bytes);
        }
        if self.head_done[side] && begins_message(bytes) {
            self.begin_head(side);
        }
        let (mut sent, mut most, mut flags) = (0, WINDOW, 0);
        loop {
            let left = limit - self.copied[side];
            if sent == bytes.len() || left == 0 || (self.head_done[side] && !all) {
                break;
            }
            let piece = &bytes[sent..bytes.len().min(sent + most.min(left))];
            self.data(direction, piece, piece.len(), 0, flags);
            self.copied[side] += piece.len();
            if !all {
                let fresh = std::mem::take(&mut self.fresh[side]);
                let content = fresh && piece.len() >= 8 && !begins_head(piece);
                let given_up = self.copied[side] == limit;
                self.head_done[side] = content || given_up || ends_head(&self.last[side], piece);
                self.last[side].extend_from_slice(piece);
                let len = self.last[side].len();
                self.last[side].drain(..len.saturating_sub(2));
            }
            sent += piece.len();
            (most, flags) = (CLASS_LARGE, data_flag::CONTINUED);
        }
        if sent < bytes.len() {
            self.data(direction, bytes, 0, bytes.len() - sent, flags);
        }
        self
    }

    fn begin_head(&mut self, side: usize) {
        (self.head_done[side], self.fresh[side]) = (false, true);
        self.last[side].clear();
    }

    /// What [`policy::EDGES`] copies: the first and the last bytes, or all of them.
    fn edges(&mut self, direction: Direction, bytes: &[u8]) -> &mut Self {
        let copied = &mut self.copied[direction as usize];
        let (first, last) = (policy::EDGE_FIRST as usize, policy::EDGE_LAST as usize);
        let left = (TURN_LIMIT as usize).saturating_sub(*copied).max(last);
        let first = bytes.len().min(first).min(left);
        *copied += first;
        let split = bytes.len().saturating_sub(last).max(first);
        let (front, back) = bytes.split_at(split);
        // What lies between is counted in the first record, whose own last bytes nobody asked for.
        self.uncopied(direction, front, first);
        if !back.is_empty() {
            self.data(direction, back, back.len(), 0, data_flag::CONTINUED);
        }
        self
    }

    fn uncopied(&mut self, direction: Direction, bytes: &[u8], copied: usize) {
        self.data(direction, bytes, copied, bytes.len() - copied, 0);
        if let Some(Owned::Data(header, _)) = self.records.last_mut() {
            header.flags &= !data_flag::TAIL;
            header.tail = [0; 8];
        }
    }

    /// A record of `bytes`, of which the first are copied.
    pub(super) fn record(
        &mut self,
        direction: Direction,
        bytes: &[u8],
        copied: usize,
        flags: u32,
    ) -> &mut Self {
        if flags & data_flag::CONTINUED == 0 {
            self.now_ns += 1000;
        }
        self.turn = Some(direction);
        self.data(direction, bytes, copied, bytes.len() - copied, flags | data_flag::IN_KERNEL);
        if let Some(Owned::Data(header, _)) = self.records.last_mut() {
            header.flags &= !data_flag::IN_KERNEL;
        }
        self
    }

    /// `len` bytes moved inside the kernel.
    pub(super) fn in_kernel(&mut self, direction: Direction, len: usize) -> &mut Self {
        self.now_ns += 1000;
        self.turn = Some(direction);
        self.data(direction, &[], 0, len, data_flag::IN_KERNEL);
        self
    }

    pub(super) fn close(&mut self, cause: CloseCause, errno: i32) -> &mut Self {
        self.now_ns += 1000;
        self.records.push(Owned::Close(
            cause,
            Close {
                kind: Kind::Close as u8,
                cause: cause as u8,
                errno: errno.unsigned_abs(),
                mono_ns: self.now_ns,
                conn_id: self.conn_id,
                pos_rx: self.pos[0],
                pos_tx: self.pos[1],
                tgid: 100,
                tid: 101,
                ..Close::default()
            },
        ));
        self
    }

    pub(super) fn gone(&mut self) -> &mut Self {
        self.close(CloseCause::Gone, 0)
    }

    fn data(&mut self, direction: Direction, bytes: &[u8], copied: usize, hole: usize, flags: u32) {
        let mut tail = [0; 8];
        let mut flags = flags;
        if hole > 0 && flags & data_flag::IN_KERNEL == 0 {
            let len = bytes.len().min(8);
            tail[8 - len..].copy_from_slice(&bytes[bytes.len() - len..]);
            flags |= data_flag::TAIL;
        }
        let begin_ns = if direction == Direction::Tx { self.now_ns - 400 } else { 0 };
        let header = record::Data {
            kind: Kind::Data as u8,
            direction: direction as u8,
            source: self.source as u8,
            policy: self.capture,
            flags,
            mono_ns: self.now_ns,
            begin_ns,
            conn_id: self.conn_id,
            pos: self.pos[direction as usize],
            tgid: 100,
            tid: 101,
            total_len: u32::try_from(copied + hole).unwrap(),
            head_len: u32::try_from(copied).unwrap(),
            tail,
            other_pos: self.pos[direction.flip() as usize],
            ..record::Data::default()
        };
        self.pos[direction as usize] += (copied + hole) as u64;
        self.records.push(Owned::Data(header, bytes[..copied].to_vec()));
    }
}

/// Whether a blank line ends in `piece`, which follows `last`, and no other message follows it there.
fn ends_head(last: &[u8], piece: &[u8]) -> bool {
    let bytes = [last, piece].concat();
    let newline = |at: usize| bytes.get(at) == Some(&b'\n');
    let end = (last.len()..bytes.len())
        .find(|&at| newline(at) && (at >= 1 && newline(at - 1) || at >= 2 && newline(at - 2)));
    let Some(end) = end else { return false };
    let next = &bytes[end + 1..];
    next.len() < 8 || !begins_message(next)
}

fn begins_head(bytes: &[u8]) -> bool {
    matches!(bytes[0], b'\r' | b'\n') || begins_message(bytes)
}

fn begins_message(bytes: &[u8]) -> bool {
    bytes.starts_with(b"HTTP/1.")
        || bytes.get(..3).is_some_and(|first| first.iter().all(u8::is_ascii_uppercase))
}
