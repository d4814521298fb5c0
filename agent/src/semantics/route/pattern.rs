//! Route patterns of the user: `/users/{id}/orders/{order}`, `/static/*`.

use std::sync::Arc;

use thiserror::Error;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Fixed(Box<str>),
    /// `{name}`: one segment, not empty.
    One,
}

/// A pattern; its text is the route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    route: Arc<str>,
    pieces: Vec<Piece>,
    /// Ends in `/*`: anything below, and the prefix itself with a slash.
    rest: bool,
}

/// Why a text is not a pattern.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PatternError {
    #[error("route pattern `{0}` does not begin with `/`")]
    NoSlash(String),
    #[error(
        "segment `{segment}` of route pattern `{pattern}` is neither fixed text nor `{{name}}`"
    )]
    Segment { pattern: String, segment: String },
    #[error("`*` in route pattern `{0}` is not its last segment")]
    Star(String),
}

impl Pattern {
    /// A pattern of segments that are fixed text, `{name}` (exactly one segment), or, at the end, `*`
    /// (any number of segments).
    ///
    /// # Errors
    /// [`PatternError`] names the pattern and the segment.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let Some(path) = text.strip_prefix('/') else {
            return Err(PatternError::NoSlash(text.into()));
        };
        let mut segments: Vec<&str> = path.split('/').collect();
        let rest = segments.last() == Some(&"*");
        if rest {
            segments.pop();
        }
        let piece = |segment: &str| {
            let name = segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
            match name {
                Some(name) if !name.is_empty() && !name.contains(['{', '}']) => Ok(Piece::One),
                None if segment == "*" => Err(PatternError::Star(text.into())),
                None if !segment.contains(['{', '}', '*', '?', '#']) => {
                    Ok(Piece::Fixed(segment.into()))
                }
                _ => Err(PatternError::Segment { pattern: text.into(), segment: segment.into() }),
            }
        };
        let pieces = segments.into_iter().map(piece).collect::<Result<_, _>>()?;
        Ok(Self { route: text.into(), pieces, rest })
    }

    /// As it was written, which is the route.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.route
    }

    pub(super) fn matches(&self, path: &str) -> bool {
        let mut segments = path.split('/').skip(1);
        for piece in &self.pieces {
            let matched = match (piece, segments.next()) {
                (Piece::Fixed(text), Some(segment)) => **text == *segment,
                (Piece::One, Some(segment)) => !segment.is_empty(),
                (_, None) => false,
            };
            if !matched {
                return false;
            }
        }
        segments.next().is_some() == self.rest
    }

    pub(super) fn route(&self) -> Arc<str> {
        Arc::clone(&self.route)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_whole_paths() {
        for (pattern, path, expected) in [
            ("/", "/", true),
            ("/", "/a", false),
            ("/a/{b}", "/a/x", true),
            ("/a/{b}", "/a/", false),
            ("/a/{b}", "/a", false),
            ("/a/{b}", "/a/x/y", false),
            ("/a/{b}", "/a/x/", false),
            ("/a/{b}/", "/a/x/", true),
            ("/{a}/b", "/x/b", true),
            ("/a/*", "/a/", true),
            ("/a/*", "/a/x/y/z", true),
            ("/a/*", "/a", false),
            ("/a/*", "/b/x", false),
            ("/*", "/anything/at/all", true),
        ] {
            assert_eq!(
                Pattern::parse(pattern).unwrap().matches(path),
                expected,
                "{pattern} {path}"
            );
        }
    }

    #[test]
    fn mistakes_are_named() {
        for (text, expected) in [
            ("users", "route pattern `users` does not begin with `/`"),
            ("/a/*/b", "`*` in route pattern `/a/*/b` is not its last segment"),
            ("/a/{}", "segment `{}` of route pattern `/a/{}` is neither fixed text nor `{name}`"),
            (
                "/a/x{b}",
                "segment `x{b}` of route pattern `/a/x{b}` is neither fixed text nor `{name}`",
            ),
        ] {
            assert_eq!(Pattern::parse(text).unwrap_err().to_string(), expected);
        }
    }
}
