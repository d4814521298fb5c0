//! The Redis serialization protocol: RESP2, RESP3 and inline commands (redis.io, "Redis serialization protocol
//! specification"), in arbitrary pieces and with holes. Clients send [`request::Commands`], servers [`reply::Replies`].
//!
//! A value that was not captured costs nothing, because its length stands before it. Values and credentials are never
//! looked at: of a command there are its name, its keys (which arguments these are says [`table`]) and the lengths of
//! all others; of a reply its kind, the code of an error, and a word if it is one of [`reply::Word`].

mod arguments;
mod command;
mod inline;
mod number;
pub mod recognise;
pub mod reply;
pub mod request;
pub mod table;
pub mod text;
mod values;
mod word;

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
#[cfg(test)]
mod tests;

pub use self::{
    recognise::{NotRedis, looks_like_commands, looks_like_replies},
    reply::{Replies, Reply, ReplyKind, Word},
    request::{Argument, Command, Commands},
    table::{Keys, Kind, Spec},
};
