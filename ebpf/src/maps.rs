//! The maps and globals, and the counting of drops. All maps are preallocated; the agent sets the
//! sizes of those marked so before load.

use aya_ebpf::{
    bindings::BPF_F_MMAPABLE,
    macros::map,
    maps::{Array, HashMap, PerCpuArray, RingBuf},
};
use remora_common::{
    connection::Connection,
    control::{Control, TARGETS_PER_CHUNK, VERDICT_SLOTS},
    counter::Counter,
    layout::{KernelLayout, PidNamespace},
};

use crate::moved::Work;

/// Where the running kernel keeps things; written by the agent before load, constant to the verifier.
#[unsafe(no_mangle)]
pub static LAYOUT: KernelLayout = KernelLayout::NONE;

/// The agent's, in the same way.
#[unsafe(no_mangle)]
pub static PID_NAMESPACE: PidNamespace = PidNamespace::INITIAL;

/// One byte per tgid, [`remora_common::target`] flags. Sized by the agent from `kernel.pid_max`.
#[map]
pub static TARGETS: Array<[u8; TARGETS_PER_CHUNK as usize]> =
    Array::with_max_entries(8, BPF_F_MMAPABLE);

/// The ring of records. Sized by the agent.
#[map]
pub static RECORDS: RingBuf = RingBuf::with_byte_size(8 << 20, 0);

/// Connections by `struct sock` address. Sized by the agent.
#[map]
pub static CONNECTIONS: HashMap<u64, Connection> = HashMap::with_max_entries(16384, 0);

/// Connections in [`CONNECTIONS`] whose end nothing tells of, as `struct sock` addresses. The first slot
/// counts them.
#[map]
pub static ENDLESS: Array<u64> = Array::with_max_entries(ENDLESS_SLOTS, 0);
pub const ENDLESS_SLOTS: u32 = 2048;

/// Unix sockets by [`remora_common::connection::unix_key`], to see their close: nothing else in the kernel
/// tells of it. Where it is the process that ends, the agent takes care of what is left here and in
/// [`ENDLESS`].
#[map]
pub static UNIX_FDS: HashMap<u64, u64> = HashMap::with_max_entries(4096, 0);

/// See [`Control`].
#[map]
pub static CONTROL: Array<Control> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// See [`VERDICT_SLOTS`].
#[map]
pub static VERDICTS: Array<u64> = Array::with_max_entries(VERDICT_SLOTS, BPF_F_MMAPABLE);

/// Drops by [`Counter`].
#[map]
pub static COUNTERS: PerCpuArray<u64> = PerCpuArray::with_max_entries(Counter::COUNT, 0);

/// What the programs of the socket layer work on, by direction: the kernel enters neither of them twice on a
/// processor.
#[map]
pub static WORK: PerCpuArray<Work> = PerCpuArray::with_max_entries(2, 0);

/// Adds one to `counter`.
#[inline(always)]
pub fn count(counter: Counter) {
    if let Some(value) = COUNTERS.get_ptr_mut(counter as u32) {
        // SAFETY: the slot belongs to this CPU; a nested program may lose one count, never memory.
        unsafe { *value += 1 };
    }
}

/// The byte of `tgid` in [`TARGETS`], `None` if it is beyond the table.
#[inline(always)]
pub fn target(tgid: u32) -> Option<*mut u8> {
    let chunk = TARGETS.get_ptr_mut(tgid / TARGETS_PER_CHUNK)?;
    // SAFETY: the remainder is below the chunk's length.
    Some(unsafe { chunk.cast::<u8>().add((tgid % TARGETS_PER_CHUNK) as usize) })
}

/// Selection flags of `tgid`, 0 if it is not selected.
#[inline(always)]
pub fn selection(tgid: u32) -> u8 {
    match target(tgid) {
        // SAFETY: `target` points into the map; a byte is read in one load.
        Some(byte) => unsafe { byte.read_volatile() },
        None => 0,
    }
}
