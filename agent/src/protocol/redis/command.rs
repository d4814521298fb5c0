//! What there is to know of a command.

use super::{
    arguments::{Arguments, Held},
    table::{Kind, Spec},
};
use crate::protocol::Place;

/// A whole command.
#[derive(Clone, Copy, Debug)]
pub struct Command<'a> {
    pub place: Place,
    arguments: &'a Arguments,
}

/// One of the words behind a command's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Argument<'a> {
    /// Its first bytes, of a key or another argument that is no secret. `None`: it is a value.
    pub shown: Option<&'a [u8]>,
    /// As it was sent.
    pub len: u64,
}

impl Argument<'_> {
    /// Whether there is more than what is shown.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.shown.is_some_and(|shown| (shown.len() as u64) < self.len)
    }
}

impl<'a> Command<'a> {
    pub(super) fn new(place: Place, arguments: &'a Arguments) -> Self {
        Self { place, arguments }
    }

    /// In upper case; what cannot be part of a name is a question mark, and a very long one is cut.
    #[must_use]
    pub fn name(&self) -> &'a str {
        str::from_utf8(self.arguments.name()).unwrap_or_default()
    }

    /// `None` for a command that is not known.
    #[must_use]
    pub fn spec(&self) -> Option<&'static Spec> {
        self.arguments.spec
    }

    #[must_use]
    pub fn kind(&self) -> Kind {
        self.spec().map_or(Kind::Plain, |spec| spec.kind)
    }

    /// The name of what it does: with its subcommand, if that is known.
    #[must_use]
    pub fn operation(&self) -> &'a str {
        self.spec().map_or(self.name(), |spec| spec.name)
    }

    /// All of them behind the name.
    #[must_use]
    pub fn argument_count(&self) -> u32 {
        self.arguments.count.unwrap_or(self.arguments.index).saturating_sub(1)
    }

    /// The first 16 of them.
    pub fn arguments(&self) -> impl ExactSizeIterator<Item = Argument<'a>> + use<'a> {
        let arguments = self.arguments;
        arguments.held().iter().map(|held| show(arguments, held))
    }

    /// Argument `at`, of which the first is 1, if it is shown and whole.
    #[must_use]
    pub fn shown(&self, at: usize) -> Option<&'a str> {
        let argument = show(self.arguments, self.arguments.held().get(at.checked_sub(1)?)?);
        str::from_utf8(argument.shown.filter(|_| !argument.is_cut())?).ok()
    }

    /// The database that a `SELECT` asks for.
    #[must_use]
    pub fn database(&self) -> Option<u32> {
        let index = self.shown(1).filter(|_| self.kind() == Kind::Select)?;
        index.parse().ok()
    }

    /// The digest of a script, or the name of a function.
    #[must_use]
    pub fn script(&self) -> Option<&'a str> {
        self.shown(1).filter(|_| self.kind() == Kind::Script)
    }
}

fn show<'a>(arguments: &'a Arguments, held: &Held) -> Argument<'a> {
    Argument { shown: held.shown.then(|| arguments.text(held)), len: held.len }
}
