//! Remora's agent: from the records of the kernel programs to OpenTelemetry spans and RED metrics.
//!
//! The modules follow the way of the data; each folder's `mod.rs` says which question it answers.
//!
//! ```text
//! discover -> attach -> decode -> assemble -> correlate -> (semantics) -> aggregate, tail, export
//! ```

pub mod accounting;
pub mod aggregate;
pub mod assemble;
pub mod attach;
pub mod attribute;
pub mod bpf;
pub mod cli;
pub mod clock;
pub mod config;
pub mod container;
pub mod correlate;
pub mod decode;
pub mod discover;
pub mod doctor;
pub mod exchange;
pub mod export;
#[cfg(any(test, fuzzing))]
#[allow(unused_must_use, reason = "that a reader returns is what is asked of it")]
pub mod fuzzing;
mod ids;
pub mod kubernetes;
pub mod log;
pub mod metrics_data;
#[cfg(test)]
mod properties;
pub mod protocol;
pub mod recording;
pub mod resource;
pub mod run;
pub mod semantics;
pub mod serve;
pub mod span;
pub mod status;
pub mod tail;
pub mod trace_context;
pub mod trust;
