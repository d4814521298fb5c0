//! Finds where a head ends and where one begins, without parsing it.

/// Bytes of a fragment that are searched for its head's end.
pub const WINDOW: usize = 1024;

const NEWLINES: u64 = 0x0a0a_0a0a_0a0a_0a0a;
const LOW_BITS: u64 = 0x7f7f_7f7f_7f7f_7f7f;

/// Where the first blank line (`\n\n` or `\n?\n`) ends in `data[..len]`; 0 if there is none. What
/// is beyond `MOST` is ignored. `data` must be aligned to 8 and hold `len` rounded up to 8.
///
/// Eight bytes at a time: about 30 instructions for each.
///
/// VERIFIER: one straight line of code an iteration (to leave out words without a newline costs two fifths more to
/// verify), and both ways out lead to one place with nothing but plain scalars, so that the states of all iterations
/// are pruned to one there.
#[inline(always)]
pub fn blank_line<const MOST: usize>(data: *const u8, len: usize) -> usize {
    let words = data.cast::<u64>();
    let mut before = 0u64; // newline lanes of the word before
    let mut ends = 0u64;
    let mut at = 0usize;
    while at < MOST / 8 && at * 8 < len {
        // SAFETY: `at * 8 < len`, and the caller vouches for the memory.
        let word = unsafe { words.add(at).read() } ^ NEWLINES;
        // 0x80 in each lane whose byte was a newline (exact: no carry between lanes).
        let lanes = !(((word & LOW_BITS) + LOW_BITS) | word | LOW_BITS);
        ends = lanes & (lanes << 8 | before >> 56 | lanes << 16 | before >> 48);
        if ends != 0 {
            break;
        }
        before = lanes;
        at += 1;
    }
    if ends == 0 {
        return 0;
    }
    let end = at * 8 + lowest_lane(ends) + 1;
    // The last word may hold bytes behind `len`.
    if end > len { 0 } else { end }
}

/// Whether `data[..len]` ends with a blank line. `data` must hold `MOST` bytes, and `len` be at most that.
#[inline(always)]
pub fn ends_with_blank_line<const MOST: usize>(data: *const u8, len: usize) -> bool {
    if len < 4 {
        return false;
    }
    // VERIFIER: the mask bounds the offset.
    let at = (len - 3) & (MOST - 1);
    // SAFETY: `at + 3 <= len`, which the caller vouches for.
    let byte = |index| unsafe { data.add(at + index).read() };
    byte(2) == b'\n' && (byte(1) == b'\n' || byte(0) == b'\n')
}

/// Index of the lowest lane that is 0x80 (the BPF instruction set cannot count zeros).
#[inline(always)]
const fn lowest_lane(lanes: u64) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let lowest = lanes & lanes.wrapping_neg();
    ((((lowest >> 7) - 1) & ONES).wrapping_mul(ONES) >> 56) as usize
}

/// Whether the first bytes of a fragment, `first` in memory order (little-endian), begin an HTTP/1
/// message: `HTTP/1.`, or three capital letters as methods have them.
#[inline(always)]
pub fn begins_message(first: u64) -> bool {
    const STATUS_LINE: u64 = u64::from_le_bytes(*b"HTTP/1.\0");
    if first & 0x00ff_ffff_ffff_ffff == STATUS_LINE {
        return true;
    }
    is_capital(first as u8) && is_capital((first >> 8) as u8) && is_capital((first >> 16) as u8)
}

#[inline(always)]
const fn is_capital(byte: u8) -> bool {
    byte.wrapping_sub(b'A') < 26
}

/// Whether a fragment begins as a TLS record does: type 20 to 23, major version 3 (RFC 8446 section
/// 5.1). Not only a handshake's: the connection may have been open before it was watched.
#[inline(always)]
pub fn begins_tls(first: u64) -> bool {
    first & 0xfffc == 0x0314
}
