//! What a key of the configuration is. Each is described once, where its type is declared ([`section!`]);
//! reading files, variables and flags, `remora config show`, the JSON Schema, docs/configuration.md, the
//! command line's help and what a reload may change all follow from that.

use serde_json::Value as Json;

use super::{
    node::{Entry, Node},
    problem::nearest,
    reader::Reader,
    shape::{About, Flag, Shape, Variable, join, sentence},
};

/// Something that a key can hold: one value, a list, pairs, or further keys.
pub(super) trait Value {
    /// Takes what a node of the file says; whether that could be read. What could not be is noted.
    fn read(&mut self, reader: &mut Reader<'_>, node: &Node, setting: &str) -> bool;

    /// Takes what a variable or a flag says, as far as it can be read.
    ///
    /// # Errors
    /// What was found and what was expected.
    fn read_text(&mut self, text: &str) -> Result<(), String>;

    /// As it would stand in a file; `null` where nothing is said. Secrets are `REDACTED` unless they
    /// are asked for.
    fn shown(&self, secrets: bool) -> Json;

    /// What it looks like in a file.
    fn shape(&self) -> Shape;

    /// Visits what is set by one key, with paths below `path`. `false` if this is not a section.
    fn leaves(&mut self, _path: &str, _visit: &mut dyn FnMut(&str, &mut dyn Leaf)) -> bool {
        false
    }
}

/// A mapping of known keys.
pub(super) trait Section: Default {
    /// What it is about, in a sentence or two.
    const ABOUT: &'static [&'static str];

    fn keys() -> Vec<Key<Self>>;

    /// Looks at all that was read at once.
    fn read(&mut self, _reader: &mut Reader<'_>, _node: &Node, _entries: &[Entry], _setting: &str) {
    }
}

type Access<S> = Box<dyn for<'a> Fn(&'a mut S) -> &'a mut dyn Value>;

/// Says what is wrong with a value.
type Rule<V> = dyn Fn(&V) -> Result<(), String>;
type Check<S> = dyn Fn(&mut S) -> Result<(), String>;

/// A key of a section.
pub(super) struct Key<S> {
    pub(super) about: About,
    access: Access<S>,
    rule: Box<Check<S>>,
    reset: Box<dyn Fn(&mut S)>,
}

/// A key in the making, of a value of type `V`.
pub(super) struct Draft<S, V> {
    about: About,
    access: fn(&mut S) -> &mut V,
    rules: Vec<Box<Rule<V>>>,
}

impl<S: Section + 'static, V: Value + Samples + 'static> Draft<S, V> {
    pub(super) fn new(
        name: &'static str,
        doc: &[&str],
        access: fn(&mut S) -> &mut V,
        default: &mut V,
    ) -> Self {
        let about = About {
            name,
            doc: sentence(doc),
            shape: default.shape(),
            default: default.shown(false),
            bounds: None,
            variables: Vec::new(),
            flag: None,
            also: "",
            live: false,
            samples: V::samples(),
        };
        Self { about, access, rules: Vec::new() }
    }

    pub(super) fn done(self) -> Key<S> {
        let Self { about, access, rules } = self;
        Key {
            about,
            access: Box::new(move |section| access(section)),
            rule: Box::new(move |section| {
                let value = access(section);
                rules.iter().try_for_each(|rule| rule(value))
            }),
            reset: Box::new(move |section| {
                std::mem::swap(access(section), access(&mut S::default()));
            }),
        }
    }
}

impl<S, V: Value + 'static> Draft<S, V> {
    /// The file's name of it, where the field has another.
    pub(super) fn named(mut self, name: &'static str) -> Self {
        self.about.name = name;
        self
    }

    /// A running agent takes a new value.
    pub(super) fn live(mut self) -> Self {
        self.about.live = true;
        self
    }

    pub(super) fn variable(self, name: &'static str) -> Self {
        self.spelled(name, |text| Ok(text.to_owned()), &[])
    }

    /// A variable with a spelling of its own.
    pub(super) fn spelled(
        mut self,
        name: &'static str,
        spelling: fn(&str) -> Result<String, String>,
        samples: &'static [&'static str],
    ) -> Self {
        self.about.variables.push(Variable { name, spelling, samples });
        self
    }

    pub(super) fn flag(
        mut self,
        name: &'static str,
        value_name: &'static str,
        heading: &'static str,
    ) -> Self {
        self.about.flag = Some(Flag { name, value_name, heading });
        self
    }

    /// What else sets it.
    pub(super) fn also(mut self, what: &'static str) -> Self {
        self.about.also = what;
        self
    }

    /// The value lies within these bounds.
    pub(super) fn within(mut self, least: V, most: V) -> Self
    where
        V: PartialOrd,
    {
        let said = |value: &V| match value.shown(true) {
            Json::String(text) => text,
            other => other.to_string(),
        };
        self.about.bounds = Some((least.shown(true), most.shown(true)));
        self.rule(move |value| {
            if (&least..=&most).contains(&value) {
                return Ok(());
            }
            let (found, least, most) = (said(value), said(&least), said(&most));
            Err(format!("found {found}, expected {least} to {most}"))
        })
    }

    /// A rule that every value keeps; the error says what was found and what was expected.
    pub(super) fn rule(mut self, rule: impl Fn(&V) -> Result<(), String> + 'static) -> Self {
        self.rules.push(Box::new(rule));
        self
    }
}

impl<S: Section + 'static> Key<S> {
    /// Takes what the file says.
    pub(super) fn read(&self, section: &mut S, reader: &mut Reader<'_>, node: &Node, path: &str) {
        if !(self.access)(section).read(reader, node, path) {
            return;
        }
        match (self.rule)(section) {
            Ok(()) => reader.came_from(path, node.place),
            Err(message) => reader.problem(node.place, path, message),
        }
    }

    pub(super) fn shown(&self, section: &mut S, secrets: bool) -> Json {
        (self.access)(section).shown(secrets)
    }

    /// The same key of an `outer` section that has all keys of this one.
    pub(super) fn lift<O: 'static>(self, outer: fn(&mut O) -> &mut S) -> Key<O> {
        let Self { about, access, rule, reset } = self;
        Key {
            about,
            access: Box::new(move |section| access(outer(section))),
            rule: Box::new(move |section| rule(outer(section))),
            reset: Box::new(move |section| reset(outer(section))),
        }
    }
}

/// A key that holds no further keys, in the section that it belongs to.
pub(super) trait Leaf {
    fn about(&self) -> &About;
    fn value(&mut self) -> &mut dyn Value;
    /// As if nothing had been said.
    fn reset(&mut self);
    /// Takes what a variable or a flag says if it can be read whole and keeps the key's rules.
    fn take_text(&mut self, text: &str) -> Result<(), String>;
}

struct Bound<'a, S> {
    key: &'a Key<S>,
    section: &'a mut S,
}

impl<S: Section> Leaf for Bound<'_, S> {
    fn about(&self) -> &About {
        &self.key.about
    }

    fn value(&mut self) -> &mut dyn Value {
        (self.key.access)(self.section)
    }

    fn reset(&mut self) {
        (self.key.reset)(self.section);
    }

    fn take_text(&mut self, text: &str) -> Result<(), String> {
        let mut probe = S::default();
        let read = (self.key.access)(&mut probe).read_text(text);
        read.and_then(|()| (self.key.rule)(&mut probe))?;
        (self.key.access)(self.section).read_text(text)
    }
}

/// [`Value::leaves`] of sections.
pub(super) fn leaves<S: Section + 'static>(
    section: &mut S,
    path: &str,
    visit: &mut dyn FnMut(&str, &mut dyn Leaf),
) {
    for key in S::keys() {
        let path = join(path, key.about.name);
        if !(key.access)(section).leaves(&path, visit) {
            visit(&path, &mut Bound { key: &key, section });
        }
    }
}

/// [`Value::shown`] of sections: what differs from the defaults.
pub(super) fn shown<S: Section + Clone + 'static>(section: &S, secrets: bool) -> Json {
    let mut section = section.clone();
    let mut pairs = serde_json::Map::new();
    for key in S::keys() {
        let value = key.shown(&mut section, secrets);
        if value != key.about.default {
            pairs.insert(key.about.name.to_owned(), value);
        }
    }
    pairs.into()
}

/// [`Value::shape`] of sections.
pub(super) fn shape<S: Section>() -> Shape {
    Shape::Section(S::keys().into_iter().map(|key| key.about).collect())
}

/// Texts of a type's values, for tests that try every key.
pub(super) trait Samples {
    fn samples() -> &'static [&'static str] {
        &[]
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

/// Reads one section of a list.
pub(super) fn read_item<S: Section + 'static>(
    reader: &mut Reader<'_>,
    node: &Node,
    setting: &str,
) -> Option<S> {
    let mut item = S::default();
    read_section(&mut item, reader, node, setting).then_some(item)
}
