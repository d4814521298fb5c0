//! What crosses the border between the kernel programs and the agent: the records in the ring, the
//! keys and values of shared maps, and the facts the agent hands over before the programs load.
//! Everything is a plain integer with a fixed layout; behaviour belongs to one of the two sides.
#![no_std]

pub mod connection;
pub mod control;
pub mod counter;
pub mod layout;
pub mod policy;
pub mod record;

/// Selection state of one thread group, the value of the `TARGETS` table (one byte per tgid).
pub mod target {
    /// Captured.
    pub const SELECTED: u8 = 1 << 0;
    /// Its future children are selected as it is.
    pub const INHERIT: u8 = 1 << 1;
    /// [`crate::record::ProcessChange::SpeaksTls`] was sent; kept by the kernel side.
    pub const SPEAKS_TLS: u8 = 1 << 2;
}
