//! Where versions of rustls have what `encrypt` and `decrypt` are given, and what they give.
//!
//! None of it is a stable interface: the agent looks into the code of each file, and what is read here has to fit together.

use super::proof::{HEADER, NONCE};
use crate::user::read_user;

/// The variants of `Error` that the functions of 0.23 may give have lesser numbers, and that of `Ok` is greater.
const LAST_ERROR: u8 = 0x11;

/// What a record adds to its plaintext (RFC 5288, 3; RFC 8446, 5.2): a tag, and a nonce, a type (TLS 1.2, 1.3) or neither.
const fn is_overhead(more: u64) -> bool {
    more == 16 || more == 17 || more == 24
}

/// Plaintext that is to be encrypted.
pub(super) struct Plaintext {
    /// `ContentType`, in the order of its declaration.
    pub(super) kind: u8,
    pub(super) len: u64,
    /// One buffer at `base`, or `count` of them, told of there, of whose first `skip` bytes are left out.
    pub(super) single: bool,
    pub(super) base: u64,
    pub(super) count: u64,
    pub(super) skip: u64,
}

/// Plaintext of a record that was decrypted.
pub(super) struct Decrypted {
    pub(super) base: u64,
    pub(super) len: u64,
    pub(super) kind: u8,
    /// It lies within the record.
    pub(super) fits: bool,
}

pub(super) trait Version {
    /// `encrypt` is given a message there.
    fn plaintext(message: u64) -> Option<Plaintext>;

    /// Where the record of `total` bytes of plaintext begins that `encrypt` gave, with its header; `None`: it gave none.
    fn record(result: u64, total: u64) -> Option<u64>;

    /// Place and length of the ciphertext that `decrypt` is given.
    fn ciphertext(message: u64) -> Option<[u64; 2]>;

    /// What `decrypt` gave of such; `None`: nothing.
    fn decrypted(result: u64, ciphertext: [u64; 2]) -> Option<Decrypted>;
}

/// 0.23: messages are borrowed, and a record has room for its header.
pub(super) struct V0_23;

impl Version for V0_23 {
    /// `{0, ptr, len, .., type}` or `{ptr to (ptr, len), count, start, end, type}`.
    #[inline(always)]
    fn plaintext(message: u64) -> Option<Plaintext> {
        let [chunks, first, second, third, kind] = read_user::<[u64; 5]>(message)?;
        let single = chunks == 0;
        let len = if single { second } else { third.wrapping_sub(second) };
        let (base, count, skip) = if single { (first, 1, 0) } else { (chunks, first, second) };
        Some(Plaintext { kind: kind as u8, len, single, base, count, skip })
    }

    /// `{tag, capacity, ptr, len, ..}`.
    #[inline(always)]
    fn record(result: u64, total: u64) -> Option<u64> {
        let [tag, _, base, len] = read_user::<[u64; 4]>(result)?;
        let more = len.wrapping_sub(total).wrapping_sub(HEADER);
        (tag as u8 > LAST_ERROR && is_overhead(more)).then_some(base)
    }

    /// `{ptr, len, ..}`.
    #[inline(always)]
    fn ciphertext(message: u64) -> Option<[u64; 2]> {
        read_user(message)
    }

    /// `{tag, ptr, len, type}`.
    #[inline(always)]
    fn decrypted(result: u64, [given, given_len]: [u64; 2]) -> Option<Decrypted> {
        let [tag, base, len, kind] = read_user::<[u64; 4]>(result)?;
        let before = base.wrapping_sub(given);
        let fits = before <= NONCE && before + len <= given_len;
        (tag as u8 > LAST_ERROR).then_some(Decrypted { base, len, kind: kind as u8, fits })
    }
}

/// 0.21 and 0.22: `encrypt` borrows its message; the others are `Vec`s `{capacity, ptr, len}`, version and type behind them, and a
/// word before a result is 0 for `Ok`. A record has no room for its header.
pub(super) struct V0_22;

impl Version for V0_22 {
    /// `{ptr, len, type, version}`.
    #[inline(always)]
    fn plaintext(message: u64) -> Option<Plaintext> {
        let [base, len, kind] = read_user::<[u64; 3]>(message)?;
        Some(Plaintext { kind: kind as u8, len, single: true, base, count: 1, skip: 0 })
    }

    #[inline(always)]
    fn record(result: u64, total: u64) -> Option<u64> {
        let [tag, capacity, base, len] = read_user::<[u64; 4]>(result)?;
        let as_made = tag == 0 && len <= capacity && is_overhead(len.wrapping_sub(total));
        as_made.then_some(base.wrapping_sub(HEADER))
    }

    #[inline(always)]
    fn ciphertext(message: u64) -> Option<[u64; 2]> {
        let [capacity, base, len] = read_user::<[u64; 3]>(message)?;
        (len <= capacity).then_some([base, len])
    }

    /// What was given, shortened.
    #[inline(always)]
    fn decrypted(result: u64, [given, given_len]: [u64; 2]) -> Option<Decrypted> {
        let [tag, _, base, len, last] = read_user::<[u64; 5]>(result)?;
        let fits = base == given && len <= given_len.saturating_sub(16);
        (tag == 0).then_some(Decrypted { base, len, kind: (last >> 32) as u8, fits })
    }
}
