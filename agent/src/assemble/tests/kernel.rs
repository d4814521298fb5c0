//! The kernel side as reassembly may rely on it: which records calls on one connection yield, and
//! which of their bytes are in them. This is the specification of the copy policy, in few words:
//!
//! - a *turn* is a run of bytes in one direction; its budget is 1 KiB, and a fragment that begins
//!   like a message gets a new one;
//! - while no blank line was seen since the budget was new, a head may be unfinished: copying goes on
//!   in [`data_flag::CONTINUED`] pieces of up to 16 KiB, up to 64 KiB in all;
//! - a fragment of up to 1 KiB is copied whole while any of the budget is left; of a longer one the
//!   first part if the budget is new; else nothing. What is not copied is counted, and the fragment's last 8 bytes are kept;
//! - [`capture::ALL`] copies up to 16 KiB of every fragment, [`capture::COUNT`] nothing.

use remora_common::{
    capture,
    record::{
        self, Close, CloseCause, Direction, Kind, MAX_HEAD_LEN, Open, Role, data_flag, family,
    },
};
use zerocopy::FromZeros;

use crate::decode::{Data, Record};

const TURN_BUDGET: usize = 1024;
const MAX_HEAD: usize = 64 << 10;

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
    budget: usize,
    /// Bytes copied since the budget was new, while no blank line was among them.
    head: Option<usize>,
    last: [u8; 3],
}

impl Kernel {
    pub(super) fn new(conn_id: u64) -> Self {
        Self {
            records: Vec::new(),
            now_ns: 1_000_000,
            capture: capture::HEADS,
            source: record::Source::Socket,
            conn_id,
            pos: [0; 2],
            turn: None,
            budget: 0,
            head: None,
            last: [0; 3],
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
        let fresh = self.turn != Some(direction) || begins_like_message(bytes);
        self.turn = Some(direction);
        if fresh {
            (self.budget, self.head, self.last) = (TURN_BUDGET, Some(0), [0; 3]);
        }
        if self.capture == capture::ALL {
            let copied = bytes.len().min(MAX_HEAD_LEN);
            self.data(direction, bytes, copied, bytes.len() - copied, 0);
            return self;
        }
        if self.capture == capture::COUNT {
            self.data(direction, &[], 0, bytes.len(), 0);
            return self;
        }
        let mut at = 0;
        let mut flags = 0;
        loop {
            let rest = &bytes[at..];
            let first = at == 0;
            let copied = match self.head {
                Some(copied) if copied >= TURN_BUDGET => {
                    rest.len().min(MAX_HEAD_LEN).min(MAX_HEAD - copied)
                }
                _ if self.budget > 0 && rest.len() <= TURN_BUDGET => rest.len(),
                Some(_) if first => self.budget,
                _ => 0,
            };
            self.budget -= self.budget.min(copied);
            self.look_for_blank_line(&rest[..copied]);
            let goes_on =
                copied > 0 && copied < rest.len() && self.head.is_some_and(|n| n < MAX_HEAD);
            let hole = if goes_on { 0 } else { rest.len() - copied };
            self.data(direction, rest, copied, hole, flags);
            if !goes_on {
                return self;
            }
            at += copied;
            flags = data_flag::CONTINUED;
        }
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
        if hole > 0 && flags & data_flag::IN_KERNEL == 0 && bytes.len() == copied + hole {
            let len = bytes.len().min(8);
            tail[8 - len..].copy_from_slice(&bytes[bytes.len() - len..]);
            flags |= data_flag::TAIL;
        }
        let begin_ns = if direction == Direction::Tx { self.now_ns - 400 } else { 0 };
        let header = record::Data {
            kind: Kind::Data as u8,
            direction: direction as u8,
            source: self.source as u8,
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

    /// Counts what was copied of an unfinished head; a blank line ends it.
    fn look_for_blank_line(&mut self, copied: &[u8]) {
        let Some(before) = self.head else { return };
        self.head = Some(before + copied.len());
        for &byte in copied {
            let [_, b, c] = self.last;
            if byte == b'\n' && (c == b'\n' || (b == b'\n' && c == b'\r')) {
                self.head = None;
            }
            self.last = [b, c, byte];
        }
    }
}

fn begins_like_message(bytes: &[u8]) -> bool {
    const STARTS: [&[u8]; 9] = [
        b"HTTP/1.",
        b"GET ",
        b"POST ",
        b"PUT ",
        b"HEAD ",
        b"DELETE ",
        b"PATCH ",
        b"OPTIONS ",
        b"CONNECT ",
    ];
    STARTS.iter().any(|start| bytes.starts_with(start))
}
