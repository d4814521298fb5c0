//! The YAML file: reads the keys that are described; everything else in it is a mistake.

use super::{Config, describe::read_section, node::Node, notes::Notes, reader::Reader};

/// Sets what the file `path` with this `text` says.
pub(super) fn apply(config: &mut Config, notes: &mut Notes, path: &str, text: &str) {
    let mut reader = Reader { path: path.into(), notes };
    match Node::parse(text) {
        Ok(root) => _ = read_section(config, &mut reader, &root, ""),
        Err(error) => reader.problem(error.place, "", format!("not YAML: {}", error.message)),
    }
}
