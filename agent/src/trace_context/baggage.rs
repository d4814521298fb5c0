//! W3C Baggage (<https://www.w3.org/TR/baggage/>): what an application has passed on with a request.

use std::{borrow::Cow, sync::Arc};

/// Bytes of a value that are kept.
const MAX_VALUE_LEN: usize = 1024;

/// The values of these `keys` among the members of all `baggage` fields of a message, in the order of `keys`, decoded. Of a key that
/// occurs more than once the first counts; properties are left out. What is malformed is as if it were not there.
pub fn values<'a>(
    keys: &[Arc<str>],
    fields: impl Iterator<Item = &'a [u8]>,
) -> Vec<(Arc<str>, Box<str>)> {
    let mut found: Vec<Option<Box<str>>> = vec![None; keys.len()];
    for member in fields.flat_map(|field| field.split(|&byte| byte == b',')) {
        let Some(equals) = memchr::memchr(b'=', member) else { continue };
        let key = member[..equals].trim_ascii();
        let Some(at) = keys.iter().position(|known| known.as_bytes() == key) else { continue };
        let value = member[equals + 1..].split(|&byte| byte == b';').next().unwrap_or_default();
        if let Some(value) = decoded(value.trim_ascii()) {
            found[at].get_or_insert(value);
        }
    }
    let found = keys.iter().zip(found);
    found.filter_map(|(key, value)| Some((Arc::clone(key), value?))).collect()
}

fn decoded(value: &[u8]) -> Option<Box<str>> {
    let text: Cow<'_, str> = percent_encoding::percent_decode(value).decode_utf8().ok()?;
    let end = text.floor_char_boundary(MAX_VALUE_LEN);
    Some(text[..end].into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(fields: &[&str]) -> Vec<String> {
        let keys = ["tenant.id", "tier", "absent"].map(Arc::from);
        let values = values(&keys, fields.iter().map(|field| field.as_bytes()));
        values.iter().map(|(key, value)| format!("{key}={value}")).collect()
    }

    #[test]
    fn keys_that_are_asked_for_are_found_in_any_field() {
        assert_eq!(
            found(&["a=1, tier = gold ;ttl=3", "tenant.id=x%2Cy%20z"]),
            ["tenant.id=x,y z", "tier=gold"]
        );
        assert_eq!(found(&["tier=one,tier=two", "Tier=three"]), ["tier=one"]);
    }

    #[test]
    fn what_is_malformed_is_not_there() {
        assert_eq!(found(&["tier", "=gold", ",,", "tier=%ff"]), [""; 0]);
        assert_eq!(found(&["tier="]), ["tier="]);
    }

    #[test]
    fn a_long_value_is_cut() {
        let value = "é".repeat(1000);
        assert_eq!(found(&[&format!("tier={value}")])[0].len(), "tier=".len() + MAX_VALUE_LEN);
    }
}
