//! Into the ring: reservations in size classes (the verifier wants constant sizes), and the decision
//! whether the reader is woken.

use aya_ebpf::{
    bindings::{BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP, bpf_pidns_info},
    helpers::generated::{bpf_get_current_pid_tgid, bpf_get_ns_current_pid_tgid, bpf_ktime_get_ns},
    maps::ring_buf::RingBufEntry,
};
use remora_common::counter::Counter;

use crate::{
    kernel,
    maps::{self, CONTROL, RECORDS},
};

/// `CLOCK_MONOTONIC`, nanoseconds.
#[inline(always)]
pub fn now() -> u64 {
    // SAFETY: the helper has no preconditions.
    unsafe { bpf_ktime_get_ns() }
}

/// Thread group and thread that runs, in the agent's pid namespace; zeros if it is in none of its own there.
#[inline(always)]
pub fn current() -> (u32, u32) {
    if let Some((device, inode)) = kernel::pid_namespace() {
        let mut ids = bpf_pidns_info { pid: 0, tgid: 0 };
        // SAFETY: the helper writes all of `ids`, zeros if it fails.
        unsafe {
            let size = size_of::<bpf_pidns_info>() as u32;
            bpf_get_ns_current_pid_tgid(device, inode, &raw mut ids, size);
        }
        return (ids.tgid, ids.pid);
    }
    // SAFETY: the helper has no preconditions.
    let both = unsafe { bpf_get_current_pid_tgid() };
    ((both >> 32) as u32, both as u32)
}

/// Room for a `T` in the ring, or a counted drop.
#[inline(always)]
pub fn reserve<T: 'static>() -> Option<RingBufEntry<T>> {
    let entry = RECORDS.reserve::<T>(0);
    if entry.is_none() {
        maps::count(Counter::RingFull);
    }
    entry
}

/// Hands a record to the reader, waking it only if it sleeps.
#[inline(always)]
pub fn submit<T: 'static>(entry: RingBufEntry<T>) {
    submit_and_wake(entry, 0);
}

/// Hands a record to the reader, waking it if it sleeps for long or if `wakes` is not 0.
#[inline(always)]
pub fn submit_and_wake<T: 'static>(entry: RingBufEntry<T>, wakes: u32) {
    entry.submit(wake_flag(wakes));
}

/// Sends a small record from the stack.
#[inline(always)]
pub fn record<T: Copy + 'static>(value: &T) {
    if let Some(mut entry) = reserve::<T>() {
        entry.write(*value);
        submit(entry);
    }
}

/// Sends a small record and wakes the reader: somebody waits for what it will do.
#[inline(always)]
pub fn urgent<T: Copy + 'static>(value: &T) {
    if let Some(mut entry) = reserve::<T>() {
        entry.write(*value);
        submit_urgent(entry);
    }
}

/// Hands a record to the reader and wakes it.
#[inline(always)]
pub fn submit_urgent<T: 'static>(entry: RingBufEntry<T>) {
    entry.submit(u64::from(BPF_RB_FORCE_WAKEUP));
}

/// A wake-up costs the traced thread 3 to 5 us, ten times the record. The reader polls while there
/// is traffic; only when it gave up does it ask to be woken, once.
#[inline(always)]
fn wake_flag(wakes: u32) -> u64 {
    if let Some(control) = CONTROL.get_ptr_mut(0) {
        // SAFETY: a map value, shared with the agent: volatile, one word.
        unsafe {
            let sleeps = &raw mut (*control).reader_sleeps;
            if sleeps.read_volatile() | wakes != 0 {
                sleeps.write_volatile(0);
                return u64::from(BPF_RB_FORCE_WAKEUP);
            }
        }
    }
    u64::from(BPF_RB_NO_WAKEUP)
}
