//! The JSON Schema of configuration files (draft 2020-12), for editors.

use serde_json::{Map, Value as Json, json};

use super::{
    Config,
    describe::{Section, shape},
    shape::{About, Scalar, Shape, sentence},
};

/// The schema.
#[must_use]
pub fn schema() -> Json {
    let mut schema = of_shape(&shape::<Config>(), None);
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema".into();
    schema["title"] = "Configuration of Remora".into();
    schema["description"] = sentence(Config::ABOUT).into();
    schema
}

fn of_key(about: &About) -> Json {
    let mut schema = of_shape(&about.shape, about.bounds.as_ref());
    schema["description"] = about.doc.clone().into();
    let is_nothing = match &about.default {
        Json::Null => true,
        Json::Array(items) => items.is_empty(),
        Json::Object(_) => true,
        _ => false,
    };
    if !is_nothing {
        schema["default"] = about.default.clone();
    }
    if let Shape::Scalar(Scalar { types: ["string"], words: [], .. }) = about.shape
        && !about.samples.is_empty()
    {
        schema["examples"] = json!(about.samples);
    }
    schema
}

fn of_shape(shape: &Shape, bounds: Option<&(Json, Json)>) -> Json {
    match shape {
        Shape::Scalar(scalar) => of_scalar(scalar, bounds),
        // One item may stand for a list of one.
        Shape::List(shape_of_item) => {
            let mut item = of_shape(shape_of_item, None);
            if let Shape::Section(_) = **shape_of_item {
                item["type"] = "object".into(); // nothing is no item
            }
            json!({ "anyOf": [item, { "type": "array", "items": item }] })
        }
        Shape::Pairs => json!({
            "type": ["object", "null"],
            "additionalProperties": { "type": ["string", "number", "boolean"] },
        }),
        Shape::Section(keys) => {
            let properties: Map<String, Json> =
                keys.iter().map(|about| (about.name.to_owned(), of_key(about))).collect();
            json!({
                "type": ["object", "null"],
                "properties": properties,
                "additionalProperties": false,
            })
        }
    }
}

/// One value, or a text that refers to a variable, which may hold such a value.
fn of_scalar(scalar: &Scalar, bounds: Option<&(Json, Json)>) -> Json {
    let schema = of_value(scalar, bounds);
    let takes_any_text = scalar.types.contains(&"string")
        && scalar.words.is_empty()
        && matches!(scalar.pattern, None | Some("."));
    if takes_any_text {
        return schema;
    }
    json!({ "anyOf": [schema, { "type": "string", "pattern": REFERENCE }] })
}

/// `${NAME}`, `${env:NAME:-default}`.
const REFERENCE: &str = r"\$\{(env:)?[A-Za-z_][A-Za-z0-9_]*(:-[^}]*)?\}";

fn of_value(scalar: &Scalar, bounds: Option<&(Json, Json)>) -> Json {
    if !scalar.words.is_empty() {
        return json!({ "enum": scalar.words });
    }
    let types = match scalar.types {
        [one] => json!(one),
        several => json!(several),
    };
    let mut schema = json!({ "type": types });
    if let Some(pattern) = scalar.pattern {
        schema["pattern"] = pattern.into();
    }
    if let Some((least, most)) = bounds.filter(|(least, _)| least.is_number()) {
        schema["minimum"] = least.clone();
        schema["maximum"] = most.clone();
    }
    schema
}
