//! Plaintext of TLS libraries: what their calls moved, and on which connection.
//!
//! - [`openssl`], [`go`], [`rustls`]: the functions that are probed. Another library's would be a file beside them.
//! - [`calls`]: the calls of OpenSSL that are in progress, by thread.
//! - [`evidence`]: what tells of the connection of an object that works on memory.
//! - [`link`]: which connection an object of OpenSSL encrypts.
//! - [`plaintext`]: what becomes of the bytes that were moved.

pub mod calls;
mod evidence;
mod go;
mod link;
mod openssl;
mod plaintext;
pub mod rustls;

pub use self::plaintext::own_stack;
