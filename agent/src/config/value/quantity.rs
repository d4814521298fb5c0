//! Sizes and times, each with its unit.

use std::{fmt, time::Duration};

use serde_json::Value as Json;

use super::{Setting, text};
use crate::config::shape::Scalar;

/// Bytes: `4096`, `64KiB`, `16MiB`, `1GiB`. Decimal units are refused, for they are mostly meant as
/// binary ones and the ring needs a power of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

impl Size {
    #[must_use]
    pub const fn kib(count: u64) -> Self {
        Self(count << 10)
    }

    #[must_use]
    pub const fn mib(count: u64) -> Self {
        Self(count << 20)
    }
}

impl Setting for Size {
    const SAMPLES: &'static [&'static str] = &["64KiB", "128KiB", "262144"];

    fn parse(text: &str) -> Result<Self, String> {
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (count, unit) = text.split_at(digits);
        let shift = match unit.trim() {
            "" | "B" => 0,
            "K" | "KiB" => 10,
            "M" | "MiB" => 20,
            "G" | "GiB" => 30,
            _ => 64,
        };
        count
            .parse::<u64>()
            .ok()
            .filter(|_| shift < 64)
            .and_then(|count| count.checked_mul(1 << shift))
            .map(Self)
            .ok_or("a size such as 4096, 64KiB or 16MiB".into())
    }

    fn written(&self) -> Json {
        self.to_string().into()
    }

    fn looks() -> Scalar {
        Scalar {
            types: &["string", "integer"],
            pattern: Some("^[0-9]+ *(B|K|KiB|M|MiB|G|GiB)?$"),
            ..text("a size such as 4096, 64KiB or 16MiB")
        }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
        match unit.into_iter().find(|(shift, _)| self.0 > 0 && self.0.trailing_zeros() >= *shift) {
            Some((shift, unit)) => write!(f, "{}{unit}", self.0 >> shift),
            None => write!(f, "{}", self.0),
        }
    }
}

impl Setting for Duration {
    const SAMPLES: &'static [&'static str] = &["2s", "3500ms", "5m"];

    fn parse(text: &str) -> Result<Self, String> {
        const UNITS: [(&str, f64); 5] =
            [("us", 1e-6), ("ms", 1e-3), ("s", 1.0), ("m", 60.0), ("h", 3600.0)];
        let is_digit = |c: char| c.is_ascii_digit() || c == '.';
        // `1m30s` is a sum, as Go writes it.
        let sum = |text: &str| {
            let (mut sum, mut rest) = (Self::ZERO, text);
            loop {
                let (count, behind) = rest.split_at(rest.find(|c| !is_digit(c))?);
                let (unit, next) = behind.split_at(behind.find(is_digit).unwrap_or(behind.len()));
                let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit.trim())?;
                let part = Self::try_from_secs_f64(count.parse::<f64>().ok()? * factor).ok()?;
                sum = sum.checked_add(part)?;
                if next.is_empty() {
                    return Some(sum);
                }
                rest = next;
            }
        };
        sum(text).ok_or("a time such as 500ms, 10s or 5m".into())
    }

    fn written(&self) -> Json {
        if self.is_zero() {
            return "0s".into();
        }
        format!("{self:?}").replace('µ', "u").into()
    }

    fn looks() -> Scalar {
        Scalar {
            pattern: Some("^([0-9]+(\\.[0-9]+)? *(us|ms|s|m|h) *)+$"),
            ..text("a time such as 500ms, 10s or 5m")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_sizes_in_binary_units_only() {
        let rows =
            [("0", 0), ("4096", 4096), ("64KiB", 65536), ("16 MiB", 16 << 20), ("1G", 1 << 30)];
        for (text, bytes) in rows {
            assert_eq!(Size::parse(text), Ok(Size(bytes)), "{text}");
        }
        for wrong in ["", "MiB", "1MB", "-1", "1.5MiB", "99999999999GiB"] {
            assert!(Size::parse(wrong).is_err(), "{wrong}");
        }
        assert_eq!(
            [Size(1), Size::kib(64), Size::mib(16)].map(|s| s.to_string()),
            ["1", "64KiB", "16MiB"]
        );
    }

    #[test]
    fn reads_durations_with_a_unit_only() {
        let rows = [
            ("500ms", 500),
            ("10s", 10_000),
            ("1.5s", 1500),
            ("5m", 300_000),
            ("1h", 3_600_000),
            ("1m30s", 90_000),
        ];
        for (text, millis) in rows {
            assert_eq!(Duration::parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for wrong in ["", "10", "s", "10 days", "-1s", "1.2.3s", "1m30", "1m 30"] {
            assert!(Duration::parse(wrong).is_err(), "{wrong}");
        }
    }
}
