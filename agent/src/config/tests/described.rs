//! What is made of the keys' descriptions: the schema, the reference, what is in force.

use boon::{Compiler, SchemaIndex, Schemas};
use serde_json::Value as Json;

use super::{wrong::WRONG, *};
use crate::config::{
    describe::{Section, shape},
    shape::{About, Shape},
};

#[test]
fn the_reference_in_the_tree_is_current() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/configuration.md");
    let in_tree = std::fs::read_to_string(path).unwrap();
    assert!(in_tree == reference(), "docs/configuration.md is not current: cargo xtask docs");
}

#[test]
fn every_key_has_a_sentence() {
    fn check(keys: &[About], path: &str) {
        for key in keys {
            assert!(
                key.doc.ends_with('.') && key.doc.len() > 5,
                "{path}.{}: {}",
                key.name,
                key.doc
            );
            let mut shape = &key.shape;
            while let Shape::List(item) = shape {
                shape = item;
            }
            if let Shape::Section(keys) = shape {
                check(keys, key.name);
            }
        }
    }
    let Shape::Section(keys) = shape::<Config>() else { unreachable!() };
    check(&keys, "");
    assert!(!Config::ABOUT.is_empty());
}

fn compiled(schemas: &mut Schemas) -> SchemaIndex {
    let mut compiler = Compiler::new();
    compiler.add_resource("config.json", schema()).expect("a place for it");
    compiler.compile("config.json", schemas).unwrap_or_else(|error| panic!("{error:#}"))
}

/// A file as editors see it.
fn json(text: &str) -> Json {
    serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn the_schema_takes_files_that_are_right() {
    let mut schemas = Schemas::new();
    let schema = compiled(&mut schemas);
    for text in [FULL, include_str!("../../../../deploy/remora.yaml"), "limits:\n", "{}"] {
        config(text);
        if let Err(error) = schemas.validate(&json(text), schema) {
            panic!("{text}\n{error:#}");
        }
    }
}

/// A file with `text` wherever a value may stand.
fn everywhere(shape: &Shape, text: &str) -> Json {
    match shape {
        Shape::Scalar(_) => text.into(),
        Shape::List(item) => Json::Array(vec![everywhere(item, text)]),
        Shape::Pairs => serde_json::json!({ "key": text }),
        Shape::Section(keys) => Json::Object(
            keys.iter().map(|key| (key.name.to_owned(), everywhere(&key.shape, text))).collect(),
        ),
    }
}

#[test]
fn the_schema_takes_references_to_variables_wherever_a_value_stands() {
    let mut schemas = Schemas::new();
    let schema = compiled(&mut schemas);
    for text in ["${NAME}", "${env:NAME}", "${_N1:-default}", "a${NAME}b"] {
        let file = everywhere(&shape::<Config>(), text);
        if let Err(error) = schemas.validate(&file, schema) {
            panic!("{text}\n{error:#}");
        }
    }
    for text in ["$NAME", "${NAME", "${1}", "words"] {
        let file = serde_json::json!({ "limits": { "connections": text } });
        assert!(schemas.validate(&file, schema).is_err(), "{text}");
    }
}

#[test]
fn the_schema_refuses_what_the_reader_refuses() {
    // What a schema of this kind does not say: order and size of texts, keys that need each other.
    let beyond = |message: &str| {
        [
            "without",
            "power of two",
            "while spans",
            "glob",
            "a level",
            "where `",
            "the lower one first",
            "last segment",
            "65535",
            "name of a header field such as authorization",
            "control characters",
        ]
        .iter()
        .any(|part| message.contains(part))
            || message.contains("KiB to")
            || message.contains("ms to")
            || message.contains("1s to")
            || message.contains("no criterion")
            || message.contains("a list of mappings")
    };
    let mut schemas = Schemas::new();
    let schema = compiled(&mut schemas);
    let mut refused = 0;
    for (text, expected) in WRONG {
        let told = expected.iter().all(|message| beyond(message) || message.contains("not YAML"));
        if told {
            continue;
        }
        assert!(schemas.validate(&json(text), schema).is_err(), "{text}");
        refused += 1;
    }
    assert!(refused > 20, "{refused}");
}

#[test]
fn what_is_in_force_is_shown_with_its_origin_and_without_secrets() {
    let file =
        "output:\n  otlp:\n    endpoint: https://user:pass@h\n    headers: {api-key: s3cret}\n";
    let env = [("OTEL_TRACES_SAMPLER", "always_off")];
    let loaded = load_with(file, &env, &flags(&[("--ring-size", "8MiB")])).unwrap();
    let shown = shown(&loaded);
    let line = |key: &str| {
        let line = shown.iter().find(|shown| shown.key == key).unwrap().to_string();
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(line("limits.queue"), "limits.queue: 16MiB # default");
    assert_eq!(line("limits.ring"), "limits.ring: 8MiB # --ring-size");
    assert_eq!(line("traces.sampler"), "traces.sampler: always_off # OTEL_TRACES_SAMPLER");
    let headers = r#"output.otlp.headers: {"api-key":"REDACTED"} # remora.yaml:4:14"#;
    assert_eq!(line("output.otlp.headers"), headers);
    let endpoint = "output.otlp.endpoint: https://REDACTED@h # remora.yaml:3:15";
    assert_eq!(line("output.otlp.endpoint"), endpoint);
    assert!(shown.iter().all(|shown| !shown.to_json().to_string().contains("s3cret")));
}
