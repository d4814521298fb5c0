//! docs/configuration.md: every key with what it means, made of the keys' descriptions.

use std::fmt::Write;

use super::{
    Config,
    describe::{Section, shape},
    shape::{About, Scalar, Shape, Variable, join, sentence},
    show::text,
};

/// What stands before the keys.
const INTRODUCTION: &str = "\
# Configuration

<!-- Made by `cargo xtask docs` from agent/src/config; do not edit. -->

`remora run`, `exec` and `replay` take their settings from four places, later ones before earlier ones: what is
built in, one YAML file (`--config FILE` or `REMORA_CONFIG`), the environment, flags. All mistakes are reported
at once, each with its line and column.

```sh
remora config check remora.yaml    # everything that is wrong with a file; exit code 2 if there is something
remora config show --config ...    # what is in force, and where each value came from; options as of `run`
remora config schema               # JSON Schema for editors
```

Where a list is expected, one item may stand alone. Sizes are `4096`, `64KiB`, `16MiB`; times are `500ms`, `10s`,
`5m`. Values of `OTEL_*` variables that cannot be used are warnings and are ignored, as OpenTelemetry wants it.

In values of the file `${NAME}` and `${env:NAME}` stand for an environment variable, `${NAME:-default}` for the
default where the variable is unset or empty, `$$` for one `$`: OpenTelemetry's rules, except that a variable which
is not set and has no default is a mistake. What a variable holds is not shown in messages.

A running agent reads its file again on SIGHUP and when the file changes. Keys marked *live* take effect then, all
at once and without a gap in what is captured; of others that have changed a warning says that they need a restart.
Variables and flags stay in force above the file. A file that is wrong changes nothing, and everything that is
wrong with it is said. Without a file SIGHUP ends the agent.
";

/// The page.
#[must_use]
pub fn reference() -> String {
    let mut page = INTRODUCTION.to_owned();
    let Shape::Section(keys) = shape::<Config>() else { unreachable!("a section") };
    section(&mut page, &mut Shown::default(), "", &sentence(Config::ABOUT), &keys);
    page
}

/// Sections that are on the page, so that none is there twice: where the one with these keys is.
#[derive(Default)]
struct Shown(Vec<(String, String)>);

impl Shown {
    /// The path of the section that says the same, if there is one. Else it is this one's.
    fn before(&mut self, key: &About, path: &str) -> Option<String> {
        let said = format!("{} {:?}", key.doc, key.shape);
        if let Some((_, path)) = self.0.iter().find(|(before, _)| *before == said) {
            return Some(path.clone());
        }
        self.0.push((said, path.to_owned()));
        None
    }
}

fn section(page: &mut String, shown: &mut Shown, path: &str, about: &str, keys: &[About]) {
    let title = if path.is_empty() { "Top level".to_owned() } else { format!("`{path}`") };
    write(page, format_args!("\n## {title}\n\n{about}\n\n"));
    let mut below = Vec::new();
    for key in keys {
        let path = join(path, key.name);
        match inner(&key.shape) {
            Some((keys, is_list)) => {
                let kind = if is_list { " (list)" } else { "" };
                let before = shown.before(key, &path);
                let anchor = before.as_ref().unwrap_or(&path).replace(['.', '[', ']'], "");
                if before.is_none() {
                    below.push((key, keys, path.clone() + if is_list { "[]" } else { "" }));
                }
                write(page, format_args!("- **[`{}`](#{anchor})**{kind}: {}", key.name, key.doc));
                if is_list {
                    facts(page, key);
                }
                page.push('\n');
            }
            None => {
                write(page, format_args!("- **`{}`**: {}", key.name, key.doc));
                facts(page, key);
                page.push('\n');
            }
        }
    }
    for (key, keys, path) in below {
        section(page, shown, &path, &key.doc, keys);
    }
}

/// The keys below a key, and whether there is a list of such mappings.
fn inner(shape: &Shape) -> Option<(&[About], bool)> {
    match shape {
        Shape::Section(keys) => Some((keys, false)),
        Shape::List(item) => inner(item).map(|(keys, _)| (keys, true)),
        Shape::Scalar(_) | Shape::Pairs => None,
    }
}

/// What else there is to say of a key.
fn facts(page: &mut String, about: &About) {
    let mut facts = Vec::new();
    match &about.shape {
        Shape::Scalar(scalar) => facts.push(expected(scalar)),
        Shape::List(item) => {
            if let Shape::Scalar(scalar) = &**item {
                facts.push(format!("a list, each {}", expected(scalar)));
            }
        }
        Shape::Pairs => facts.push("a mapping of names to texts".into()),
        Shape::Section(_) => {}
    }
    let said = |value| text(value).unwrap_or_default();
    if let Some((least, most)) = &about.bounds {
        facts.push(format!("{} to {}", said(least), said(most)));
    }
    if let Some(default) = text(&about.default) {
        facts.push(format!("default `{default}`"));
    }
    if let Some(flag) = &about.flag {
        facts.push(format!("`{}`", flag.name));
    }
    let variables: Vec<String> = about.variables.iter().rev().map(variable).collect();
    if !variables.is_empty() {
        facts.push(variables.join(", "));
    }
    if !about.also.is_empty() {
        facts.push(about.also.to_owned());
    }
    if about.live {
        facts.push("*live*".into());
    }
    facts.retain(|fact| !fact.is_empty());
    if !facts.is_empty() {
        write(page, format_args!("  \n  {}", facts.join("; ")));
    }
}

/// With an example where it is spelled otherwise than in a file.
fn variable(variable: &Variable) -> String {
    match variable.samples {
        [] => format!("`{}`", variable.name),
        [sample, ..] => format!("`{}={sample}`", variable.name),
    }
}

fn expected(scalar: &Scalar) -> String {
    match scalar.words {
        [] => scalar.expected.clone(),
        words => words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", "),
    }
}

fn write(page: &mut String, what: std::fmt::Arguments<'_>) {
    let written = page.write_fmt(what);
    debug_assert!(written.is_ok(), "a String takes everything");
}
