//! Segments that are made of digits and what stands between digits: numbers, dates, addresses. One names
//! one thing, except where it is so short that it may be a version or a word: those are doubtful.

use super::segment::Shape;

const NUMBER: Shape<'_> = Shape::Value("{number}");
const DATE: Shape<'_> = Shape::Value("{date}");
const ADDRESS: Shape<'_> = Shape::Value("{address}");

/// What a segment without any meaning of its own is; `None` if letters make it something else.
pub(super) fn shape(segment: &str) -> Option<Shape<'static>> {
    let bytes = segment.as_bytes();
    if let Some(hex) = segment.strip_prefix("0x").or_else(|| segment.strip_prefix("0X")) {
        let is_hex = !hex.is_empty() && hex.bytes().all(|byte| byte.is_ascii_hexdigit());
        return is_hex.then_some(Shape::Value("{hash}"));
    }
    if is_mac(bytes) || is_ipv6(segment) {
        return Some(ADDRESS);
    }
    let digits = bytes.iter().filter(|byte| byte.is_ascii_digit()).count();
    if digits == 0 {
        return None;
    }
    let (sign, number) = signed(segment);
    if sign && digits >= 5 && number.bytes().all(|b| b.is_ascii_digit() || b"-. ()".contains(&b)) {
        return Some(NUMBER); // +49-151-123456
    }
    if sign && number.bytes().all(|b| b.is_ascii_digit() || b".,-".contains(&b)) {
        return Some(NUMBER);
    }
    // The check digit of an ISBN-10 or ISSN may be ten, which is written X.
    let body = segment.strip_suffix(['x', 'X']).filter(|_| digits >= 7).unwrap_or(segment);
    if !body.bytes().all(|b| b.is_ascii_digit() || b"-._:,/".contains(&b)) {
        return None;
    }
    Some(match () {
        () if body.contains(',') => NUMBER,
        () if is_ipv4(body) => ADDRESS,
        () if is_date(body) => DATE,
        () if digits >= 8 => NUMBER,
        () if is_long_decimal(body) => NUMBER,
        () if body.len() < segment.len() => NUMBER,
        () if body.contains('.') => Shape::Doubtful("{version}"),
        () => Shape::Doubtful("{number}"),
    })
}

/// Whether there is a sign, and what follows it.
fn signed(segment: &str) -> (bool, &str) {
    let rest = segment.strip_prefix(['+', '-']).or_else(|| segment.strip_prefix("%2B"));
    let rest = rest.or_else(|| segment.strip_prefix("%2b"));
    match rest {
        Some(rest) if rest.starts_with(|c: char| c.is_ascii_digit() || "(.".contains(c)) => {
            (true, rest)
        }
        _ => (false, segment),
    }
}

/// `10.0.0.1`, perhaps with a port.
fn is_ipv4(text: &str) -> bool {
    let (host, port) = text.split_once(':').unwrap_or((text, "0"));
    host.parse::<std::net::Ipv4Addr>().is_ok() && port.parse::<u16>().is_ok()
}

/// Colons may be encoded; there may be brackets and a port.
fn is_ipv6(segment: &str) -> bool {
    let colons = segment.bytes().filter(|&byte| byte == b':').count();
    if colons < 2 && !segment.contains("%3A") && !segment.contains("%3a") {
        return false;
    }
    let text = segment.replace("%3A", ":").replace("%3a", ":");
    let literal = text.strip_prefix('[').and_then(|rest| rest.split_once(']'));
    let host = literal.map_or(&*text, |(host, _)| host);
    host.parse::<std::net::Ipv6Addr>().is_ok()
}

/// Six pairs of hexadecimal digits between `:` or `-`.
fn is_mac(bytes: &[u8]) -> bool {
    bytes.len() == 17
        && bytes.iter().enumerate().all(|(at, byte)| match at % 3 {
            2 => matches!(byte, b':' | b'-') && *byte == bytes[2],
            _ => byte.is_ascii_hexdigit(),
        })
}

/// Year, month and day, in this order or the other one, between equal separators.
fn is_date(text: &str) -> bool {
    ['-', '.', '_'].into_iter().any(|separator| {
        let mut parts = text.split(separator);
        let (Some(a), Some(b), Some(c), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return false;
        };
        let (year, day) = if a.len() == 4 { (a, c) } else { (c, a) };
        let within = |part: &str, most: u8| {
            part.len() <= 2 && part.parse::<u8>().is_ok_and(|value| (1..=most).contains(&value))
        };
        let is_year = year.len() == 4 && (year.starts_with("19") || year.starts_with("20"));
        is_year && (within(b, 12) && within(day, 31) || within(b, 31) && within(day, 12))
    })
}

/// A decimal that no version is: three digits or more on a side of its point.
fn is_long_decimal(text: &str) -> bool {
    text.split_once('.').is_some_and(|(whole, fraction)| {
        let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        digits(whole) && digits(fraction) && (whole.len() >= 3 || fraction.len() >= 3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_of_digits_have_these_shapes() {
        let (version, number) = (Shape::Doubtful("{version}"), Shape::Doubtful("{number}"));
        let hash = Shape::Value("{hash}");
        for (segment, expected) in [
            ("10.0.0.1", Some(ADDRESS)),
            ("192.168.1.254:8080", Some(ADDRESS)),
            ("2001:db8::1", Some(ADDRESS)),
            ("[2001:db8::1]:80", Some(ADDRESS)),
            ("2001%3Adb8%3A%3A1", Some(ADDRESS)),
            ("00:1a:2b:3c:4d:5e", Some(ADDRESS)),
            ("00-1A-2B-3C-4D-5E", Some(ADDRESS)),
            ("3.14159", Some(NUMBER)),
            ("1234.5", Some(NUMBER)),
            ("-0.5", Some(NUMBER)),
            ("-12", Some(NUMBER)),
            ("48.85,2.35", Some(NUMBER)),
            ("1,2,3", Some(NUMBER)),
            ("+4915112345678", Some(NUMBER)),
            ("%2B4915112345678", Some(NUMBER)),
            ("+49-151-1234567", Some(NUMBER)),
            ("555-123-4567", Some(NUMBER)),
            ("978-3-16-148410-0", Some(NUMBER)),
            ("0-306-40615-X", Some(NUMBER)),
            ("030640615X", Some(NUMBER)),
            ("1234-567X", Some(NUMBER)),
            ("0x1f", Some(hash)),
            ("0XDEADBEEF", Some(hash)),
            ("2026-11-21", Some(DATE)),
            ("2026.11.21", Some(DATE)),
            ("2026_11_21", Some(DATE)),
            ("21-11-2026", Some(DATE)),
            ("11-21-2026", Some(DATE)),
            ("1.2.2026", Some(DATE)),
            ("1.0", Some(version)),
            ("1.2.3", Some(version)),
            ("20.04", Some(version)),
            ("2024-25", Some(number)),
            ("16:9", Some(number)),
            ("v1.2", None),
            ("10-tips", None),
            ("-", None),
            ("--help", None),
            ("0x", None),
            ("0xyz", None),
            ("::", Some(ADDRESS)),
            ("a:b:c", None),
            ("4x", None),
            ("1080x", None),
        ] {
            assert_eq!(shape(segment), expected, "{segment}");
        }
    }
}
