//! The summary as it is written, bounded, and which of its parts are the operation and the targets.

use std::ops::Range;

/// Bytes of a summary (semconv, `db.query.summary`); what does not fit whole is left out, and all that follows it.
const MAX_LEN: usize = 255;
/// Targets that are told of apart.
const MAX_TARGETS: usize = 8;

/// A part of the summary.
type Part = Range<u8>;

/// What a target is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Collection,
    Procedure,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Outline {
    text: String,
    /// Something did not fit.
    full: bool,
    /// The operation that was written last.
    last: Part,
    /// Of the statement in progress, and how deep it stands.
    main: Option<(Part, u32)>,
    /// Of the first statement.
    first: Option<Part>,
    statements: u32,
    mixed: bool,
    collections: [Part; MAX_TARGETS],
    collections_len: u8,
    procedure: Option<Part>,
}

impl Outline {
    pub(super) fn clear(&mut self) {
        self.text.clear();
        let text = std::mem::take(&mut self.text);
        *self = Self { text, ..Self::default() };
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    fn part(&self, part: &Part) -> &str {
        self.text.get(usize::from(part.start)..usize::from(part.end)).unwrap_or_default()
    }

    fn push(&mut self, bytes: &[u8]) -> Option<Part> {
        let lossy;
        let word = match str::from_utf8(bytes) {
            Ok(word) => word,
            Err(_) => {
                lossy = String::from_utf8_lossy(bytes);
                &lossy
            }
        };
        let space = usize::from(!self.text.is_empty());
        self.full |= self.text.len() + space + word.len() > MAX_LEN;
        if self.full {
            return None;
        }
        if space > 0 {
            self.text.push(' ');
        }
        let from = self.text.len();
        self.text.push_str(word);
        // At most `MAX_LEN`.
        Some(from as u8..self.text.len() as u8)
    }

    /// An operation, so many parentheses deep.
    pub(super) fn operation(&mut self, word: &[u8], depth: u32) {
        let Some(part) = self.push(word) else { return };
        self.last = part.clone();
        if self.main.as_ref().is_none_or(|(_, before)| depth < *before) {
            self.main = Some((part, depth));
        }
    }

    /// A second word of the operation that was written last.
    pub(super) fn extend_operation(&mut self, word: &[u8]) {
        let Some(part) = self.push(word) else { return };
        if let Some((main, _)) = &mut self.main
            && *main == self.last
        {
            main.end = part.end;
        }
        self.last.end = part.end;
    }

    pub(super) fn target(&mut self, name: &[u8], role: Role) {
        let Some(part) = self.push(name) else { return };
        match role {
            Role::Collection => {
                if let Some(room) = self.collections.get_mut(usize::from(self.collections_len)) {
                    *room = part;
                    self.collections_len += 1;
                }
            }
            Role::Procedure => self.procedure = self.procedure.take().or(Some(part)),
        }
    }

    pub(super) fn end_statement(&mut self) {
        let Some((main, _)) = self.main.take() else { return };
        self.statements = self.statements.saturating_add(1);
        match &self.first {
            Some(first) => {
                self.mixed |= !self.part(first).eq_ignore_ascii_case(self.part(&main));
            }
            None => self.first = Some(main),
        }
    }

    pub(super) fn first_operation(&self) -> Option<&str> {
        self.first.as_ref().map(|part| self.part(part))
    }

    pub(super) fn statements(&self) -> u32 {
        self.statements
    }

    pub(super) fn is_mixed(&self) -> bool {
        self.mixed
    }

    pub(super) fn collections(&self) -> impl ExactSizeIterator<Item = &str> {
        self.collections[..usize::from(self.collections_len)].iter().map(|part| self.part(part))
    }

    pub(super) fn procedure(&self) -> Option<&str> {
        self.procedure.as_ref().map(|part| self.part(part))
    }
}
