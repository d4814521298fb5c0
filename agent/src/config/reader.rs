//! Reads nodes of a file, and notes what is wrong with them.

use std::sync::Arc;

use super::{
    node::{Content, Entry, Node, Place},
    notes::Notes,
    problem::Origin,
    shape::join,
    value::Setting,
};

/// Reads nodes and notes what is wrong with them.
pub(super) struct Reader<'a> {
    pub(super) path: Arc<str>,
    pub(super) notes: &'a mut Notes,
}

impl Reader<'_> {
    pub(super) fn origin(&self, Place { line, column }: Place) -> Origin {
        Origin::File { path: Arc::clone(&self.path), line, column }
    }

    pub(super) fn problem(&mut self, place: Place, setting: &str, message: String) {
        self.notes.problem(self.origin(place), setting, message);
    }

    /// Remembers where the value of `setting` stands.
    pub(super) fn came_from(&mut self, setting: &str, place: Place) {
        self.notes.came_from(setting, self.origin(place));
    }

    fn unexpected(&mut self, node: &Node, setting: &str, expected: &str) {
        let message = format!("found {}, expected {expected}", node.describe());
        self.problem(node.place, setting, message);
    }

    /// Those of a mapping; a key with nothing behind it has none.
    pub(super) fn entries<'n>(&mut self, node: &'n Node, path: &str) -> Option<&'n [Entry]> {
        match &node.content {
            Content::Mapping(entries) => Some(entries),
            Content::Nothing => Some(&[]),
            _ => {
                self.unexpected(node, path, "a mapping of settings");
                None
            }
        }
    }

    pub(super) fn scalar<T: Setting>(&mut self, node: &Node, setting: &str) -> Option<T> {
        match &node.content {
            Content::Scalar(text) if node.written.is_some() => {
                let value =
                    T::parse(text).map_err(|expected| self.unexpected(node, setting, &expected));
                value.inspect(|_| self.came_from(setting, node.place)).ok()
            }
            Content::Scalar(text) => self.notes.parse(setting, self.origin(node.place), text),
            _ => {
                self.unexpected(node, setting, &T::looks().expected);
                None
            }
        }
    }

    /// The items of a list, or the one item that stands for a list of one.
    pub(super) fn items<T>(
        &mut self,
        node: &Node,
        setting: &str,
        read: impl Fn(&mut Self, &Node, &str) -> Option<T>,
    ) -> Option<Vec<T>> {
        match &node.content {
            Content::List(items) => {
                let items = items.iter().enumerate();
                let read = |(at, item)| read(self, item, &format!("{setting}[{at}]"));
                Some(items.filter_map(read).collect())
            }
            Content::Nothing => {
                self.unexpected(node, setting, "a list");
                None
            }
            _ => read(self, node, setting).map(|item| vec![item]),
        }
    }

    /// A mapping of free keys to texts.
    pub(super) fn pairs(&mut self, node: &Node, setting: &str) -> Option<Vec<(String, String)>> {
        self.pairs_of(node, setting)
    }

    /// A mapping of free keys to values.
    pub(super) fn pairs_of<T: Setting>(
        &mut self,
        node: &Node,
        setting: &str,
    ) -> Option<Vec<(String, T)>> {
        let mut pairs = Vec::new();
        for entry in self.entries(node, setting)? {
            if let Some(value) = self.scalar(&entry.value, &join(setting, &entry.key)) {
                pairs.push((entry.key.clone(), value));
            }
        }
        Some(pairs)
    }
}
