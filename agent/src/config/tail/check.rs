//! Mistakes that a policy may have beyond those of its single keys.

use crate::{
    config::{
        node::{Content, Entry, Node},
        reader::Reader,
        shape::join,
    },
    tail::compile,
};

/// Types that have settings, with those of these that must be there. Of a list there must be one item at least.
const REQUIRED: [(&str, &[&str]); 11] = [
    ("status_code", &["status_codes"]),
    ("latency", &[]),
    ("string_attribute", &["key", "values"]),
    ("numeric_attribute", &["key"]),
    ("boolean_attribute", &["key"]),
    ("probabilistic", &["sampling_percentage"]),
    ("rate_limiting", &["spans_per_second"]),
    ("and", &["and_sub_policy"]),
    ("not", &["not_sub_policy"]),
    ("drop", &["drop_sub_policy"]),
    ("composite", &["max_total_spans_per_second", "composite_sub_policy", "rate_allocation"]),
];

/// Whether a policy has a name, a type, and the settings of that type alone.
pub(super) fn policy(
    reader: &mut Reader<'_>,
    node: &Node,
    entries: &[Entry],
    setting: &str,
    kind: Option<&str>,
) {
    for key in ["name", "type"] {
        if find(entries, key).is_none() {
            reader.problem(node.place, setting, format!("found no {key}, expected one"));
        }
    }
    let Some(kind) = kind else { return };
    for entry in entries {
        let is_other = entry.key != kind && REQUIRED.iter().any(|(other, _)| *other == entry.key);
        if is_other {
            let message =
                format!("found with type: {kind}, expected the settings of that type alone");
            reader.problem(entry.place, &join(setting, &entry.key), message);
        }
    }
    let Some((_, required)) = REQUIRED.iter().find(|(with_settings, _)| *with_settings == kind)
    else {
        return;
    };
    let Some(own) = find(entries, kind) else {
        let message = format!("found type: {kind} without settings, expected them below `{kind}`");
        return reader.problem(node.place, setting, message);
    };
    let (setting, inner) = (join(setting, kind), entries_of(&own.value));
    for key in *required {
        match find(inner, key).map(|entry| &entry.value) {
            None => {
                reader.problem(own.value.place, &setting, format!("found no {key}, expected it"));
            }
            Some(list @ Node { content: Content::List(items), .. }) if items.is_empty() => {
                let message = "found an empty list, expected an item or more".to_owned();
                reader.problem(list.place, &join(&setting, key), message);
            }
            Some(_) => {}
        }
    }
    if kind == "latency" && inner.is_empty() {
        let message = "found no threshold, expected threshold_ms or upper_threshold_ms".to_owned();
        reader.problem(own.value.place, &setting, message);
    }
    if kind == "string_attribute" {
        expressions(reader, inner, &setting);
    }
}

/// Whether values that are regular expressions are some.
fn expressions(reader: &mut Reader<'_>, entries: &[Entry], setting: &str) {
    let is_true = |node: &Node| matches!(&node.content, Content::Scalar(text) if text == "true");
    let is_regex = find(entries, "enabled_regex_matching").is_some_and(|one| is_true(&one.value));
    let Some(values) = find(entries, "values").filter(|_| is_regex) else { return };
    let setting = join(setting, "values");
    let (items, is_list) = match &values.value.content {
        Content::List(items) => (&**items, true),
        _ => (std::slice::from_ref(&values.value), false),
    };
    for (at, item) in items.iter().enumerate() {
        if let Content::Scalar(text) = &item.content
            && let Err(why) = compile(text)
        {
            let setting = if is_list { format!("{setting}[{at}]") } else { setting.clone() };
            let message =
                format!("found {}, expected a regular expression: {why}", item.describe());
            reader.problem(item.place, &setting, message);
        }
    }
}

fn find<'n>(entries: &'n [Entry], key: &str) -> Option<&'n Entry> {
    entries.iter().find(|entry| entry.key == key)
}

fn entries_of(node: &Node) -> &[Entry] {
    match &node.content {
        Content::Mapping(entries) => entries,
        _ => &[],
    }
}
