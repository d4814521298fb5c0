//! The YAML file: reads the keys that are described, and notes everything that is wrong with the rest.

use std::sync::Arc;

use super::{
    Config, Origin,
    describe::{Section, join},
    load::Notes,
    node::{Content, Entry, Node, Place},
    problem::nearest,
    value::Setting,
};

/// Sets what the file `path` with this `text` says.
pub(super) fn apply(config: &mut Config, notes: &mut Notes, path: &str, text: &str) {
    let mut reader = Reader { path: path.into(), notes };
    match Node::parse(text) {
        Ok(root) => _ = read_section(config, &mut reader, &root, ""),
        Err(error) => reader.problem(error.place, "", format!("not YAML: {}", error.message)),
    }
}

/// Reads a mapping into the keys of `section`. Whatever is none of them is a mistake: most likely a
/// misspelt one.
pub(super) fn read_section<S: Section + 'static>(
    section: &mut S,
    reader: &mut Reader<'_>,
    node: &Node,
    path: &str,
) -> bool {
    let Some(entries) = reader.entries(node, path) else { return false };
    let keys = S::keys();
    for entry in entries {
        let setting = join(path, &entry.key);
        if let Some(key) = keys.iter().find(|key| key.about.name == entry.key) {
            key.read(section, reader, &entry.value, &setting);
            continue;
        }
        let names: Vec<&str> = keys.iter().map(|key| key.about.name).collect();
        let hint = match nearest(&entry.key, names.iter().copied()) {
            Some(key) => format!("did you mean `{key}`?"),
            None => format!("expected one of {}", names.join(", ")),
        };
        reader.problem(entry.place, &setting, format!("unknown setting, {hint}"));
    }
    section.read(reader, node, entries, path);
    true
}

/// Reads nodes and notes what is wrong with them.
pub(super) struct Reader<'a> {
    path: Arc<str>,
    notes: &'a mut Notes,
}

impl Reader<'_> {
    fn origin(&self, Place { line, column }: Place) -> Origin {
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
    fn entries<'n>(&mut self, node: &'n Node, path: &str) -> Option<&'n [Entry]> {
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
