//! The border to the kernel: loads and attaches the programs, shares memory with them, reads their
//! ring. All `unsafe` of the agent is in this folder.

mod btf;
mod counters;
mod doors;
mod load;
mod orphans;
mod probe;
mod process;
mod ring;
mod shared;
mod targets;
mod uprobe;
mod usage;

#[cfg(any(test, fuzzing))]
pub(crate) use btf::fuzz_layout;
pub use btf::{BtfError, VMLINUX, kernel_layout};
pub use counters::{Counters, Drops};
pub use doors::{Door, Doors};
pub use load::{LoadError, Options, Programs, Refusal, Tried, try_doors, try_uprobes};
pub use orphans::Orphans;
pub use probe::Probe;
pub use process::{give_back_memory, hurry_this_thread};
pub use ring::{Reader, Waker};
pub use shared::{ControlWords, Verdicts};
pub use targets::{Marks, SelectError, Targets};
pub use uprobe::{LinkKind, Links, UprobeError, Uprobes};
pub use usage::{KernelUsage, MapUsage, ProgramUsage, RunTime};
