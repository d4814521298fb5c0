//! Default, file, environment and flag: the later one counts, for every key that is described.

use serde_json::{Value as Json, json};

use super::*;
use crate::config::{
    describe::leaves,
    shape::{About, Shape},
};

/// A text, and the value that it is.
type Sample = (String, Json);

/// Every key with its path.
fn keys() -> Vec<(String, About)> {
    let mut keys = Vec::new();
    leaves(&mut Config::default(), "", &mut |path, leaf| {
        keys.push((path.to_owned(), leaf.about().clone()));
    });
    keys
}

/// What `text` is as the value of `path`.
fn value_of(path: &str, text: &str) -> Json {
    let mut value = None;
    leaves(&mut Config::default(), "", &mut |found, leaf| {
        if found == path {
            leaf.take_text(text).unwrap_or_else(|error| panic!("{path}: {error}"));
            value = Some(leaf.value().shown(true));
        }
    });
    value.unwrap_or_else(|| panic!("no key {path}"))
}

/// A sample of `texts` with another value than `before`.
fn sample(
    path: &str,
    texts: &[&str],
    spelling: fn(&str) -> Result<String, String>,
    before: &Json,
) -> Sample {
    let sample = |text: &&str| (str::to_owned(text), value_of(path, &spelling(text).unwrap()));
    let other = texts.iter().map(sample).find(|(_, value)| value != before);
    other.unwrap_or_else(|| panic!("{path}: no text of another value than {before}"))
}

/// A file that sets one key.
fn file(path: &str, about: &About, text: &str) -> String {
    let value = match (&about.shape, text.split_once('=')) {
        (Shape::Pairs, Some((key, value))) => json!({ key: value }),
        _ => json!(text),
    };
    path.rsplit('.').fold(value, |inner, key| json!({ key: inner })).to_string()
}

fn own(text: &str) -> Result<String, String> {
    Ok(text.to_owned())
}

#[test]
fn default_file_environment_and_flag_override_each_other_in_this_order() {
    let mut tried = [0; 3];
    for (path, about) in keys() {
        if matches!(&about.shape, Shape::List(item) if matches!(**item, Shape::Section(_))) {
            continue; // selectors have no text: see `selection_flags_replace_the_files_selectors`
        }
        assert!(!about.samples.is_empty(), "{path}: values of its type have no samples");
        let in_file = sample(&path, about.samples, own, &about.default);
        // No variable, and each by itself: all of them have to be weaker than flags.
        let variables = about.variables.iter().map(Some).chain([None]);
        for variable in variables {
            let in_env = variable.map(|variable| {
                let texts =
                    if variable.samples.is_empty() { about.samples } else { variable.samples };
                (variable.name, sample(&path, texts, variable.spelling, &in_file.1))
            });
            let before = in_env.as_ref().map_or(&in_file.1, |(_, (_, value))| value);
            let in_flag =
                about.flag.map(|flag| (flag.name, sample(&path, about.samples, own, before)));
            for set in 0..8 {
                let says = |source: usize| set & 1 << source != 0;
                let env = in_env.as_ref().filter(|_| says(1));
                let flag = in_flag.as_ref().filter(|_| says(2));
                if (says(1) && env.is_none()) || (says(2) && flag.is_none()) {
                    continue;
                }
                let text = if says(0) { file(&path, &about, &in_file.0) } else { String::new() };
                let pairs: Vec<_> = env.iter().map(|(name, (text, _))| (*name, &**text)).collect();
                let settings: Vec<_> =
                    flag.iter().map(|(name, (text, _))| (*name, &**text)).collect();
                let loaded = load_with(&text, &pairs, &flags(&settings))
                    .unwrap_or_else(|error| panic!("{path}: {text}: {error}"));
                assert_eq!(loaded.warnings, [], "{path}");

                let mut value = Json::Null;
                leaves(&mut loaded.config.clone(), "", &mut |found, leaf| {
                    if found == path {
                        value = leaf.value().shown(true);
                    }
                });
                let (expected, origin) = match (flag, env) {
                    (Some((name, (_, value))), _) => (value, (*name).to_owned()),
                    (None, Some((name, (_, value)))) => (value, (*name).to_owned()),
                    (None, None) if says(0) => (&in_file.1, "remora.yaml:1:".to_owned()),
                    (None, None) => (&about.default, "default".to_owned()),
                };
                assert_eq!(&value, expected, "{path}: {text} {pairs:?} {settings:?}");
                let found = loaded.origins.get(&path).unwrap_or(&Origin::Default).to_string();
                assert!(found.starts_with(&origin), "{path}: {found}, expected {origin}");
                (0..3).for_each(|source| tried[source] += usize::from(says(source)));
            }
        }
    }
    assert!(tried.iter().all(|&count| count > 20), "{tried:?}");
}

#[test]
fn of_several_variables_for_one_key_the_last_counts() {
    for (path, about) in keys() {
        let [.., before, last] = &*about.variables else { continue };
        let first = sample(&path, about.samples, own, &about.default);
        let second = sample(&path, about.samples, own, &first.1);
        let env = [(last.name, &*second.0), (before.name, &*first.0)];
        let loaded = load_with("", &env, &Flags::default()).unwrap();
        assert_eq!(loaded.origins[&path], Origin::Environment(last.name), "{path}");
    }
}

#[test]
fn what_a_later_source_says_of_both_signals_overrides_one_signals_own() {
    let file = "output: {otlp: {endpoint: 'http://file', traces: {endpoint: 'http://file/t'}}}";
    let url = |env: &[(&str, &str)], settings: &[(&'static str, &str)]| {
        let loaded = load_with(file, env, &flags(settings)).unwrap();
        loaded.config.otlp().traces.unwrap().url.exact().to_owned()
    };
    let (both, own) = (
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://b"),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://t"),
    );
    assert_eq!(url(&[], &[]), "http://file/t");
    assert_eq!(url(&[both], &[]), "http://b/v1/traces");
    assert_eq!(url(&[both, own], &[]), "http://t");
    assert_eq!(url(&[own], &[("--otlp-endpoint", "http://flag")]), "http://flag/v1/traces");
}
