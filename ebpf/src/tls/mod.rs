//! Plaintext of TLS libraries: what their calls moved, and on which connection.
//!
//! - [`openssl`], [`go`]: the functions that are probed. Another library's would be a file beside them.
//! - [`calls`]: the calls of OpenSSL that are in progress, by thread.
//! - [`link`]: which connection an object of OpenSSL encrypts.
//! - [`plaintext`]: what becomes of the bytes that were moved.

pub mod calls;
mod go;
mod link;
mod openssl;
mod plaintext;
