//! How the kernel object is built, and how a committed one is checked.
//!
//! Two callers share it, so that they cannot disagree: `agent/build.rs`, which embeds an object in
//! the agent, and `xtask`, which commits one under `ebpf/prebuilt/` and proves that it is what the
//! sources give. It is apart from both because it runs on the build machine and is tested alone.
//!
//! - [`toolchain`]: which kernel-side tools does this machine have?
//! - [`object`]: the sources as an object, the same bytes wherever they are built.
//! - [`manifest`]: what a committed object was built from, and does that still hold?

pub mod lockfile;
pub mod manifest;
pub mod object;
#[cfg(test)]
mod stack;
mod strip;
pub mod toolchain;
