//! What all versions of HTTP have in common: what of a head an exchange keeps.

mod describe;
pub(super) mod headers;

pub(super) use describe::{RequestHead, trace_context};
pub use headers::{KeptHeader, KeptHeaders};
