//! The state of captured connections, which the kernel programs keep. The agent looks at it when a process
//! has ended: it takes its Unix sockets along without a call that anybody sees.

use crate::frames::Walk;

/// Value of the `CONNECTIONS` map, by the address of a `struct sock`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Connection {
    pub id: u64,
    /// Tells a socket from a later one at the same address.
    pub inode: u64,
    /// Bytes moved so far, by direction.
    pub pos: [u64; 2],
    /// What TCP had counted in each direction behind the latest bytes, modulo 2^32, or [`NOT_COUNTED`].
    pub seq: [u64; 2],
    /// What TCP had counted in each direction when bytes last moved in the other one, modulo 2^32.
    pub seq_at_turn: [u32; 2],
    /// Bytes of the latest turn that were copied, by direction.
    pub copied: [u32; 2],
    /// Process that made or first used it.
    pub tgid: u32,
    /// [`crate::policy`] in force.
    pub policy: u8,
    /// Direction of the latest fragment, 2 before the first.
    pub last: u8,
    /// By direction: the head in progress has ended, or there is none; what follows in its turn is content.
    pub head_done: [u8; 2],
    /// The agent's latest advice that was heard. Policies that the kernel side changes by itself leave it as it is.
    pub advised: u8,
    /// [`crate::record::Role`].
    pub role: u8,
    /// The `Open` record was sent.
    pub opened: u8,
    /// [`tls`].
    pub tls: u8,
    /// What was spent of [`crate::policy::UNDECIDED_LIMIT`]; all ones where the policy is [`crate::policy::CIPHERTEXT`] and the
    /// agent was told that the process speaks TLS.
    pub undecided: u32,
    /// The object of a TLS library that encrypts it, 0 if none is known. Then what is said of bytes is about the
    /// plaintext, and the socket's own are neither counted nor copied.
    pub object: u64,
    /// By direction: where in its frames it is, where the policy is [`crate::policy::FRAMES`].
    pub walk: [Walk; 2],
    /// The process that moved bytes on it last, known to be one that was selected.
    pub user: u32,
    /// By direction: which of the last two bytes of the head in progress are newlines (`scan::Newlines` of the kernel side).
    pub newlines: [u8; 2],
    /// [`closing`].
    pub closing: u8,
    /// [`joined`].
    pub joined: u8,
}

const _: () = assert!(size_of::<Connection>() == 128);

/// Whether bytes had moved on a connection before it was met.
pub mod joined {
    pub const NO: u8 = 0;
    pub const YES: u8 = 1;
    /// Unless what was met first begins as a message does.
    pub const UNLESS_MESSAGE: u8 = 2;
}

/// Bits of [`Connection::closing`].
pub mod closing {
    /// This side ended it.
    pub const FIN: u8 = 1 << 0;
    /// TCP has closed it while a process had the socket: a reset may come within a call, and behind a response that nobody
    /// has read. What such a call has moved, and what is read still, is told of before the end is.
    pub const IN_CALL: u8 = 1 << 1;
}

/// Bits of [`Connection::tls`].
pub mod tls {
    /// Plaintext may have moved before its `object` was seen.
    pub const MISSED: u8 = 1 << 0;
    /// Ciphertext was read outside of calls of its `object`, which has not asked for more since.
    pub const READ: u8 = 1 << 1;
    /// By direction: the object of rustls that has its keys is known, and nothing has told of another one since.
    pub const RX_PROVED: u8 = 1 << 2;
    pub const TX_PROVED: u8 = 1 << 3;
}

/// No sequence number: not TCP, or others than the process's bytes are counted there.
pub const NOT_COUNTED: u64 = u64::MAX;

/// Key of the `UNIX_FDS` map, whose value is the socket's key in `CONNECTIONS`.
#[must_use]
pub const fn unix_key(tgid: u32, fd: u32) -> u64 {
    (tgid as u64) << 32 | fd as u64
}

/// The process in a key of `UNIX_FDS`.
#[must_use]
pub const fn unix_key_tgid(key: u64) -> u32 {
    (key >> 32) as u32
}
