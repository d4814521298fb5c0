//! What of a command's arguments is held while it is read: its name, those arguments that may be shown, and the
//! lengths of the others.

use super::table::{self, Keys, Kind, Spec};
use crate::protocol::Keep;

/// Arguments that are told of, behind the name. Of those beyond there is only the number.
pub(super) const MAX_ARGUMENTS: usize = 16;
/// Bytes of an argument that are held.
pub(super) const MAX_SHOWN: usize = 128;
/// Bytes of a name that are held; the longest known one has 20.
pub(super) const MAX_NAME: usize = 32;
/// Room for any word that is looked for, and for a container's name with its subcommand.
const MAX_WORD: usize = 32;
/// Digits of the number of keys.
const MAX_DIGITS: usize = 10;
/// Memory that is kept for the next command.
const RETAINED: usize = 256;

/// One argument.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Held {
    /// As it was sent.
    pub(super) len: u64,
    /// Where in the text; at most [`MAX_ARGUMENTS`] times [`MAX_SHOWN`].
    pub(super) from: u16,
    pub(super) to: u16,
    pub(super) shown: bool,
}

/// What the bytes of the argument in progress are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Role {
    Name,
    #[default]
    Value,
    Shown,
    /// The number of keys that follow.
    Number,
    /// Perhaps a word that says what follows, or a subcommand; as long as it may become one.
    Word,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Arguments {
    /// With its name; not known before its end for an inline command.
    pub(super) count: Option<u32>,
    /// Of the argument in progress.
    pub(super) index: u32,
    role: Role,
    name: [u8; MAX_NAME],
    name_len: u8,
    /// Bytes of the name are not known: it is none that can be looked up.
    name_hidden: bool,
    pub(super) spec: Option<&'static Spec>,
    /// Where the word was found that keys stand behind.
    word_at: Option<u32>,
    /// As many keys follow.
    numbered: Option<u32>,
    word: [u8; MAX_WORD],
    word_len: u8,
    held: [Held; MAX_ARGUMENTS],
    held_len: u8,
    text: Vec<u8>,
}

impl Arguments {
    /// For another command, with `count` words if that is known.
    pub(super) fn begin(&mut self, count: Option<u32>) {
        self.count = count;
        (self.index, self.role) = (0, Role::Name);
        (self.name_len, self.name_hidden, self.spec) = (0, false, None);
        (self.word_at, self.numbered, self.word_len) = (None, None, 0);
        self.held_len = 0;
        self.text.clear();
    }

    /// Gives back memory. Only between commands.
    pub(super) fn release(&mut self) {
        if self.text.capacity() > RETAINED {
            self.text = Vec::new();
        }
    }

    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.text.capacity()
    }

    pub(super) fn name(&self) -> &[u8] {
        &self.name[..usize::from(self.name_len)]
    }

    pub(super) fn held(&self) -> &[Held] {
        &self.held[..usize::from(self.held_len)]
    }

    pub(super) fn text(&self, held: &Held) -> &[u8] {
        &self.text[usize::from(held.from)..usize::from(held.to)]
    }

    /// The next one begins, of `len` bytes (0 if that is not known yet).
    pub(super) fn begin_argument(&mut self, len: u64) {
        self.role = self.role_of_next();
        self.word_len = 0;
        if self.index > 0 && self.held().len() < MAX_ARGUMENTS {
            let from = self.text.len() as u16;
            let shown = matches!(self.role, Role::Shown | Role::Number);
            self.held[self.held().len()] = Held { len, from, to: from, shown };
            self.held_len += 1;
        } else if self.index > 0 {
            self.role = Role::Value;
        }
        match self.role {
            Role::Number => self.numbered = Some(0),
            Role::Word if len > MAX_WORD as u64 => self.role = Role::Value,
            Role::Word if self.is_subcommand() => {
                // The container's name is looked up with it.
                let name_len = usize::from(self.name_len).min(MAX_WORD - 1);
                self.word[..name_len].copy_from_slice(&self.name[..name_len]);
                self.word[name_len] = b' ';
                self.word_len = name_len as u8 + 1;
            }
            _ => {}
        }
    }

    fn is_subcommand(&self) -> bool {
        self.index == 1 && self.spec.is_some_and(|spec| spec.kind == Kind::Container)
    }

    fn role_of_next(&self) -> Role {
        let index = self.index;
        let Some(spec) = self.spec else {
            return if index == 0 { Role::Name } else { Role::Value };
        };
        if self.is_subcommand() {
            return Role::Word;
        }
        let shown = |yes: bool| if yes { Role::Shown } else { Role::Value };
        if spec.shown != 0 && index == u32::from(spec.shown) {
            return Role::Shown;
        }
        match spec.keys {
            Keys::None => Role::Value,
            Keys::Range { first, last, step } => {
                let first = u32::from(first);
                let last = match (u32::try_from(last), self.count) {
                    (Ok(last), _) => last,
                    (Err(_), Some(count)) => count.saturating_sub(last.unsigned_abs().into()),
                    (Err(_), None) if last == -1 => u32::MAX,
                    (Err(_), None) => first,
                };
                let behind = index.checked_sub(first).filter(|_| index <= last);
                shown(behind.is_some_and(|behind| behind.is_multiple_of(step.into())))
            }
            Keys::Counted { at, destination } => match index.checked_sub(at.into()) {
                None => shown(destination && index == 1),
                Some(0) => Role::Number,
                Some(behind) => shown(self.numbered.is_some_and(|number| behind <= number)),
            },
            Keys::Streams { from } => match (self.word_at, self.count) {
                (Some(word), Some(count)) => shown(index <= word + (count - word - 1) / 2),
                (Some(_), None) => Role::Value,
                (None, _) if index >= from.into() => Role::Word,
                (None, _) => Role::Value,
            },
            Keys::Store => match self.word_at {
                Some(word) => shown(index == word + 1),
                None if index == 1 => Role::Shown,
                None => Role::Word,
            },
            Keys::Migrate => match self.word_at {
                Some(_) => Role::Shown,
                None if index == 3 => Role::Shown,
                None if index > 5 => Role::Word,
                None => Role::Value,
            },
        }
    }

    /// Bytes of it that stand at `at` in what `keep` is told of.
    pub(super) fn bytes(&mut self, bytes: &[u8], at: usize, keep: &mut impl Keep) {
        match self.role {
            Role::Value => {}
            Role::Name => {
                bytes.iter().zip(at..).for_each(|(byte, at)| self.name_byte(*byte, at, keep))
            }
            Role::Shown => {
                let bytes = &bytes[..bytes.len().min(MAX_SHOWN - self.last_len())];
                self.push(bytes);
                keep.keep(at..at + bytes.len());
            }
            Role::Number | Role::Word => {
                for (byte, at) in bytes.iter().zip(at..) {
                    let fits = match self.role {
                        Role::Number => self.number_byte(*byte),
                        Role::Word => self.word_byte(*byte),
                        _ => return,
                    };
                    if fits {
                        keep.keep(at..at + 1);
                    } else {
                        self.is_a_value();
                    }
                }
            }
        }
    }

    fn name_byte(&mut self, byte: u8, at: usize, keep: &mut impl Keep) {
        let Some(room) = self.name.get_mut(usize::from(self.name_len)) else {
            self.name_hidden = true;
            return;
        };
        self.name_len += 1;
        if byte.is_ascii_alphanumeric() || b"._-|".contains(&byte) {
            *room = byte.to_ascii_uppercase();
            keep.keep(at..at + 1);
        } else {
            *room = b'?';
            keep.mask(at..at + 1, b'?');
        }
    }

    fn number_byte(&mut self, byte: u8) -> bool {
        let digit = u32::from(byte.wrapping_sub(b'0'));
        if digit > 9 || self.last_len() == MAX_DIGITS {
            return false;
        }
        let before = self.numbered.unwrap_or(0);
        let Some(number) = before.checked_mul(10).and_then(|n| n.checked_add(digit)) else {
            return false;
        };
        self.numbered = Some(number);
        self.push(&[byte]);
        true
    }

    /// Takes one more byte of a word if there is one that begins like this.
    fn word_byte(&mut self, byte: u8) -> bool {
        let len = usize::from(self.word_len);
        if len == MAX_WORD {
            return false;
        }
        self.word[len] = byte.to_ascii_uppercase();
        let word = &self.word[..=len];
        let begins = self.words().iter().any(|known| known.starts_with(word))
            || self.is_subcommand() && table::begins(word);
        if begins {
            self.word_len += 1;
            self.push(&[byte]);
        }
        begins
    }

    fn words(&self) -> &'static [&'static [u8]] {
        match self.spec.map(|spec| spec.keys) {
            Some(Keys::Streams { .. }) => &[b"STREAMS"],
            Some(Keys::Store) => &[b"STORE", b"STOREDIST"],
            Some(Keys::Migrate) => &[b"KEYS"],
            _ => &[],
        }
    }

    /// More text of the argument in progress.
    fn push(&mut self, bytes: &[u8]) {
        self.text.extend_from_slice(bytes);
        if let Some(held) = self.last() {
            held.to += bytes.len() as u16;
        }
    }

    fn last(&mut self) -> Option<&mut Held> {
        let last = usize::from(self.held_len).checked_sub(1)?;
        self.held.get_mut(last)
    }

    fn last_len(&self) -> usize {
        self.held().last().map_or(0, |held| usize::from(held.to - held.from))
    }

    /// It turned out not to be what it might have been, so nothing of it is held.
    fn is_a_value(&mut self) {
        if self.role == Role::Number {
            self.numbered = None;
        }
        self.role = Role::Value;
        if let Some(held) = self.last() {
            (held.to, held.shown) = (held.from, false);
            let from = usize::from(held.from);
            self.text.truncate(from);
        }
    }

    /// `len` bytes of it were not captured.
    pub(super) fn hole(&mut self, len: u64) {
        match self.role {
            _ if len == 0 => {}
            Role::Name => self.name_hidden = true,
            Role::Number | Role::Word => self.is_a_value(),
            // What comes behind a hole does not belong to what stands before it.
            Role::Shown => self.role = Role::Value,
            Role::Value => {}
        }
    }

    /// One more byte of an argument whose length was not known.
    pub(super) fn grow(&mut self) {
        if self.index as usize <= MAX_ARGUMENTS
            && let Some(held) = self.last()
        {
            held.len += 1;
        }
    }

    /// The argument in progress ended.
    pub(super) fn end_argument(&mut self) {
        match self.role {
            Role::Name if !self.name_hidden => self.spec = table::find(self.name()),
            Role::Word => self.end_word(),
            _ => {}
        }
        self.role = Role::Value;
        self.index += 1;
    }

    fn end_word(&mut self) {
        let word = &self.word[..usize::from(self.word_len)];
        if self.is_subcommand() {
            match table::find(word) {
                Some(spec) => self.spec = Some(spec),
                None => return self.is_a_value(),
            }
        } else if self.words().contains(&word) {
            self.word_at = Some(self.index);
        } else {
            return self.is_a_value();
        }
        if let Some(held) = self.last() {
            held.shown = true;
        }
    }

    /// Whether a name that is not complete may become that of a command.
    pub(super) fn name_may_be_known(&self) -> bool {
        table::begins(self.name())
    }

    pub(super) fn is_name(&self) -> bool {
        self.index == 0
    }
}
