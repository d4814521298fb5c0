//! `OTEL_RESOURCE_ATTRIBUTES`: `key=value` pairs separated by commas, percent-encoded
//! (OpenTelemetry specification, Resource SDK, "Specifying resource information via an environment
//! variable").

/// Why the variable was discarded; the specification asks for all or nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResourceAttributesError {
    #[error("`{0}` has no `=`, expected key=value")]
    NoEquals(String),
    #[error("`{0}` has no key, expected key=value")]
    NoKey(String),
    #[error("`{0}` is not percent-encoded UTF-8")]
    Encoding(String),
}

impl ResourceAttributesError {
    /// What is wrong, without a word of the text: it may be anything.
    #[must_use]
    pub const fn what(&self) -> &'static str {
        match self {
            Self::NoEquals(_) => "a pair without `=`",
            Self::NoKey(_) => "a pair without a key",
            Self::Encoding(_) => "a pair that is not percent-encoded UTF-8",
        }
    }
}

/// The pairs in `text`, in order; empty parts are ignored.
///
/// # Errors
/// [`ResourceAttributesError`] names the first pair that is wrong.
pub fn parse(text: &str) -> Result<Vec<(String, String)>, ResourceAttributesError> {
    text.split(',').map(str::trim).filter(|pair| !pair.is_empty()).map(parse_pair).collect()
}

fn parse_pair(pair: &str) -> Result<(String, String), ResourceAttributesError> {
    let (key, value) =
        pair.split_once('=').ok_or_else(|| ResourceAttributesError::NoEquals(pair.to_owned()))?;
    let decoded = |text: &str| {
        percent_decode(text.trim())
            .ok_or_else(|| ResourceAttributesError::Encoding(pair.to_owned()))
    };
    let (key, value) = (decoded(key)?, decoded(value)?);
    if key.is_empty() {
        return Err(ResourceAttributesError::NoKey(pair.to_owned()));
    }
    Ok((key, value))
}

fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => {
                let digit = |byte: u8| char::from(byte).to_digit(16);
                let value = digit(bytes.next()?)? * 16 + digit(bytes.next()?)?;
                u8::try_from(value).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(decoded).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_pairs_with_percent_encoding_and_spaces() {
        let pairs = parse("service.name=shop, team=a%2Cb%3Dc ,,empty=,city=M%C3%BCnster").unwrap();
        let expected =
            [("service.name", "shop"), ("team", "a,b=c"), ("empty", ""), ("city", "Münster")];
        assert_eq!(pairs, expected.map(|(key, value)| (key.to_owned(), value.to_owned())));
    }

    #[test]
    fn keeps_further_equal_signs_in_the_value() {
        assert_eq!(parse("a=b=c").unwrap(), [("a".to_owned(), "b=c".to_owned())]);
    }

    #[test]
    fn one_wrong_pair_discards_all() {
        assert!(matches!(parse("a=1,b"), Err(ResourceAttributesError::NoEquals(_))));
        assert!(matches!(parse("a=1,=2"), Err(ResourceAttributesError::NoKey(_))));
        for wrong in ["a=%", "a=%4", "a=%zz", "a=%ff"] {
            assert!(matches!(parse(wrong), Err(ResourceAttributesError::Encoding(_))), "{wrong}");
        }
    }
}
