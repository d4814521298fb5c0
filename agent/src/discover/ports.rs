//! Which ports a selector means: `80,443,8000-8099`.

use std::{fmt, ops::RangeInclusive, str::FromStr};

/// A set of TCP ports as inclusive ranges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ports(Vec<RangeInclusive<u16>>);

/// Why a text is not a list of ports.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PortsError {
    #[error("`{0}` is not a port, expected 1 to 65535 or a range such as 8000-8099")]
    NotAPort(String),
    #[error("range `{0}` ends before it starts")]
    Backwards(String),
}

impl Ports {
    #[must_use]
    pub fn contains(&self, port: u16) -> bool {
        self.0.iter().any(|range| range.contains(&port))
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds the ports of `other`.
    pub fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }
}

impl From<u16> for Ports {
    fn from(port: u16) -> Self {
        Self(vec![port..=port])
    }
}

impl FromStr for Ports {
    type Err = PortsError;

    /// Ports and ranges separated by commas; spaces around them are ignored.
    fn from_str(text: &str) -> Result<Self, PortsError> {
        text.split(',').map(|part| range(part.trim())).collect::<Result<_, _>>().map(Self)
    }
}

fn range(part: &str) -> Result<RangeInclusive<u16>, PortsError> {
    let port = |text: &str| match text.trim().parse() {
        Ok(port) if port > 0 => Ok(port),
        _ => Err(PortsError::NotAPort(part.to_owned())),
    };
    let (first, last) = match part.split_once('-') {
        Some((first, last)) => (port(first)?, port(last)?),
        None => (port(part)?, port(part)?),
    };
    if last < first {
        return Err(PortsError::Backwards(part.to_owned()));
    }
    Ok(first..=last)
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, range) in self.0.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            match (range.start(), range.end()) {
                (first, last) if first == last => write!(f, "{comma}{first}")?,
                (first, last) => write!(f, "{comma}{first}-{last}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_lists_and_ranges() {
        let ports: Ports = "80, 443,8000-8002".parse().unwrap();
        let inside = [80, 443, 8000, 8001, 8002];
        assert!(inside.into_iter().all(|port| ports.contains(port)));
        assert!([0, 81, 7999, 8003].into_iter().all(|port| !ports.contains(port)));
        assert_eq!(ports.to_string(), "80,443,8000-8002");
    }

    #[test]
    fn names_what_is_not_a_port() {
        for wrong in ["", "0", "http", "65536", "80,", "80-", "1-2-3"] {
            assert!(matches!(wrong.parse::<Ports>(), Err(PortsError::NotAPort(_))), "{wrong:?}");
        }
        assert_eq!("90-80".parse::<Ports>(), Err(PortsError::Backwards("90-80".into())));
    }
}
