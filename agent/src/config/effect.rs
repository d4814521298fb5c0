//! What a configuration says in vain: it is no mistake, and yet not what anybody wants.

use super::{
    Config, Origin, Problem,
    notes::Notes,
    tail::{Composite, TailSampling},
};
use crate::{
    discover::{Criteria, Pattern},
    semantics::{
        filter::{Glob, Rule},
        route,
    },
};

/// All of it, where it stands.
pub(super) fn without_effect(config: &Config, notes: &Notes) -> Vec<Problem> {
    let mut found = Found { notes, problems: Vec::new() };
    found.selection(config);
    found.routes("routes", config.routes.mode, &config.routes.patterns);
    found.filter("filter", Some(&config.filter.exclude), Some(&config.filter.include));
    for (at, selector) in config.selectors.iter().enumerate() {
        let path = format!("selectors[{at}]");
        let own = &selector.routes;
        let mode = own.mode.unwrap_or(config.routes.mode);
        found.routes(&format!("{path}.routes"), mode, own.patterns.as_deref().unwrap_or_default());
        let filter = &selector.filter;
        found.filter(
            &format!("{path}.filter"),
            filter.exclude.as_deref(),
            filter.include.as_deref(),
        );
    }
    found.tail_sampling(&config.tail_sampling);
    let mut problems = found.problems;
    problems.sort_by_key(|problem| match problem.origin {
        Origin::File { line, column, .. } => (line, column),
        _ => (u64::MAX, 0),
    });
    problems
}

struct Found<'a> {
    notes: &'a Notes,
    problems: Vec<Problem>,
}

impl Found<'_> {
    /// Says it of a key, or of the one it is in if it has no place of its own.
    fn say(&mut self, setting: &str, message: String) {
        let list = setting.rfind('[').map_or(setting, |at| &setting[..at]);
        let known = |setting: &str| {
            let mut paths = as_written(setting).into_iter();
            paths.find(|path| self.notes.origins.contains_key(path))
        };
        let path = known(setting).or_else(|| known(list)).unwrap_or_default();
        let origin = self.notes.origin(&path);
        self.problems.push(Problem { origin, setting: setting.to_owned(), message });
    }

    fn selection(&mut self, config: &Config) {
        let in_file = matches!(self.notes.origin("selectors"), Origin::File { .. });
        if config.service_name.is_some() && in_file && !config.selectors.is_empty() {
            let message = "found beside selectors, where it has no effect: it names what flags select \
                           and what `remora exec` starts. A selector has a `name`";
            self.say("service_name", message.into());
        }
        let mut all = None;
        for (at, selector) in config.selectors.iter().enumerate() {
            let path = format!("selectors[{at}]");
            if let Some(all) = all {
                let message =
                    format!("takes nothing: selectors[{all}] takes every process before it");
                self.say(&path, message);
            }
            if selector.takes.criteria.all && selector.takes.exclude.is_empty() {
                all.get_or_insert(at);
            }
            self.criteria(&path, &selector.takes.criteria);
            for (at, exclude) in selector.takes.exclude.iter().enumerate() {
                self.criteria(&format!("{path}.exclude[{at}]"), exclude);
            }
        }
        for (at, exclude) in config.exclude.iter().enumerate() {
            self.criteria(&format!("exclude[{at}]"), exclude);
        }
    }

    /// Patterns that no process can match.
    fn criteria(&mut self, path: &str, criteria: &Criteria) {
        for (at, pattern) in criteria.exe.iter().enumerate() {
            let text = pattern.to_string();
            if text.contains('/') && !begins_as_path(&text) {
                let message = format!(
                    "found `{text}`, which matches nothing: a pattern with `/` is held against the whole \
                     path, expected */{text}"
                );
                self.say(&format!("{path}.exe[{at}]"), message);
            }
        }
        for (at, pattern) in criteria.comm.iter().enumerate() {
            if let Some(why) = no_command(pattern) {
                let message = format!("found `{pattern}`, which matches nothing: {why}");
                self.say(&format!("{path}.cmd[{at}]"), message);
            }
        }
    }

    fn routes(&mut self, path: &str, mode: route::Mode, patterns: &[route::Pattern]) {
        if mode == route::Mode::Off && !patterns.is_empty() {
            let message = "found with mode: off, with which no request has a route";
            self.say(&format!("{path}.patterns"), message.into());
        }
        for (at, pattern) in patterns.iter().enumerate() {
            let foreign = pattern
                .as_str()
                .split('/')
                .find_map(|segment| Some((segment, parameter_elsewhere(segment)?)));
            if let Some((segment, name)) = foreign {
                let message = format!(
                    "found `{segment}`, which is fixed text here and matches no other segment; one that \
                     varies is {{{name}}}"
                );
                self.say(&format!("{path}.patterns[{at}]"), message);
            }
        }
    }

    fn filter(&mut self, path: &str, exclude: Option<&[Rule]>, include: Option<&[Rule]>) {
        for (key, rules) in [("exclude", exclude), ("include", include)] {
            for (at, rule) in rules.unwrap_or_default().iter().enumerate() {
                for (name, globs) in [("path", &rule.paths), ("route", &rule.routes)] {
                    self.paths(&format!("{path}.{key}[{at}].{name}"), globs);
                }
            }
        }
    }

    /// What the Collector, too, reads and does not follow.
    fn tail_sampling(&mut self, tail: &TailSampling) {
        for (at, policy) in tail.policies.iter().enumerate() {
            let Composite { composite_sub_policy, policy_order, rate_allocation, .. } =
                &policy.composite;
            let path = format!("tail_sampling.policies[{at}].composite");
            let parts = || composite_sub_policy.iter().filter_map(|part| part.name.as_deref());
            if !policy_order.is_empty() && !parts().eq(policy_order.iter().map(|name| &**name)) {
                let message = format!(
                    "found another order than that of composite_sub_policy, which is the one that counts, as in the \
                     Collector: {}",
                    parts().collect::<Vec<_>>().join(", ")
                );
                self.say(&format!("{path}.policy_order"), message);
            }
            let has_share = |name: &str| {
                rate_allocation.iter().any(|share| share.policy.as_deref() == Some(name))
            };
            for name in parts().filter(|name| !has_share(name)) {
                let message = format!(
                    "found no share of `{name}`, which therefore samples nothing, as in the Collector"
                );
                self.say(&format!("{path}.rate_allocation"), message);
            }
        }
    }

    /// Globs that no path matches.
    fn paths(&mut self, setting: &str, globs: &[Glob]) {
        for (at, Glob { pattern, .. }) in globs.iter().enumerate() {
            let text = pattern.to_string();
            if !begins_as_path(&text) {
                let message = format!("found `{text}`, which matches nothing: paths begin with /");
                self.say(&format!("{setting}[{at}]"), message);
            }
        }
    }
}

/// How a key may have been written: one item may stand for a list of one.
fn as_written(setting: &str) -> Vec<String> {
    let mut pieces = setting.split("[0]");
    let mut paths = vec![pieces.next().unwrap_or_default().to_owned()];
    for piece in pieces {
        let with = paths.iter().map(|path| format!("{path}[0]{piece}"));
        let without = paths.iter().map(|path| format!("{path}{piece}"));
        paths = with.chain(without).collect();
    }
    paths
}

/// Whether a glob may match an absolute path.
fn begins_as_path(glob: &str) -> bool {
    glob.starts_with(['/', '*', '?', '[', '{', '\\'])
}

/// Why no command name matches: the kernel keeps 15 bytes of what is behind the last `/`.
fn no_command(pattern: &Pattern) -> Option<&'static str> {
    const COMM_LEN: usize = 15;
    let text = pattern.to_string();
    let fixed = text.find(['*', '?', '[', '{', '\\']);
    match fixed {
        _ if text.starts_with('/') => Some("a command name is no path, expected exe"),
        Some(at) if at > COMM_LEN => Some("the kernel keeps 15 bytes of a command name"),
        _ => None,
    }
}

/// The name of a parameter in the syntax of another framework: `:id`, `<int:id>`, `[id]`, `$id`.
fn parameter_elsewhere(segment: &str) -> Option<&str> {
    let within = |open: char, close: char| segment.strip_prefix(open)?.strip_suffix(close);
    let name = segment
        .strip_prefix([':', '$'])
        .or_else(|| within('<', '>'))
        .or_else(|| within('[', ']'))
        .or_else(|| within('(', ')'))?;
    let name = name.rsplit(':').next().unwrap_or(name).trim_start_matches('.');
    let is_name = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-');
    Some(if !name.is_empty() && name.chars().all(is_name) { name } else { "name" })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Flags;

    fn said(text: &str) -> Vec<String> {
        let loaded = Config::load(&Flags::default(), |_| None, Some((Path::new("f"), text)));
        loaded.unwrap().warnings.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_is_said_in_vain_is_named_with_its_place() {
        for (text, expected) in [
            (
                "service_name: x\nselectors: [{exe: a, name: b}]\n",
                "f:1:15: service_name: found beside selectors",
            ),
            (
                "routes:\n  patterns: [/a, '/basic/:rnd']\n",
                "f:2:18: routes.patterns[1]: found `:rnd`, which is fixed text here and matches no other \
                 segment; one that varies is {rnd}",
            ),
            (
                "selectors: [{exe: a, filter: {exclude: {path: [/a, b]}}}]\n",
                "f:1:52: selectors[0].filter.exclude[0].path[1]: found `b`",
            ),
            (
                "selectors: {exe: a, filter: {exclude: {path: b}}}\n",
                "f:1:46: selectors[0].filter.exclude[0].path[0]: found `b`",
            ),
            ("routes: {patterns: '/u/<int:id>'}\n", "one that varies is {id}"),
            ("routes: {patterns: '/u/[...slug]'}\n", "one that varies is {slug}"),
            ("routes: {patterns: '/u/$id'}\n", "one that varies is {id}"),
            ("routes: {patterns: '/u/(\\d+)'}\n", "one that varies is {name}"),
            (
                "routes: {patterns: /a, mode: off}\n",
                "f:1:20: routes.patterns: found with mode: off",
            ),
            (
                "selectors: [{exe: a, routes: {patterns: '/:x'}}]\n",
                "f:1:41: selectors[0].routes.patterns[0]: found `:x`",
            ),
            (
                "selectors: [{all: true}, {exe: a}]\n",
                "selectors[1]: takes nothing: selectors[0] takes every process before it",
            ),
            (
                "exclude: [{exe: [a, bin/nginx]}]\n",
                "f:1:21: exclude[0].exe[1]: found `bin/nginx`, which matches nothing: a pattern with `/` is \
                 held against the whole path, expected */bin/nginx",
            ),
            (
                "selectors: [{all: true, exclude: [{cmd: /usr/bin/x}]}]\n",
                "selectors[0].exclude[0].cmd[0]: found `/usr/bin/x`, which matches nothing: a command name \
                 is no path, expected exe",
            ),
            (
                "exclude: [{cmd: sixteen-letters-*}]\n",
                "exclude[0].cmd[0]: found `sixteen-letters-*`, which matches nothing: the kernel keeps 15",
            ),
            (
                "filter: {exclude: [{path: healthz}]}\n",
                "f:1:27: filter.exclude[0].path[0]: found `healthz`, which matches nothing: paths begin with /",
            ),
        ] {
            let said = said(text);
            assert!(said.len() == 1 && said[0].contains(expected), "{text}: {said:?}");
        }
    }

    #[test]
    fn what_has_an_effect_is_not_named() {
        for text in [
            "service_name: x\n",
            "routes: {patterns: ['/v1/x:cancel', '/a/{id}', '/static/*', /]}\n",
            "selectors: [{all: true, exclude: [{exe: a}]}, {exe: [a, '*/b', '/c/d', '{e,f/g}']}]\n",
            "exclude: [{cmd: a-literal-that-is-long}, {cmd: 'sixteen-letter-*'}]\n",
            "filter: {exclude: [{path: ['/a', '!/b', '*.js']}], include: [{route: '/*'}]}\n",
        ] {
            assert_eq!(said(text), Vec::<String>::new(), "{text}");
        }
    }
}
