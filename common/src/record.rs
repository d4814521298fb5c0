//! The records of the ring buffer. Each begins with one byte, its [`Kind`]; the rest is the
//! `#[repr(C)]` struct of that kind in native byte order. A ring sample may be longer than its
//! record (samples come in size classes): `head_len` says how many bytes of content are valid.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// First byte of every record.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// [`Data`]: application bytes moved on a connection.
    Data = 1,
    /// [`Open`]: a connection's first record; addresses and role.
    Open = 2,
    /// [`Close`]: a direction or the connection ended.
    Close = 3,
    /// [`Process`]: exec, fork or exit of a process.
    Process = 4,
    /// [`Listen`]: a process listens on a TCP port.
    Listen = 5,
    /// [`Stream`]: whose a stream of HTTP/2 is.
    Stream = 6,
}

impl Kind {
    /// The value behind its byte in a record, `None` if there is no such.
    #[must_use]
    pub const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Data),
            2 => Some(Self::Open),
            3 => Some(Self::Close),
            4 => Some(Self::Process),
            5 => Some(Self::Listen),
            6 => Some(Self::Stream),
            _ => None,
        }
    }
}

/// Which way bytes went, seen from the traced process.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Received by the process.
    Rx = 0,
    /// Sent by the process.
    Tx = 1,
}

impl Direction {
    /// The value behind its byte in a record, `None` if there is no such.
    #[must_use]
    pub const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Rx),
            1 => Some(Self::Tx),
            _ => None,
        }
    }
}

impl Direction {
    /// The opposite direction.
    #[must_use]
    pub const fn flip(self) -> Self {
        match self {
            Self::Rx => Self::Tx,
            Self::Tx => Self::Rx,
        }
    }
}

/// Where plaintext was seen.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// System calls on a socket.
    Socket = 0,
    /// Calls of a TLS library in C: `SSL_read` and `SSL_write` of OpenSSL and BoringSSL, `gnutls_record_recv` and
    /// `gnutls_record_send` of GnuTLS.
    CLibrary = 1,
    /// `crypto/tls` of Go.
    GoTls = 2,
    /// The record protection of rustls.
    Rustls = 3,
}

impl Source {
    /// The value behind its byte in a record, `None` if there is no such.
    #[must_use]
    pub const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Socket),
            1 => Some(Self::CLibrary),
            2 => Some(Self::GoTls),
            3 => Some(Self::Rustls),
            _ => None,
        }
    }
}

/// How a connection came to be.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Not seen: the connection was open before the process was watched.
    Unknown = 0,
    /// The process accepted it.
    Server = 1,
    /// The process opened it.
    Client = 2,
}

impl Role {
    /// The value behind its byte in a record, `None` if there is no such.
    #[must_use]
    pub const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Unknown),
            1 => Some(Self::Server),
            2 => Some(Self::Client),
            _ => None,
        }
    }
}

/// Flags of a [`Data`] record.
pub mod data_flag {
    /// Content exists that could not be read from user memory (not resident).
    pub const UNREADABLE: u32 = 1 << 0;
    /// Moved inside the kernel (`sendfile`, `splice`): there never was content to copy.
    pub const IN_KERNEL: u32 = 1 << 1;
    /// `tail` holds the fragment's last 8 bytes (right-aligned, fewer if `total_len < 8`).
    pub const TAIL: u32 = 1 << 2;
    /// A continuation of the previous record of the same call: same time, next position.
    pub const CONTINUED: u32 = 1 << 3;
    /// The bytes that are missing in front of this record moved before the latest ones of the opposite
    /// direction: they are not of the turn that it belongs to.
    pub const MISSING_BEFORE_TURN: u32 = 1 << 4;
    /// The record's first byte is the first of a frame: those before it were walked over ([`crate::policy::FRAMES`]).
    pub const FRAME: u32 = 1 << 5;
}

/// Application bytes moved by one call on a connection (or one piece of it).
///
/// `pos` is the offset of the fragment's first byte in its direction of the connection, counted from
/// when the connection was first seen. `head_len <= total_len`: bytes `[pos, pos + head_len)` follow
/// the struct, bytes `[pos + head_len, pos + total_len)` were counted and not copied.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct Data {
    /// [`Kind::Data`].
    pub kind: u8,
    /// [`Direction`].
    pub direction: u8,
    /// [`Source`].
    pub source: u8,
    /// By which [`crate::policy`] these bytes were copied. Under [`crate::policy::FRAMES`] what is not copied has been
    /// walked over.
    pub policy: u8,
    /// [`data_flag`].
    pub flags: u32,
    /// `CLOCK_MONOTONIC` when the call returned, nanoseconds.
    pub mono_ns: u64,
    /// When the call began, or 0 where the door does not know it.
    pub begin_ns: u64,
    /// Unique for the agent's life.
    pub conn_id: u64,
    pub pos: u64,
    /// Thread group and thread in the agent's pid namespace.
    pub tgid: u32,
    pub tid: u32,
    /// Bytes the call moved (of this piece).
    pub total_len: u32,
    /// Bytes copied behind this struct.
    pub head_len: u32,
    /// Execution context beyond the thread ([`crate::context`]); 0 if none is known.
    pub context: u64,
    /// See [`data_flag::TAIL`].
    pub tail: [u8; 8],
    /// Position of the opposite direction when the call returned: which bytes of the two directions
    /// came first is then known although the records between them were lost. 0 if not kept.
    pub other_pos: u64,
}

/// Length of a Unix socket path, `UNIX_PATH_MAX`.
pub const UNIX_PATH_LEN: usize = 108;

/// Address families as in [`Open::family`].
pub mod family {
    pub const UNIX: u16 = 1;
    pub const INET: u16 = 2;
    pub const INET6: u16 = 10;
}

/// Flags of an [`Open`] record.
pub mod open_flag {
    /// Positions do not start at the connection's first byte: it was open before it was watched.
    pub const JOINED: u8 = 1 << 0;
}

/// A connection was seen for the first time; precedes its first [`Data`].
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Open {
    /// [`Kind::Open`].
    pub kind: u8,
    /// [`Role`].
    pub role: u8,
    /// [`open_flag`].
    pub flags: u8,
    pub reserved: u8,
    /// [`family`].
    pub family: u16,
    /// Host byte order; 0 for Unix sockets.
    pub local_port: u16,
    pub remote_port: u16,
    /// Bytes of `unix_path` that are valid; the path may be abstract (first byte 0).
    pub unix_path_len: u16,
    /// Network namespace inode, 0 if unknown.
    pub netns: u32,
    pub mono_ns: u64,
    pub conn_id: u64,
    /// Inode number of the socket as in `/proc/PID/fd` (`socket:[N]`).
    pub inode: u64,
    pub tgid: u32,
    pub tid: u32,
    /// IPv6, or IPv4 in the first four bytes (the rest zero).
    pub local_addr: [u8; 16],
    pub remote_addr: [u8; 16],
    /// Unix only: the path the socket, or else its peer, is bound to.
    pub unix_path: [u8; UNIX_PATH_LEN],
    pub reserved2: [u8; 4],
}

/// Why a [`Close`] was sent.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CloseCause {
    /// The process read end of file: no more bytes in direction Rx.
    EndOfFile = 0,
    /// The process shut down or closed its side: no more bytes in direction Tx.
    LocalFin = 1,
    /// A call failed with `errno`, or the socket carried it (reset, timeout, broken pipe).
    Error = 2,
    /// The connection is gone; nothing follows with this `conn_id`.
    Gone = 3,
    /// The kernel side needed the connection's place, or cannot tell whether it has ended: nothing follows with this
    /// `conn_id`, but bytes may still move.
    Evicted = 4,
    /// The other side will send nothing more, and everything that was sent to it before stands in the positions. Told of
    /// connections that the process has opened; it has not read the end yet.
    PeerFin = 5,
}

impl CloseCause {
    /// The value behind its byte in a record, `None` if there is no such.
    #[must_use]
    pub const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::EndOfFile),
            1 => Some(Self::LocalFin),
            2 => Some(Self::Error),
            3 => Some(Self::Gone),
            4 => Some(Self::Evicted),
            5 => Some(Self::PeerFin),
            _ => None,
        }
    }
}

/// A direction or the connection ended.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct Close {
    /// [`Kind::Close`].
    pub kind: u8,
    /// [`CloseCause`].
    pub cause: u8,
    pub reserved: [u8; 2],
    /// Positive errno, or 0.
    pub errno: u32,
    pub mono_ns: u64,
    pub conn_id: u64,
    /// Final or current positions, to account for bytes that no record carried.
    pub pos_rx: u64,
    pub pos_tx: u64,
    /// The process that made or first used the connection; it may be another one that ended it.
    pub tgid: u32,
    pub tid: u32,
}

/// What a [`Process`] record tells.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProcessChange {
    /// A new program image; sent for every process, so that new targets are found.
    Exec = 0,
    /// A child process (not a thread) of a selected process; it inherited the selection.
    Fork = 1,
    /// A selected process ended.
    Exit = 2,
    /// A selected process moves ciphertext, and not inside calls that are probed. Sent once for each
    /// program image.
    SpeaksTls = 3,
    /// The threads of a selected process say nothing of what they work for: its runtime moves that between them and is not
    /// followed ([`crate::context`]), or they are event loops. The agent makes this record, not the kernel side.
    MovesWork = 4,
    /// A thread of a selected process has started another one, in a process whose contexts are its threads.
    ThreadStart = 5,
    /// A thread of such a process ended.
    ThreadExit = 6,
}

impl ProcessChange {
    /// The value behind its byte in a record, `None` if there is no such.
    #[must_use]
    pub const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Exec),
            1 => Some(Self::Fork),
            2 => Some(Self::Exit),
            3 => Some(Self::SpeaksTls),
            4 => Some(Self::MovesWork),
            5 => Some(Self::ThreadStart),
            6 => Some(Self::ThreadExit),
            _ => None,
        }
    }
}

/// exec, fork or exit of a process.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct Process {
    /// [`Kind::Process`].
    pub kind: u8,
    /// [`ProcessChange`].
    pub change: u8,
    /// [`crate::target`] flags as they are after the change.
    pub selection: u8,
    pub reserved: u8,
    pub tgid: u32,
    /// Of a thread that was started: the thread that has started it.
    pub parent_tgid: u32,
    /// The thread that was started, or has ended; 0 where a process is meant.
    pub tid: u32,
    pub mono_ns: u64,
    pub comm: [u8; 16],
    /// When the process was started, nanoseconds since boot; 0 if unknown. With `tgid` its identity.
    pub start_ns: u64,
}

/// Whose a stream of an HTTP/2 connection is: who handles its request, or who has asked for it, where others read and write for
/// them.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct Stream {
    /// [`Kind::Stream`].
    pub kind: u8,
    pub reserved: [u8; 3],
    /// Its identifier (RFC 9113, section 5.1.1).
    pub stream: u32,
    pub mono_ns: u64,
    /// 0: the connection on which `unit` will write the stream's first frame.
    pub conn_id: u64,
    /// The execution context of who handles the request or has asked for it ([`crate::context`]).
    pub context: u64,
    pub tgid: u32,
    /// Who writes, if `conn_id` is 0.
    pub unit: u32,
}

/// A process called `listen` on a TCP socket.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct Listen {
    /// [`Kind::Listen`].
    pub kind: u8,
    /// [`crate::target`] flags of the process.
    pub selection: u8,
    /// [`family`].
    pub family: u16,
    pub port: u16,
    pub reserved: u16,
    pub tgid: u32,
    pub netns: u32,
    pub mono_ns: u64,
}

/// Content bytes of a sample, by size class; the ring sample is `size_of::<Data>()` more.
pub const CLASS_SMALL: usize = 256;
pub const CLASS_MEDIUM: usize = 1024;
pub const CLASS_LARGE: usize = 4096;

const _: () = {
    assert!(size_of::<Data>() == 80);
    assert!(size_of::<Open>() == 192);
    assert!(size_of::<Close>() == 48);
    assert!(size_of::<Process>() == 48);
    assert!(size_of::<Listen>() == 24);
};
