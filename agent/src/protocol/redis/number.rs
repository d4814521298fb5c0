//! The lengths and counts of RESP, byte by byte.

/// A number and its line end, as far as they have come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Number {
    value: u64,
    sign: Sign,
    digits: u8,
    ended: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Sign {
    #[default]
    Plus,
    Minus,
    /// `?` in place of a number.
    Unknown,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Size {
    Of(u64),
    /// -1, the only negative one: there is nothing.
    Null,
    /// It comes in parts, of which the last says so.
    Streamed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    More,
    Done(Size),
    Invalid,
}

impl Number {
    /// Goes on by one byte. As Redis does, this takes neither leading zeros nor a plus.
    #[inline]
    pub(super) fn push(&mut self, byte: u8) -> Step {
        if self.ended {
            return if byte == b'\n' { Step::Done(self.size()) } else { Step::Invalid };
        }
        match byte {
            b'0'..=b'9' if self.sign != Sign::Unknown => {
                let digit = u64::from(byte - b'0');
                let zero = self.digits > 0 && self.value == 0;
                match self.value.checked_mul(10).and_then(|value| value.checked_add(digit)) {
                    Some(value) if !zero => self.value = value,
                    _ => return Step::Invalid,
                }
                self.digits += 1;
            }
            b'-' if *self == Self::default() => self.sign = Sign::Minus,
            b'?' if *self == Self::default() => (self.sign, self.digits) = (Sign::Unknown, 1),
            b'\r' if self.digits > 0 && (self.sign != Sign::Minus || self.value == 1) => {
                self.ended = true;
            }
            _ => return Step::Invalid,
        }
        Step::More
    }

    fn size(self) -> Size {
        match self.sign {
            Sign::Plus => Size::Of(self.value),
            Sign::Minus => Size::Null,
            Sign::Unknown => Size::Streamed,
        }
    }
}
