//! Finds where a head ends and where one begins, without parsing it.

const NEWLINES: u64 = 0x0a0a_0a0a_0a0a_0a0a;
const LOW_BITS: u64 = 0x7f7f_7f7f_7f7f_7f7f;
const HIGH_BITS: u64 = !LOW_BITS;
/// Bytes that are looked at together.
const BLOCK: usize = 64;

/// Which of the last two bytes before a place in a head are newlines: bit 0 the last one, bit 1 the one before it. Or
/// [`FRESH`].
pub type Newlines = u32;
/// There is nothing before it.
pub const FRESH: Newlines = 1 << 2;

/// Where the first blank line (`\n\n` or `\n?\n`) ends in `data[..len]`; 0 if there is none. It may have begun in what
/// stands before, of which `before` tells. What is beyond `MOST` is ignored. `data` must be aligned to 8 and hold `len`
/// rounded up to 64.
///
/// 64 bytes at a time: about 100 instructions for each.
///
/// VERIFIER: one straight line of code an iteration (to leave out blocks without a newline costs two fifths more to
/// verify), and both ways out lead to one place with nothing but plain scalars, so that the states of all iterations
/// are pruned to one there.
#[inline(always)]
pub fn blank_line<const MOST: usize>(data: *const u8, len: usize, before: Newlines) -> usize {
    let words = data.cast::<u64>();
    // As `carry` below.
    let mut carry = u64::from(((before | before >> 1) & 1) << 7 | (before & 1) << 15);
    let mut ends = 0u64;
    let mut at = 0usize;
    while at < MOST / BLOCK && at * BLOCK < len {
        let mut others = 0u64;
        let mut index = 0;
        // Unrolled.
        while index < 8 {
            // SAFETY: `at * 64 < len`, and the caller vouches for the memory.
            let word = unsafe { words.add(at * 8 + index).read() } ^ NEWLINES;
            // The high bit of each lane whose byte is no newline (exact: no carry between lanes).
            let lanes = (((word & LOW_BITS) + LOW_BITS) | word) & HIGH_BITS;
            others |= lanes >> index;
            index += 1;
        }
        // Lane `n`, bit `7 - w`: byte `n` of word `w` is a newline.
        let newlines = !others;
        // The last two bytes of each word, moved to the lanes of those behind which they would be a blank line: by one
        // bit they are those of the word before.
        let last = newlines >> 48;
        let last = last | last >> 8;
        let wrapped = (last & 0xfefe) >> 1 | carry;
        carry = (last & 0x0101) << 7;
        ends = newlines & (newlines << 8 | newlines << 16 | wrapped);
        if ends != 0 {
            break;
        }
        at += 1;
    }
    if ends == 0 {
        return 0;
    }
    let mut word = 0;
    while word < 7 && ends << word & HIGH_BITS == 0 {
        word += 1;
    }
    let end = at * BLOCK + word * 8 + lowest_lane(ends << word & HIGH_BITS) + 1;
    // The last block may hold bytes behind `len`.
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

/// What the end of `data[..len]` hands on to [`blank_line`] of what follows; `before` stands before it. `data` must
/// hold `MOST` bytes, and `len` be at most that.
#[inline(always)]
pub fn last_newlines<const MOST: usize>(data: *const u8, len: usize, before: Newlines) -> Newlines {
    if len == 0 {
        return before;
    }
    // SAFETY: at or below `len`, which the caller vouches for. VERIFIER: the masks bound the offsets.
    let newline = |at: usize| u32::from(unsafe { data.add(at & (MOST - 1)).read() } == b'\n');
    let second = if len == 1 { before & 1 } else { newline(len - 2) };
    newline(len - 1) | second << 1
}

/// Index of the lowest lane that is 0x80 (the BPF instruction set cannot count zeros).
#[inline(always)]
const fn lowest_lane(lanes: u64) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let lowest = lanes & lanes.wrapping_neg();
    ((((lowest >> 7) - 1) & ONES).wrapping_mul(ONES) >> 56) as usize
}

/// Whether the first bytes of a fragment begin a status line.
#[inline(always)]
const fn begins_status_line(first: u64) -> bool {
    first & 0x00ff_ffff_ffff_ffff == u64::from_le_bytes(*b"HTTP/1.\0")
}

/// Whether the first bytes of a fragment, `first` in memory order (little-endian), begin an HTTP/1
/// message: `HTTP/1.`, or three capital letters as methods have them.
#[inline(always)]
pub fn begins_message(first: u64) -> bool {
    if begins_status_line(first) {
        return true;
    }
    is_capital(first as u8) && is_capital((first >> 8) as u8) && is_capital((first >> 16) as u8)
}

/// Whether that is sure of a connection that nobody has recognised, which may speak any protocol: the beginning of a status
/// line, or a method of up to seven letters with a target behind it. Others are left to the agent.
#[inline(always)]
pub fn is_surely_message(first: u64) -> bool {
    // Without branches: the verifier would follow each of them to the program's end.
    let others = !capitals(first) & HIGH_BITS;
    let letters = lowest_lane(others | 1 << 63);
    let rest = first >> (8 * letters as u32);
    let next = (rest >> 8) as u8;
    let target = (next == b'/') | (next == b'h') | (next == b'*') | (letters == 7);
    begins_status_line(first) | ((letters >= 3) & (rest as u8 == b' ') & target)
}

/// The high bit of each lane with a capital letter in it.
#[inline(always)]
const fn capitals(word: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    // No lane borrows from the next one.
    let from_a = (word | HIGH_BITS) - ONES * b'A' as u64;
    let up_to_z = ONES * (b'Z' as u64 | 0x80) - (word & LOW_BITS);
    from_a & up_to_z & !word & HIGH_BITS
}

/// Whether a head may begin so: a message, or empty lines before one (RFC 9112 section 2.2).
#[inline(always)]
pub fn begins_head(first: u64) -> bool {
    let byte = first as u8;
    byte == b'\r' || byte == b'\n' || begins_message(first)
}

#[inline(always)]
const fn is_capital(byte: u8) -> bool {
    byte.wrapping_sub(b'A') < 26
}

/// Whether a fragment begins as a connection of HTTP/2 does (RFC 9113 section 3.4), which looks like a message.
#[inline(always)]
pub fn begins_http2(first: u64) -> bool {
    const PREFACE: u64 = u64::from_le_bytes(*b"PRI * HT");
    first == PREFACE
}

/// Whether a fragment begins with the first SETTINGS of HTTP/2, which a server may send before it has read anything: no flags, on
/// stream 0, settings of six bytes (RFC 9113, section 6.5).
#[inline(always)]
pub fn greets_in_http2(first: u64) -> bool {
    first & !0xff_0000 == 0x0400_0000 && (first as u32 >> 16 & 0xff).is_multiple_of(6)
}

/// Whether a fragment begins as a TLS record does: type 20 to 23, version 3.1 to 3.4 (RFC 8446 section
/// 5.1). Not only a handshake's: the connection may have been open before it was watched.
#[inline(always)]
pub fn begins_tls(first: u64) -> bool {
    first & 0xfffc == 0x0314 && ((first >> 16) as u8).wrapping_sub(1) < 4
}
