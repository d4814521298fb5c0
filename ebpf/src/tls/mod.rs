//! Plaintext of TLS libraries: what their calls moved, and on which connection.
//!
//! - [`openssl`]: the functions of OpenSSL that are probed. Another library's would be a file beside it.
//! - [`calls`]: the calls in progress, of whichever library.
//! - [`evidence`]: what tells of the connection of an object that works on memory.
//! - [`link`]: which connection an object of a library encrypts.

pub mod calls;
mod evidence;
mod link;
mod openssl;
