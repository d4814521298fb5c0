//! Inline commands: words in a line, some of them quoted (`sdssplitargs` of Redis). People type them, and health checks
//! do. Nothing but its name says that a line is a command, so the name has to be known.

use super::arguments::Arguments;
use crate::protocol::Keep;

/// Where in a line the next byte falls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) struct Token {
    in_word: bool,
    /// What ends a quotation.
    quote: Option<u8>,
    /// Behind a backslash within quotes.
    escaped: bool,
}

impl Token {
    /// Goes on by one byte. `false`: this is no command.
    pub(super) fn push(
        &mut self,
        byte: u8,
        at: usize,
        arguments: &mut Arguments,
        keep: &mut impl Keep,
    ) -> bool {
        match byte {
            // A quotation cannot go on in another line.
            b'\n' => return self.end_word(arguments) && kept(at, keep),
            _ if std::mem::take(&mut self.escaped) => {}
            b'\\' if self.quote.is_some() => {
                self.escaped = true;
                // Also of a value: it says what the next byte means.
                arguments.grow();
                arguments.bytes(&[byte], at, &mut ());
                return kept(at, keep);
            }
            b'"' | b'\'' if self.quote == Some(byte) => {
                self.quote = None;
                return kept(at, keep);
            }
            _ if self.quote.is_some() => {}
            b' ' | b'\t' | b'\r' | 0x0b | 0x0c => {
                return self.end_word(arguments) && kept(at, keep);
            }
            b'"' | b'\'' if !arguments.is_name() => {
                self.begin_word(arguments);
                self.quote = Some(byte);
                return kept(at, keep);
            }
            _ => self.begin_word(arguments),
        }
        if arguments.is_name() {
            arguments.bytes(&[byte], at, &mut ());
            return arguments.name_may_be_known() && kept(at, keep);
        }
        arguments.grow();
        arguments.bytes(&[byte], at, keep);
        true
    }

    fn begin_word(&mut self, arguments: &mut Arguments) {
        if !self.in_word {
            self.in_word = true;
            arguments.begin_argument(0);
        }
    }

    /// Whether the first word is a command.
    fn end_word(&mut self, arguments: &mut Arguments) -> bool {
        if self.in_word {
            *self = Self::default();
            arguments.end_argument();
        }
        arguments.spec.is_some()
    }
}

fn kept(at: usize, keep: &mut impl Keep) -> bool {
    keep.keep(at..at + 1);
    true
}
