//! What keys can hold besides sections: one setting, a list of them, free pairs.

use serde_json::Value as Json;

use super::{
    describe::{Samples, Value},
    node::Node,
    reader::Reader,
    shape::Shape,
    value::{Setting, read_one, without_credentials},
};
use crate::{discover::resource_attributes, semantics::redact::REDACTED};

impl<T: Setting> Samples for T {
    fn samples() -> &'static [&'static str] {
        T::SAMPLES
    }
}

impl<T: Setting> Value for T {
    fn read(&mut self, reader: &mut Reader<'_>, node: &Node, setting: &str) -> bool {
        reader.scalar(node, setting).map(|value| *self = value).is_some()
    }

    fn read_text(&mut self, text: &str) -> Result<(), String> {
        read_one(text).map(|value| *self = value)
    }

    fn shown(&self, secrets: bool) -> Json {
        if T::SECRET && !secrets {
            REDACTED.into()
        } else {
            hide_credentials(self.written(), secrets)
        }
    }

    fn shape(&self) -> Shape {
        Shape::Scalar(T::looks())
    }
}

/// Of a URL with credentials, what may be shown.
fn hide_credentials(value: Json, secrets: bool) -> Json {
    let url = value.as_str().filter(|text| !secrets && text.contains("://"));
    let shown = url.map(|url| without_credentials(url).into_owned());
    shown.map_or(value, Json::from)
}

/// Where a text stands for a list, commas separate its items.
impl<T: Setting> Value for Vec<T> {
    fn read(&mut self, reader: &mut Reader<'_>, node: &Node, setting: &str) -> bool {
        reader.items(node, setting, Reader::scalar).map(|items| *self = items).is_some()
    }

    fn read_text(&mut self, text: &str) -> Result<(), String> {
        let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
        let items: Result<Self, _> = words.map(read_one).collect();
        items.map(|items| *self = items)
    }

    fn shown(&self, secrets: bool) -> Json {
        self.iter().map(|item| item.shown(secrets)).collect()
    }

    fn shape(&self) -> Shape {
        Shape::List(Box::new(Shape::Scalar(T::looks())))
    }
}

/// A list that may also not be said, which is not the same as an empty one.
impl<T: Setting> Value for Option<Vec<T>> {
    fn read(&mut self, reader: &mut Reader<'_>, node: &Node, setting: &str) -> bool {
        self.insert(Vec::new()).read(reader, node, setting)
    }

    fn read_text(&mut self, text: &str) -> Result<(), String> {
        self.insert(Vec::new()).read_text(text)
    }

    fn shown(&self, secrets: bool) -> Json {
        self.as_ref().map_or(Json::Null, |items| items.shown(secrets))
    }

    fn shape(&self) -> Shape {
        Vec::<T>::new().shape()
    }
}

impl<T: Setting> Samples for Option<Vec<T>> {}

impl<T: Setting> Samples for Vec<T> {
    fn samples() -> &'static [&'static str] {
        T::SAMPLES
    }
}

/// Free keys with texts. A variable adds to what was said before, key by key.
impl Value for Vec<(String, String)> {
    fn read(&mut self, reader: &mut Reader<'_>, node: &Node, setting: &str) -> bool {
        reader.pairs(node, setting).map(|pairs| *self = pairs).is_some()
    }

    fn read_text(&mut self, text: &str) -> Result<(), String> {
        let pairs = resource_attributes::parse(text).map_err(|error| {
            format!("found `{text}`, expected key=value pairs, percent-encoded: {error}")
        })?;
        self.retain(|(key, _)| !pairs.iter().any(|(later, _)| later == key));
        self.extend(pairs);
        Ok(())
    }

    fn shown(&self, _: bool) -> Json {
        let pairs = self.iter().map(|(key, value)| (key.clone(), value.as_str().into()));
        Json::Object(pairs.collect())
    }

    fn shape(&self) -> Shape {
        Shape::Pairs
    }
}

impl Samples for Vec<(String, String)> {
    fn samples() -> &'static [&'static str] {
        &["a=1", "a=2", "a=3"]
    }
}

/// Free keys with values of one kind, such as globs.
impl<T: Setting> Value for Vec<(Box<str>, T)> {
    fn read(&mut self, reader: &mut Reader<'_>, node: &Node, setting: &str) -> bool {
        let Some(pairs) = reader.pairs_of::<T>(node, setting) else { return false };
        *self = pairs.into_iter().map(|(key, value)| (key.into(), value)).collect();
        true
    }

    fn read_text(&mut self, text: &str) -> Result<(), String> {
        Err(format!("found `{text}`, expected a mapping of names to values"))
    }

    fn shown(&self, secrets: bool) -> Json {
        let pairs = self.iter().map(|(key, value)| (key.to_string(), value.shown(secrets)));
        Json::Object(pairs.collect())
    }

    fn shape(&self) -> Shape {
        Shape::Pairs
    }
}

impl<T: Setting> Samples for Vec<(Box<str>, T)> {}
