//! Glob patterns for executables and command names.

use std::{fmt, path::Path, str::FromStr};

use globset::{GlobBuilder, GlobMatcher};

/// Longest command name the kernel keeps (`TASK_COMM_LEN` less its terminator).
const COMM_LEN: usize = 15;

/// A glob: `*` and `?` stand for `/`, too, so that `*/nginx` is any executable of that name; `{a,b}`
/// and `[a-z]` as usual. Compared by its text.
#[derive(Clone)]
pub struct Pattern {
    text: Box<str>,
    matcher: GlobMatcher,
}

/// A text that is not a glob.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a glob: {reason}")]
pub struct PatternError {
    text: String,
    reason: String,
}

impl Pattern {
    /// Whether an executable matches: a pattern with a `/` is held against the whole path, one
    /// without against the file name, so that `nginx` finds `/usr/sbin/nginx`.
    #[must_use]
    pub fn matches_exe(&self, exe: &Path) -> bool {
        if self.text.contains('/') {
            self.matcher.is_match(exe)
        } else {
            exe.file_name().is_some_and(|name| self.matcher.is_match(name))
        }
    }

    /// Whether a whole text matches.
    #[must_use]
    pub fn matches_text(&self, text: &str) -> bool {
        self.matcher.is_match(text)
    }

    /// Whether a command name matches. The kernel cuts names to 15 bytes, so a literal pattern is
    /// cut likewise.
    #[must_use]
    pub fn matches_comm(&self, comm: &str) -> bool {
        let literal = !self.text.contains(['*', '?', '[', '{', '\\']);
        if literal {
            let len = self.text.len().min(COMM_LEN);
            self.text.as_bytes()[..len] == *comm.as_bytes()
        } else {
            self.matcher.is_match(comm)
        }
    }
}

impl PatternError {
    /// What is wrong with the text.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.reason
    }
}

impl FromStr for Pattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let error = |reason: String| PatternError { text: text.to_owned(), reason };
        if text.is_empty() {
            return Err(error("it is empty".into()));
        }
        let glob = GlobBuilder::new(text)
            .literal_separator(false)
            .build()
            .map_err(|e| error(e.kind().to_string()))?;
        Ok(Self { text: text.into(), matcher: glob.compile_matcher() })
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pattern({:?})", self.text)
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_without_slash_is_held_against_the_file_name() {
        let rows = [
            ("nginx", "/usr/sbin/nginx", true),
            ("python3*", "/usr/bin/python3.11", true),
            ("nginx", "/usr/sbin/nginx-debug", false),
            ("/usr/*/nginx", "/usr/sbin/nginx", true),
            ("/usr/*", "/usr/sbin/nginx", true),
            ("*/nginx", "/usr/sbin/nginx", true),
            ("*/nginx", "/usr/sbin/nginx-debug", false),
            ("*/target/{debug,release}/*", "/home/me/shop/target/release/shop", true),
            ("sbin/nginx", "/usr/sbin/nginx", false),
        ];
        for (pattern, exe, expected) in rows {
            let found = pattern.parse::<Pattern>().unwrap().matches_exe(Path::new(exe));
            assert_eq!(found, expected, "{pattern} against {exe}");
        }
    }

    #[test]
    fn long_literal_command_names_match_what_the_kernel_keeps() {
        let pattern: Pattern = "checkout-service".parse().unwrap();
        assert!(pattern.matches_comm("checkout-servic"));
        assert!(!pattern.matches_comm("checkout"));
        assert!("checkout*".parse::<Pattern>().unwrap().matches_comm("checkout-servic"));
    }

    #[test]
    fn names_the_glob_that_is_wrong() {
        let error = "a[b".parse::<Pattern>().unwrap_err().to_string();
        assert!(error.starts_with("`a[b` is not a glob: "), "{error}");
        assert!("".parse::<Pattern>().is_err());
    }
}
