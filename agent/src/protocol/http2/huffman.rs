//! The Huffman code of header strings (RFC 7541, appendix B). It is canonical: codes of one length are consecutive and
//! in the order of their symbols, so the lengths alone make it.

/// Bits of each symbol's code; the last one is EOS.
#[rustfmt::skip]
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28,
    28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5,
    6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23,
    21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
    19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    30,
];

const EOS: u16 = 256;
const LONGEST: usize = 30;
/// Codes of up to this many bits are looked up at once; the next longer ones have 10.
const SHORT: u32 = 8;

/// Of each length: its first code, and where its symbols begin in [`SYMBOLS`].
const FIRST: [(u32, u16, u16); LONGEST + 1] = {
    let mut first = [(0, 0, 0); LONGEST + 1];
    let (mut len, mut code, mut at) = (1, 0_u32, 0_u16);
    while len <= LONGEST {
        code <<= 1;
        let (mut count, mut symbol) = (0_u16, 0);
        while symbol < LENGTHS.len() {
            count += (LENGTHS[symbol] as usize == len) as u16;
            symbol += 1;
        }
        first[len] = (code, at, count);
        code += count as u32;
        at += count;
        len += 1;
    }
    first
};

/// By length of their codes, then by value.
static SYMBOLS: [u16; 257] = {
    let mut symbols = [0; 257];
    let (mut len, mut at) = (1, 0);
    while len <= LONGEST {
        let mut symbol = 0;
        while symbol < LENGTHS.len() {
            if LENGTHS[symbol] as usize == len {
                symbols[at] = symbol as u16;
                at += 1;
            }
            symbol += 1;
        }
        len += 1;
    }
    symbols
};

/// By the next 8 bits: symbol and length of a short code; length 0: it is longer.
static LOOKUP: [(u8, u8); 256] = {
    let mut lookup = [(0, 0); 256];
    let mut len = 1;
    while len <= SHORT as usize {
        let (code, at, count) = FIRST[len];
        let mut nth = 0;
        while nth < count as usize {
            let symbol = SYMBOLS[at as usize + nth] as u8;
            let from = (code as usize + nth) << (SHORT as usize - len);
            let mut fill = 0;
            while fill < 1 << (SHORT as usize - len) {
                lookup[from + fill] = (symbol, len as u8);
                fill += 1;
            }
            nth += 1;
        }
        len += 1;
    }
    lookup
};

/// Bits of a byte's code.
pub(super) fn bits(byte: u8) -> usize {
    LENGTHS[usize::from(byte)].into()
}

/// Appends what `bytes` encode to `out`; `false` if they encode nothing (RFC 7541, section 5.2): the padding is longer
/// than 7 bits or not all ones, or EOS is in them. At most 8/5 as long as they are.
pub(super) fn decode(bytes: &[u8], out: &mut Vec<u8>) -> bool {
    out.reserve(bytes.len() * 8 / 5);
    // The next bits, from the highest on, and how many there are.
    let (mut window, mut have) = (0_u64, 0_u32);
    let mut rest = bytes.iter();
    loop {
        while have <= 56 {
            let Some(&byte) = rest.next() else { break };
            window |= u64::from(byte) << (56 - have);
            have += 8;
        }
        let (symbol, len) = LOOKUP[(window >> 56) as usize];
        let len = u32::from(len);
        if len > 0 && len <= have {
            out.push(symbol);
            window <<= len;
            have -= len;
            continue;
        }
        match long(window, have) {
            Some((EOS, _)) => return false,
            Some((symbol, len)) => {
                out.push(symbol as u8);
                window <<= len;
                have -= len;
            }
            // Bits behind the last symbol are the beginning of EOS.
            None => return have < 8 && window.leading_ones() >= have,
        }
    }
}

/// Symbol and length of the code at the start of `window`, if it is whole.
fn long(window: u64, have: u32) -> Option<(u16, u32)> {
    (1..=LONGEST as u32).take_while(|&len| len <= have).find_map(|len| {
        let (first, at, count) = FIRST[len as usize];
        let nth = ((window >> (64 - len)) as u32).checked_sub(first)?;
        (nth < count.into()).then(|| (SYMBOLS[usize::from(at) + nth as usize], len))
    })
}

/// `text` in this code.
#[cfg(test)]
pub(super) fn encode(text: &[u8]) -> Vec<u8> {
    let (mut out, mut window, mut have) = (Vec::new(), 0_u64, 0);
    for &byte in text {
        let len = bits(byte);
        let (first, at, _) = FIRST[len];
        let nth = SYMBOLS[usize::from(at)..].iter().position(|&symbol| symbol == u16::from(byte));
        window = window << len | u64::from(first + nth.unwrap_or(0) as u32);
        have += len;
        while have >= 8 {
            have -= 8;
            out.push((window >> have) as u8);
        }
    }
    if have > 0 {
        out.push((window << (8 - have)) as u8 | 0xff >> have);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_comes_back_whatever_stands_around_it() {
        for a in 0..=u8::MAX {
            for b in [0, b'0', b'x', 0xff, a] {
                let text = [b'a', a, b, a];
                let mut out = Vec::new();
                assert!(decode(&encode(&text), &mut out));
                assert_eq!(out, text);
            }
        }
    }

    #[test]
    fn codes_of_the_appendix() {
        assert_eq!(
            encode(b"www.example.com"),
            *b"\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff"
        );
        assert_eq!(encode(b"no-cache"), *b"\xa8\xeb\x10\x64\x9c\xbf");
        assert_eq!(encode(b"302"), *b"\x64\x02");
        let (code, at, count) = FIRST[30];
        assert_eq!(
            (code + u32::from(count) - 1, SYMBOLS[usize::from(at + count) - 1]),
            (0x3fff_ffff, EOS)
        );
    }

    #[test]
    fn bad_padding_and_the_end_of_strings_are_refused() {
        for bad in [&b"\xff\xff\xff\xff"[..], b"\xff\xff\xff\xfc", b"\x18", b"\x1f\xff", b"\xff"] {
            assert!(!decode(bad, &mut Vec::new()), "{bad:x?}");
        }
        assert!(decode(b"\x1f", &mut Vec::new()), "an `a` and three ones");
        assert!(decode(b"", &mut Vec::new()));
    }
}
