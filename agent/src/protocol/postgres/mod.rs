//! The PostgreSQL frontend/backend protocol, version 3 (PostgreSQL documentation, chapter "Frontend/Backend Protocol"),
//! in arbitrary pieces and with holes. Clients send [`Requests`], servers [`Replies`].
//!
//! Passwords, parameters, rows and messages of errors are never held. Texts of statements are, up to [`MAX_TEXT`] bytes.

mod frame;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod recognise;
mod reply;
mod request;

pub use self::{
    recognise::{looks_like_replies, looks_like_requests, opens},
    reply::{Replies, Reply, Severity, Tail, Transaction, may_end, tail},
    request::{Request, Requests, Text},
};

/// Bytes of a statement's text that are held.
pub const MAX_TEXT: usize = 4096;
/// Bytes of a name (of a statement, a portal, a database) that are told apart.
const MAX_NAME: usize = 256;

/// A string that ends with a zero byte, and what follows it.
fn string(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = memchr::memchr(0, bytes)?;
    Some((&bytes[..end], &bytes[end + 1..]))
}

/// The string, as far as it goes if its end is not there.
fn cut_string(bytes: &[u8]) -> &[u8] {
    string(bytes).map_or(bytes, |(text, _)| text)
}
