//! `${NAME}` in the values of a file: the rules of OpenTelemetry's configuration data model ("Environment
//! variable substitution"), with one difference. A variable that is not set and has no default is a
//! mistake here, where the model takes it for nothing: `Bearer ` sent to a vendor helps nobody.
//!
//! Substitution happens in scalar values after YAML was read, never in keys, and once: what a variable
//! holds is neither YAML nor searched for references again.

use super::node::{Content, Node, Place};

/// What stands where a reference cannot be substituted, and what was expected.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mistake {
    pub(super) place: Place,
    pub(super) message: String,
}

/// Replaces the references in every value of `node`; `lookup` knows the variables.
pub(super) fn substitute(
    node: &mut Node,
    lookup: &dyn Fn(&str) -> Option<String>,
    mistakes: &mut Vec<Mistake>,
) {
    match &mut node.content {
        Content::Nothing => {}
        Content::Scalar(text) if !text.contains('$') => {}
        Content::Scalar(text) => match replaced(text, lookup) {
            Ok(new) => {
                let written = std::mem::replace(text, new);
                node.written = (written != *text).then_some(written);
            }
            Err(messages) => {
                let place = node.place;
                mistakes.extend(messages.into_iter().map(|message| Mistake { place, message }));
            }
        },
        Content::List(items) => {
            items.iter_mut().for_each(|item| substitute(item, lookup, mistakes));
        }
        Content::Mapping(entries) => {
            entries.iter_mut().for_each(|entry| substitute(&mut entry.value, lookup, mistakes));
        }
    }
}

/// `text` with its references replaced, or all that is wrong with them.
fn replaced(text: &str, lookup: &dyn Fn(&str) -> Option<String>) -> Result<String, Vec<String>> {
    let (mut out, mut wrong) = (String::new(), Vec::new());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        if let Some(escaped) = after.strip_prefix('$') {
            out.push('$');
            rest = escaped;
            continue;
        }
        // A brace that nothing closes on its line begins no reference.
        let reference = after.strip_prefix('{').and_then(|after| after.split_once('}'));
        let Some((reference, behind)) = reference.filter(|(inner, _)| !inner.contains('\n')) else {
            out.push('$');
            rest = after;
            continue;
        };
        match value(reference, lookup) {
            Ok(value) => out.push_str(&value),
            Err(message) => wrong.push(message),
        }
        rest = behind;
    }
    out.push_str(rest);
    if wrong.is_empty() { Ok(out) } else { Err(wrong) }
}

/// What is to stand for `${reference}`. An empty variable counts as unset where there is a default.
fn value(reference: &str, lookup: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    let name = reference.strip_prefix("env:").unwrap_or(reference);
    let (name, default) = match name.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (name, None),
    };
    let starts = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if !starts || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return Err(format!(
            "found `${{{reference}}}`, expected ${{NAME}}, ${{env:NAME}} or ${{NAME:-default}}, or $$ for a $"
        ));
    }
    match (lookup(name), default) {
        (Some(value), _) if !value.is_empty() => Ok(value),
        (_, Some(default)) => Ok(default.to_owned()),
        (Some(empty), None) => Ok(empty),
        (None, None) => Err(format!(
            "variable {name} is not set, expected it or a default: ${{{name}:-default}}"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str) -> Option<String> {
        let value = match name {
            "TOKEN" => "s3cret",
            "EMPTY" => "",
            "NESTED" => "${TOKEN} $$",
            "_X1" => "1",
            _ => return None,
        };
        Some(value.to_owned())
    }

    #[test]
    fn references_are_replaced_as_the_data_model_says() {
        for (text, expected) in [
            ("${TOKEN}", "s3cret"),
            ("Bearer ${TOKEN}", "Bearer s3cret"),
            ("${env:TOKEN}/${_X1}/", "s3cret/1/"),
            ("${TOKEN:-default}", "s3cret"),
            ("${ABSENT:-a default: {x:-y}", "a default: {x:-y"),
            ("${ABSENT:-}", ""),
            ("${env:ABSENT:-http://h:1}", "http://h:1"),
            ("${EMPTY:-default}", "default"),
            ("a${EMPTY}b", "ab"),
            ("${NESTED}", "${TOKEN} $$"),
            ("$${TOKEN}", "${TOKEN}"),
            ("$$${TOKEN}", "$s3cret"),
            ("$$$${TOKEN}", "$${TOKEN}"),
            ("a $$ b", "a $ b"),
            ("a $ b", "a $ b"),
            ("$TOKEN", "$TOKEN"),
            ("${TOKEN", "${TOKEN"),
            ("{TOKEN}$", "{TOKEN}$"),
        ] {
            assert_eq!(replaced(text, &of).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn every_reference_that_is_wrong_is_named() {
        for (text, expected) in [
            ("${ABSENT}", "variable ABSENT is not set"),
            ("${env:ABSENT} ${TOKEN}", "variable ABSENT is not set"),
            ("${1TOKEN}", "found `${1TOKEN}`, expected ${NAME}"),
            ("${TOKEN:?error}", "found `${TOKEN:?error}`"),
            ("${file:TOKEN}", "found `${file:TOKEN}`"),
            ("${}", "found `${}`"),
        ] {
            let wrong = replaced(text, &of).unwrap_err();
            assert!(wrong.len() == 1 && wrong[0].starts_with(expected), "{text}: {wrong:?}");
        }
        assert_eq!(replaced("${A}${B}", &of).unwrap_err().len(), 2);
    }
}
