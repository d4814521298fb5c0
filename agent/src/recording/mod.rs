//! Recordings: the records of the ring in a file, with everything that is needed to turn them into the
//! same spans and metrics later, and nothing that a span does not need. `docs/recording.md` describes
//! the file.
//!
//! - [`format`]: what is in it. What of a message may be in it, its protocol says ([`crate::assemble::Kept`]).
//! - [`block`]: how that is stored, section by section.
//! - [`write`]: from the worker, which never waits, by way of a thread that does.
//! - [`read`]: from any bytes; nothing in a file is trusted.

pub mod block;
pub mod format;
pub mod read;
#[cfg(test)]
mod tests;
pub mod write;
