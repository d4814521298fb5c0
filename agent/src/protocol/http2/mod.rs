//! HTTP/2 (RFC 9113): frames, the header blocks in them (HPACK, RFC 7541), and how a connection of it is recognised.
//!
//! [`reader`] reads one direction, and tells what happened as a [`Message`]; [`hpack`] decodes its header blocks with the dynamic table that belongs to it;
//! [`fields`] is what a block says; [`frame`] the head of a frame; [`recognise`] tells the protocol from others.

mod fields;
pub mod frame;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod hpack;
mod huffman;
mod mask;
mod message;
mod reader;
mod recognise;
mod table;
#[cfg(test)]
mod tests;

pub use self::{
    fields::{Fields, Known},
    frame::code_name,
    message::{Head, Message},
    reader::Reader,
    recognise::{Frames, PREFACE, frames, keep_heads, looks_like_settings, opens},
};
