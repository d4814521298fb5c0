//! Words that the agent and the kernel programs share while both run: the `CONTROL` and `VERDICTS`
//! arrays, which the agent maps into its memory.

/// The one value of the `CONTROL` array.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Control {
    /// Non-zero: the ring's reader sleeps and wants to be woken by the next record. The program that
    /// wakes it sets this to 0, so that at most one record pays for a wake-up.
    pub reader_sleeps: u32,
    /// Non-zero: `exec` of any process is reported, not only of selected ones.
    pub watch_exec: u32,
    /// Non-zero: `listen` of any process is reported.
    pub watch_listen: u32,
    pub reserved: u32,
}

/// Slots of the `VERDICTS` array, a power of two. Slot `slot(conn_id)` holds `verdict(conn_id, mode)`:
/// the agent's advice of how to capture that connection. Two connections may share a slot; then the
/// later advice wins, and the other connection goes on as the kernel side decides.
pub const VERDICT_SLOTS: u32 = 16384;

/// The slot of a connection.
#[must_use]
pub const fn verdict_slot(conn_id: u64) -> u32 {
    ((conn_id >> CONN_ID_CPU_BITS) as u32) & (VERDICT_SLOTS - 1)
}

/// The slot's value; `mode` is one of [`crate::capture`]. Never 0, as `conn_id` is not.
#[must_use]
pub const fn verdict(conn_id: u64, mode: u8) -> u64 {
    conn_id << 2 | mode as u64 & 3
}

/// The mode that `value` advises for `conn_id`, if it is about that connection.
#[must_use]
pub const fn verdict_for(value: u64, conn_id: u64) -> Option<u8> {
    if value >> 2 == conn_id & (u64::MAX >> 2) { Some((value & 3) as u8) } else { None }
}

/// A connection id is `mono_ns << CONN_ID_CPU_BITS | cpu`: unique because no CPU makes two in one
/// nanosecond.
pub const CONN_ID_CPU_BITS: u32 = 10;

/// Thread groups per value of the `TARGETS` array: one byte each.
pub const TARGETS_PER_CHUNK: u32 = 4096;
