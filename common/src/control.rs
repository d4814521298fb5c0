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

/// Slots of the `VERDICTS` array, a power of two. Slot `verdict_slot(conn_id)` holds `verdict(conn_id, policy)`:
/// the agent's advice of how to capture that connection, until it gives another. Two connections may share a slot;
/// then the later advice wins, and the other connection goes on with the policy that it has.
pub const VERDICT_SLOTS: u32 = 16384;

/// The slot of a connection.
#[must_use]
pub const fn verdict_slot(conn_id: u64) -> u32 {
    ((conn_id >> CONN_ID_CPU_BITS) as u32) & (VERDICT_SLOTS - 1)
}

/// Those bits of a connection's id that its slot tells; a verdict has its policy there.
const SLOT_BITS: u64 = (VERDICT_SLOTS as u64 - 1) << CONN_ID_CPU_BITS;

/// The slot's value; `policy` is one of [`crate::policy`].
#[must_use]
pub const fn verdict(conn_id: u64, policy: u8) -> u64 {
    conn_id & !SLOT_BITS | (policy as u64) << CONN_ID_CPU_BITS
}

/// The policy that `value`, from the slot of `conn_id`, advises for that connection, if it is about it.
#[must_use]
pub const fn verdict_for(value: u64, conn_id: u64) -> Option<u8> {
    if (value ^ conn_id) & !SLOT_BITS == 0 { Some((value >> CONN_ID_CPU_BITS) as u8) } else { None }
}

/// A connection id is `mono_ns << CONN_ID_CPU_BITS | cpu`: unique because no CPU makes two in one
/// nanosecond.
pub const CONN_ID_CPU_BITS: u32 = 10;

/// Thread groups per value of the `TARGETS` array: one byte each.
pub const TARGETS_PER_CHUNK: u32 = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_is_about_one_connection_and_says_its_policy() {
        let id = 0x1234_5678_9abc_def0;
        for policy in [0, 1, 5, 16, u8::MAX] {
            let value = verdict(id, policy);
            assert_eq!(verdict_for(value, id), Some(policy));
            // All others that share the slot: made at another time, or by another processor.
            for bit in (0..CONN_ID_CPU_BITS).chain(CONN_ID_CPU_BITS + 14..u64::BITS) {
                let other = id ^ 1 << bit;
                assert_eq!(verdict_slot(other), verdict_slot(id));
                assert_eq!(verdict_for(value, other), None, "bit {bit}");
            }
        }
        assert_eq!(verdict_for(0, id), None);
    }
}
