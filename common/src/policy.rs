//! What is copied of a connection's bytes. The kernel side starts every connection with [`UNDECIDED`]; the agent
//! may replace its policy at any time, also by an earlier one (`VERDICTS`, see [`crate::control`]), and the kernel
//! side reads that advice on every fragment. Bytes that are not copied are counted, so that positions stay exact.

/// Nobody has recognised the connection yet. A turn that begins as an HTTP/1 message does makes it [`HEADS`] at once,
/// one that begins as a TLS record does [`CIPHERTEXT`], and one that begins as HTTP/2 does [`FRAMES`]. Everything
/// else is copied as by [`ALL`] up to [`UNDECIDED_LIMIT`], and by short edges from then on: the agent may be slow, and says
/// what it makes of the connection.
pub const UNDECIDED: u8 = 0;
/// HTTP/1: heads are copied whole; of content only the last 8 bytes of each fragment.
pub const HEADS: u8 = 1;
/// The first [`EDGE_FIRST`] and the last [`EDGE_LAST`] bytes of every fragment; all of it if it is no longer than both.
pub const EDGES: u8 = 2;
/// Every byte.
pub const ALL: u8 = 3;
/// Nothing is copied and no record is sent.
pub const COUNT: u8 = 4;
/// The same, for bytes are ciphertext: a TLS source yields the plaintext.
pub const CIPHERTEXT: u8 = 5;
/// `FRAMES + row`: the frames of that row of [`crate::frames`] are walked. As long as it is not known where one begins, and
/// for the rest of a call that has too many, it is as [`ALL`].
pub const FRAMES: u8 = 16;

/// Bytes that are copied of one turn, a run of bytes in one direction, however many fragments it has; a head that is longer
/// is given up. What comes in addition are the ends of fragments that [`EDGES`] asks for, and frames that are wanted
/// whatever they cost ([`crate::frames::Wanted`]).
pub const TURN_LIMIT: u32 = 64 << 10;

/// The same where every byte is wanted ([`ALL`], and what is as it). It is more, for what is hidden there may be messages
/// of others that speak on the same connection.
pub const TURN_LIMIT_OF_ALL: u32 = 256 << 10;

/// Bytes at the beginning of a fragment that [`EDGES`] copies.
pub const EDGE_FIRST: u32 = 1024;
/// Bytes at the end of a fragment that [`EDGES`] copies.
pub const EDGE_LAST: u32 = 64;

/// How much may be copied of a connection before anybody recognises it, in bytes, both directions together. Each
/// record costs [`UNDECIDED_RECORD`] beyond what is copied. Enough for some 1,000 small records: the agent looks every
/// 10 ms, when a client and a server in a hurry have exchanged about 400 requests.
pub const UNDECIDED_LIMIT: u32 = 256 << 10;
/// When so many bytes were moved before anybody recognises the connection, both directions together, its records wake the agent, which
/// would look every 10 ms otherwise: a fast connection spends all of [`UNDECIDED_LIMIT`] in less.
pub const UNDECIDED_WAKE: u32 = 32 << 10;
/// Small records take the room of larger ones in the ring.
pub const UNDECIDED_RECORD: u32 = 256;
