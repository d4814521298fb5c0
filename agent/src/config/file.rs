//! The YAML file: reads the keys that are described; everything else in it is a mistake.

use super::{
    Config, Problem, describe::read_section, node::Node, notes::Notes, reader::Reader,
    substitution::substitute,
};

/// Sets what the file `path` with this `text` says; `variables` are what its references stand for.
pub(super) fn apply(
    config: &mut Config,
    notes: &mut Notes,
    variables: &dyn Fn(&str) -> Option<String>,
    path: &str,
    text: &str,
) {
    let mut reader = Reader { path: path.into(), notes };
    let mut root = match Node::parse(text) {
        Ok(root) => root,
        Err(error) => {
            return reader.problem(error.place, "", format!("not YAML: {}", error.message));
        }
    };
    let mut mistakes = Vec::new();
    substitute(&mut root, variables, &mut mistakes);
    for mistake in &mistakes {
        reader.problem(mistake.place, "", mistake.message.clone());
    }
    read_section(config, &mut reader, &root, "");
    // One report per mistake: a reference that stayed as it was may be no value either.
    let known: Vec<_> = mistakes.iter().map(|mistake| reader.origin(mistake.place)).collect();
    let is_new = |problem: &Problem| problem.setting.is_empty() || !known.contains(&problem.origin);
    reader.notes.problems.retain(is_new);
}
