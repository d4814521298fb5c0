//! What one path segment looks like: a fixed word, or a value of some kind. Judged by its bytes
//! alone, in one pass; when in doubt it is fixed, the tree corrects that.

use super::number;

/// How a segment appears in a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape<'a> {
    /// As it is.
    Fixed,
    /// As this placeholder; there are few.
    Value(&'static str),
    /// As it is while there are few like it beside it (versions), then as this placeholder.
    Doubtful(&'static str),
    /// An entity by its key (OData URL conventions, section 4.3): `Products(42)` is this name and `({id})`.
    Keyed(&'a str),
}

/// Static assets, named after their extension.
const ASSETS: &[(&str, &str)] = &[
    ("avif", "*.avif"),
    ("bmp", "*.bmp"),
    ("css", "*.css"),
    ("eot", "*.eot"),
    ("gif", "*.gif"),
    ("gz", "*.gz"),
    ("ico", "*.ico"),
    ("jpeg", "*.jpeg"),
    ("jpg", "*.jpg"),
    ("js", "*.js"),
    ("map", "*.map"),
    ("mjs", "*.mjs"),
    ("mp3", "*.mp3"),
    ("mp4", "*.mp4"),
    ("ogg", "*.ogg"),
    ("otf", "*.otf"),
    ("pdf", "*.pdf"),
    ("png", "*.png"),
    ("svg", "*.svg"),
    ("tgz", "*.tgz"),
    ("ttf", "*.ttf"),
    ("wasm", "*.wasm"),
    ("webm", "*.webm"),
    ("webp", "*.webp"),
    ("woff", "*.woff"),
    ("woff2", "*.woff2"),
    ("zip", "*.zip"),
];

/// Counted in one pass over a segment.
#[derive(Default)]
struct Census {
    digits: usize,
    letters: usize,
    /// Letters beyond `f`.
    not_hex: usize,
    /// What no word, number or token has.
    strange: usize,
    separators: usize,
    dots: usize,
    percents: usize,
    at: bool,
    /// A digit beside a letter.
    mixed: usize,
    /// `I L O U` in any case, which Crockford's base 32 leaves out.
    not_crockford: bool,
}

impl Census {
    fn of(segment: &[u8]) -> Self {
        let mut census = Self::default();
        let mut previous = 0_u8;
        for &byte in segment {
            match byte {
                b'0'..=b'9' => {
                    census.digits += 1;
                    census.mixed += usize::from(previous.is_ascii_alphabetic());
                }
                b'a'..=b'z' | b'A'..=b'Z' => {
                    let lower = byte | 0x20;
                    census.letters += 1;
                    census.not_hex += usize::from(lower > b'f');
                    census.not_crockford |= matches!(lower, b'i' | b'l' | b'o' | b'u');
                    census.mixed += usize::from(previous.is_ascii_digit());
                }
                b'-' | b'_' => census.separators += 1,
                b'.' => census.dots += 1,
                b'@' => census.at = true,
                b'%' => census.percents += 1,
                b'~' | b'+' | b'=' | b':' | b',' | b'!' | b'$' | b'(' | b')' | b'*' => {}
                _ => census.strange += 1,
            }
            previous = byte;
        }
        census
    }
}

/// What `segment` is; `last` if no other follows.
pub(super) fn shape(segment: &str, last: bool) -> Shape<'_> {
    use Shape::{Doubtful, Fixed, Keyed, Value};
    let bytes = segment.as_bytes();
    let len = bytes.len();
    if len == 0 || matches!(segment, "." | "..") {
        return Fixed;
    }
    let census = Census::of(bytes);
    let Census { digits, letters, .. } = census;
    if digits == len {
        return Value("{id}");
    }
    if is_date(bytes) {
        return Value("{date}");
    }
    if len <= 64
        && digits + census.separators > 0
        && let Some(shape) = number::shape(segment)
    {
        return shape;
    }
    if let Some(name) = keyed(segment) {
        return Keyed(name);
    }
    let encoded_at = census.percents > 0 && segment.contains("%40");
    if (census.at || encoded_at) && census.dots > 0 {
        return Value("{email}");
    }
    if last
        && census.dots > 0
        && let Some(asset) = asset(segment)
    {
        return Value(asset);
    }
    if digits == 0 && letters + census.separators == len {
        // Words. Nobody names a path like this, but keys without digits exist.
        return if len >= 40 && census.separators == 0 { Value("{token}") } else { Fixed };
    }
    if len == 36 && census.not_hex == 0 && is_uuid(bytes) {
        return Value("{uuid}");
    }
    if len >= 8 && census.not_hex == 0 && digits > 0 && digits + letters == len {
        return Value("{hash}");
    }
    if (5..8).contains(&len) && census.not_hex == 0 && digits > 0 && digits + letters == len {
        return Doubtful("{hash}");
    }
    if len == 26
        && digits + letters == len
        && !census.not_crockford
        && matches!(bytes[0], b'0'..=b'7')
    {
        return Value("{ulid}");
    }
    if digits >= 5 && ends_in_number(bytes, 5) {
        return Value("{id}"); // order-12345, usr_10023
    }
    if census.percents >= 3 || census.strange > 0 || len > 96 {
        return Value("{param}");
    }
    if len >= 16 && digits >= 2 && census.mixed >= 2 {
        return Value("{token}");
    }
    Fixed
}

/// The name in front of a key in parentheses, if that is one: a number, a quoted text, or named parts.
fn keyed(segment: &str) -> Option<&str> {
    let (name, key) = segment.strip_suffix(')')?.split_once('(')?;
    let begins = name.starts_with(|c: char| c.is_ascii_alphabetic());
    let is_name = begins && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.".contains(&b));
    let is_key = key.starts_with(|c: char| c.is_ascii_digit() || "-'".contains(c))
        || key.starts_with("%27")
        || key.contains(['=', '\''])
        || (key.len() == 36 && is_uuid(key.as_bytes()));
    (is_name && is_key && !name.ends_with('_')).then_some(name)
}

fn asset(segment: &str) -> Option<&'static str> {
    let (_, extension) = segment.rsplit_once('.')?;
    let mut lower = [0_u8; 5];
    let lower = lower.get_mut(..extension.len())?;
    lower.copy_from_slice(extension.as_bytes());
    lower.make_ascii_lowercase();
    let at = ASSETS.binary_search_by(|(known, _)| known.as_bytes().cmp(lower)).ok()?;
    Some(ASSETS[at].1)
}

fn is_uuid(bytes: &[u8]) -> bool {
    bytes.iter().enumerate().all(|(at, byte)| match at {
        8 | 13 | 18 | 23 => *byte == b'-',
        _ => byte.is_ascii_hexdigit(),
    })
}

/// `2026-11-21` or `2026-11`, alone or in front of a time (`T..`).
fn is_date(bytes: &[u8]) -> bool {
    let digits = |part: &[u8]| part.iter().all(u8::is_ascii_digit);
    let head = match bytes {
        [date @ .., b'Z'] if bytes.len() > 10 => date,
        date => date,
    };
    match head {
        [y @ .., b'-', m1, m2] if y.len() == 4 => digits(y) && digits(&[*m1, *m2]) && *m1 <= b'1',
        [a, b, c, d, b'-', e, f, b'-', g, h, rest @ ..] => {
            digits(&[*a, *b, *c, *d, *e, *f, *g, *h])
                && *e <= b'1'
                && *g <= b'3'
                && (rest.is_empty() || rest[0] == b'T')
        }
        _ => false,
    }
}

/// A word, a separator, and at least `least` digits.
fn ends_in_number(bytes: &[u8], least: usize) -> bool {
    let number = bytes.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    number >= least && matches!(bytes[bytes.len() - number - 1], b'-' | b'_' | b'.' | b':')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn assets_are_sorted_for_the_search() {
        assert!(ASSETS.is_sorted());
        assert!(ASSETS.iter().all(|(name, _)| name.len() <= 5));
    }

    #[test]
    fn segments_have_these_shapes() {
        for (segment, expected) in [
            // fixed
            ("users", ""),
            ("v1", ""),
            ("v2beta1", ""),
            ("oauth2", ""),
            ("sha256", ""),
            ("deadbeef", ""),
            ("feed", ""),
            ("index.html", ""),
            ("users.json", ""),
            ("getUserAccountsByIdV2", ""),
            ("release-2024-10-notes", ""),
            ("how-to-install-windows-11-on-a-mac", ""),
            ("very-long-words-with-many-separators-in-them", ""),
            ("report-2024", ""),
            (".well-known", ""),
            ("..", ""),
            ("caf%C3%A9", ""),
            ("123:cancel", ""),
            // values
            ("0", "{id}"),
            ("20261121", "{id}"),
            ("order-12345", "{id}"),
            ("usr_10023456", "{id}"),
            ("123e4567-e89b-12d3-a456-426614174000", "{uuid}"),
            ("123E4567-E89B-12D3-A456-426614174000", "{uuid}"),
            ("123e4567e89b12d3a456426614174000", "{hash}"),
            ("9f86d081", "{hash}"),
            ("507f1f77bcf86cd799439011", "{hash}"),
            ("01ARZ3NDEKTSV4RRFFQ69G5FAV", "{ulid}"),
            ("01arz3ndektsv4rrffq69g5fav", "{ulid}"),
            ("2026-11-21", "{date}"),
            ("2026-11", "{date}"),
            ("2026-11-21T10:00:00Z", "{date}"),
            ("jane@example.com", "{email}"),
            ("jane%40example.com", "{email}"),
            ("dQw4w9WgXcQ5bZ1kT8s", "{token}"),
            ("eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9", "{token}"),
            ("abcdefghijklmnopqrstuvwxyzabcdefghijklmnop", "{token}"),
            ("%E4%BD%A0%E5%A5%BD", "{param}"),
            ("<script>", "{param}"),
            ("app.8f3a2c.js", "*.js"),
            ("LOGO.PNG", "*.png"),
            ("font.woff2", "*.woff2"),
        ] {
            let expected = if expected.is_empty() { Shape::Fixed } else { Shape::Value(expected) };
            assert_eq!(shape(segment, true), expected, "{segment}");
        }
        assert_eq!(shape("node.js", false), Shape::Fixed);
    }
}
