//! The chunked transfer coding (RFC 9112 section 7.1) as a machine that is fed bytes where they were
//! captured and told how many were not where they were not: inside a chunk's data nothing is lost.

/// How many of a content's last bytes [`tail_ends_content`] looks at.
pub const TAIL_LEN: usize = 8;

/// Where in the coding the next byte falls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// The digits of a chunk's size; how many there were.
    Size(u8),
    /// The rest of the size line: extensions.
    Extension,
    /// A chunk's data, or the line end behind it.
    Data,
    DataEnd,
    /// The start of a line of the trailer section, or inside one.
    Trailer,
    TrailerLine,
    Done,
}

/// What came of more bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// All were used; the content goes on.
    More,
    /// The content ended after this many of them.
    Done(usize),
    /// This is not the chunked coding.
    Invalid,
    /// Framing lies in bytes that were not captured: where the content ends can no longer be told.
    Blind,
}

/// A decoder in mid-content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunked {
    at: At,
    /// Bytes left in the chunk; while in [`At::Size`], the number so far.
    left: u64,
    /// Decoded content so far, bytes.
    content_len: u64,
}

impl Default for Chunked {
    fn default() -> Self {
        Self { at: At::Size(0), left: 0, content_len: 0 }
    }
}

impl Chunked {
    /// Bytes of decoded content so far.
    #[must_use]
    pub fn content_len(&self) -> u64 {
        self.content_len
    }

    /// Goes on by captured bytes. After anything but [`Progress::More`] the decoder is used up.
    pub fn feed(&mut self, bytes: &[u8]) -> Progress {
        let mut used = 0;
        while let Some(&byte) = bytes.get(used) {
            match self.at {
                At::Data => {
                    let available = bytes.len() - used;
                    let step = usize::try_from(self.left).map_or(available, |l| l.min(available));
                    self.take(step as u64);
                    used += step;
                    continue;
                }
                At::Size(digits) => match (byte as char).to_digit(16) {
                    Some(digit) if digits < 16 => {
                        self.left = self.left << 4 | u64::from(digit);
                        self.at = At::Size(digits + 1);
                    }
                    None if digits > 0 && matches!(byte, b'\r' | b';' | b' ' | b'\t') => {
                        self.at = At::Extension;
                    }
                    None if digits > 0 && byte == b'\n' => self.size_ended(),
                    _ => return Progress::Invalid,
                },
                At::Extension if byte == b'\n' => self.size_ended(),
                At::DataEnd => match byte {
                    b'\r' => {}
                    b'\n' => (self.at, self.left) = (At::Size(0), 0),
                    _ => return Progress::Invalid,
                },
                At::Trailer => match byte {
                    b'\r' => {}
                    b'\n' => {
                        self.at = At::Done;
                        return Progress::Done(used + 1);
                    }
                    _ => self.at = At::TrailerLine,
                },
                At::TrailerLine if byte == b'\n' => self.at = At::Trailer,
                At::Extension | At::TrailerLine => {}
                At::Done => return Progress::Done(used),
            }
            used += 1;
        }
        Progress::More
    }

    /// Goes on by `len` bytes that were not captured.
    pub fn skip(&mut self, len: u64) -> Progress {
        match self.at {
            _ if len == 0 => Progress::More,
            At::Data if len <= self.left => {
                self.take(len);
                Progress::More
            }
            At::Data => {
                self.content_len += self.left;
                Progress::Blind
            }
            _ => Progress::Blind,
        }
    }

    /// Copies what [`Self::feed`] would act upon of `bytes` to `out`, which is as long: sizes and line
    /// ends, but neither data nor extensions nor trailers.
    pub fn copy_framing(mut self, bytes: &[u8], out: &mut [u8]) {
        let mut used = 0;
        while let Some(&byte) = bytes.get(used) {
            if self.at == At::Data {
                let available = bytes.len() - used;
                let step = usize::try_from(self.left).map_or(available, |l| l.min(available));
                self.take(step as u64);
                used += step;
                continue;
            }
            let acted_upon = match self.at {
                At::Size(_) => byte.is_ascii_hexdigit() || b"\r\n; \t".contains(&byte),
                At::DataEnd | At::Trailer => matches!(byte, b'\r' | b'\n'),
                _ => byte == b'\n',
            };
            if acted_upon {
                out[used] = byte;
            }
            if self.feed(&[byte]) != Progress::More {
                return;
            }
            used += 1;
        }
    }

    fn size_ended(&mut self) {
        self.at = if self.left == 0 { At::Trailer } else { At::Data };
    }

    fn take(&mut self, len: u64) {
        self.left -= len;
        self.content_len = self.content_len.saturating_add(len);
        if self.left == 0 {
            self.at = At::DataEnd;
        }
    }
}

/// Whether content of which only the last bytes are known seems to end with the last chunk and an
/// empty trailer section. `tail` holds up to 8 bytes, the content's last one last.
#[must_use]
pub fn tail_ends_content(tail: &[u8]) -> bool {
    match tail.strip_suffix(b"0\r\n\r\n").or_else(|| tail.strip_suffix(b"0\n\n")) {
        // Without a byte before it the digit may be the end of a longer number: not taken for one.
        Some(before) => before.last() == Some(&b'\n'),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &[u8] = b"4;x=\"y\"\r\nWiki\r\n00C \r\n in chunks.\n\r\n0\r\nTrailer: t\r\n\r\n";

    #[test]
    fn decodes_extensions_and_trailers() {
        let mut decoder = Chunked::default();
        let with_next = [BODY, b"HTTP/1.1"].concat();
        assert_eq!(decoder.feed(&with_next), Progress::Done(BODY.len()));
        assert_eq!(decoder.content_len(), 16);
    }

    #[test]
    fn ends_at_the_same_byte_however_it_is_split() {
        for split in 0..BODY.len() {
            let mut decoder = Chunked::default();
            assert_eq!(decoder.feed(&BODY[..split]), Progress::More, "{split}");
            assert_eq!(decoder.feed(&BODY[split..]), Progress::Done(BODY.len() - split));
            assert_eq!(decoder.content_len(), 16);
        }
    }

    #[test]
    fn accepts_bare_line_feeds() {
        assert_eq!(Chunked::default().feed(b"1\na\n0\n\n"), Progress::Done(7));
    }

    #[test]
    fn rejects_malformed_sizes() {
        for bytes in [&b"\r\n"[..], b"x", b"-1\r\n", b"11111111111111111\r\n", b"1\r\nab"] {
            assert_eq!(Chunked::default().feed(bytes), Progress::Invalid);
        }
    }

    #[test]
    fn the_largest_chunk_does_not_overflow() {
        let mut decoder = Chunked::default();
        assert_eq!(decoder.feed(b"ffffffffffffffff\r\n"), Progress::More);
        assert_eq!(decoder.skip(u64::MAX), Progress::More);
        assert_eq!(decoder.feed(b"\r\nffffffffffffffff\r\nabc"), Progress::More);
    }

    #[test]
    fn uncaptured_bytes_inside_a_chunk_cost_nothing() {
        let mut decoder = Chunked::default();
        assert_eq!(decoder.feed(b"ff\r\nabc"), Progress::More);
        assert_eq!(decoder.skip(252), Progress::More);
        assert_eq!(decoder.feed(b"\r\n0\r\n\r\n"), Progress::Done(7));
        assert_eq!(decoder.content_len(), 255);
    }

    #[test]
    fn uncaptured_framing_is_blind() {
        let mut decoder = Chunked::default();
        assert_eq!(decoder.feed(b"ff\r\nabc"), Progress::More);
        assert_eq!(decoder.skip(253), Progress::Blind);
        assert_eq!(Chunked::default().skip(1), Progress::Blind);
        assert_eq!(Chunked::default().skip(0), Progress::More);
    }

    #[test]
    fn framing_alone_ends_at_the_same_byte() {
        let mut framing = vec![0; BODY.len()];
        Chunked::default().copy_framing(BODY, &mut framing);
        assert_eq!(
            framing.escape_ascii().to_string(),
            r"4;\x00\x00\x00\x00\x00\x00\n\x00\x00\x00\x00\r\n00C \x00\n".to_owned()
                + &r"\x00".repeat(12)
                + r"\r\n0\r\n"
                + &r"\x00".repeat(10)
                + r"\x00\n\r\n"
        );
        for split in 0..BODY.len() {
            let (mut whole, mut bare) = (Chunked::default(), Chunked::default());
            whole.feed(&BODY[..split]);
            let mut rest = vec![0; BODY.len() - split];
            whole.copy_framing(&BODY[split..], &mut rest);
            assert_eq!(rest, framing[split..]);
            bare.feed(&framing[..split]);
            assert_eq!(bare, whole);
            assert_eq!(bare.feed(&rest), Progress::Done(rest.len()));
        }
    }

    #[test]
    fn a_tail_ends_content_only_with_a_whole_last_chunk() {
        assert!(tail_ends_content(b"a\r\n0\r\n\r\n"));
        assert!(tail_ends_content(b"\r\n0\r\n\r\n"));
        assert!(!tail_ends_content(b"0\r\n\r\n"));
        assert!(!tail_ends_content(b"\r\n10\r\n\r\n"));
        assert!(!tail_ends_content(b"0\r\n\r\nab"));
        assert!(!tail_ends_content(b""));
    }
}
