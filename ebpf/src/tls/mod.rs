//! Plaintext of TLS libraries: what their calls moved, and on which connection.
//!
//! - [`openssl`]: the functions of OpenSSL that are probed. Another library's would be a file beside it.
//! - [`calls`]: the calls in progress, of whichever library.
//! - [`link`]: which connection an object of a library encrypts.

pub mod calls;
mod link;
mod openssl;

pub use self::openssl::own_stack;
