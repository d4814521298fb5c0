//! What all versions of HTTP have in common: what of a head an exchange keeps.

mod carried;
mod describe;
pub(super) mod headers;

pub(super) use carried::Carried;
pub(super) use describe::RequestHead;
pub use headers::{KeptHeader, KeptHeaders};
