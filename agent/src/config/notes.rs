//! What is noted while sources are read: where values came from, and what was wrong with the rest.

use std::collections::HashMap;

use super::{
    problem::{Origin, Problem},
    value::{Setting, read_one},
};

/// Where values came from, and what was wrong with those that were not taken.
#[derive(Debug, Default)]
pub(super) struct Notes {
    pub(super) origins: HashMap<String, Origin>,
    pub(super) problems: Vec<Problem>,
    pub(super) warnings: Vec<Problem>,
}

impl Notes {
    pub(super) fn problem(&mut self, origin: Origin, setting: &str, message: String) {
        self.problems.push(Problem { origin, setting: setting.to_owned(), message });
    }

    /// Remembers where the value of `setting` came from.
    pub(super) fn came_from(&mut self, setting: &str, origin: Origin) {
        self.origins.insert(setting.to_owned(), origin);
    }

    /// What was said of `setting` does not count any more.
    pub(super) fn forget(&mut self, setting: &str) {
        self.origins.remove(setting);
    }

    /// The value of `text`, or a problem.
    pub(super) fn parse<T: Setting>(
        &mut self,
        setting: &str,
        origin: Origin,
        text: &str,
    ) -> Option<T> {
        match read_one(text) {
            Ok(value) => {
                self.came_from(setting, origin);
                Some(value)
            }
            Err(message) => {
                self.problem(origin, setting, message);
                None
            }
        }
    }

    pub(super) fn origin(&self, setting: &str) -> Origin {
        self.origins.get(setting).cloned().unwrap_or(Origin::Default)
    }
}
