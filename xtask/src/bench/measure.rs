//! Numbers: repeated measurements, and the processor time that a process has used.

use std::{fmt, fs};

use anyhow::{Context as _, Result};

/// Several measurements of one thing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

impl Spread {
    /// # Panics
    /// If there is none.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let (low, high) = (values[0], values[values.len() - 1]);
        let middle = values.len() / 2;
        let median = if values.len().is_multiple_of(2) {
            (values[middle - 1] + values[middle]) / 2.0
        } else {
            values[middle]
        };
        Self { median, low, high }
    }

    pub(crate) fn exactly(value: f64) -> Self {
        Self { median: value, low: value, high: value }
    }
}

impl fmt::Display for Spread {
    /// `1.23 (1.1 … 1.4)`, with as many digits as matter.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&number(self.median))?;
        if self.low < self.high {
            write!(f, " ({} … {})", number(self.low), number(self.high))?;
        }
        Ok(())
    }
}

/// Three digits, and all of those before the point, in groups.
pub(crate) fn number(value: f64) -> String {
    let digits = match value.abs() {
        small if small == 0.0 || small >= 99.95 => 0,
        small if small >= 9.995 => 1,
        small if small >= 0.9995 => 2,
        _ => 3,
    };
    let text = format!("{value:.digits$}");
    let (whole, rest) = text.split_at(text.find('.').unwrap_or(text.len()));
    let (sign, whole) = whole.strip_prefix('-').map_or(("", whole), |whole| ("-", whole));
    let mut grouped = String::new();
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && (whole.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    format!("{sign}{grouped}{rest}")
}

/// Nanoseconds that the threads of `pid` have run. Exact for threads that wait.
pub(crate) fn cpu_ns(pid: u32) -> Result<u64> {
    let folder = format!("/proc/{pid}/task");
    let mut sum = 0;
    for entry in fs::read_dir(&folder).with_context(|| format!("in {folder}"))? {
        // A thread may end meanwhile.
        let Ok(text) = fs::read_to_string(entry?.path().join("schedstat")) else { continue };
        sum += text.split(' ').next().and_then(|ns| ns.parse::<u64>().ok()).unwrap_or(0);
    }
    Ok(sum)
}

/// Seconds in user space, by ticks of 10 ms.
pub(crate) fn user_seconds(pid: u32) -> Result<f64> {
    let path = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&path).with_context(|| format!("in {path}"))?;
    // The name in parentheses may have spaces.
    let fields = text.rsplit_once(')').map_or("", |(_, fields)| fields);
    let ticks = fields.split_whitespace().nth(11).and_then(|ticks| ticks.parse::<u32>().ok());
    Ok(f64::from(ticks.context("no utime")?) / 100.0)
}

/// Resident memory, bytes.
pub(crate) fn rss(pid: u32) -> Result<u64> {
    status(pid, "VmRSS:").map(|kib| kib * 1024)
}

fn status(pid: u32, key: &str) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(key));
    let value = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    value.with_context(|| format!("no {key} of {pid}"))
}

/// Bytes that the kernel holds for the BPF maps which `pid` has open.
pub(crate) fn map_bytes(pid: u32) -> Result<u64> {
    let mut maps = Vec::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fdinfo"))? {
        let Ok(text) = fs::read_to_string(entry?.path()) else { continue };
        let value = |key: &str| {
            text.lines().find_map(|line| line.strip_prefix(key)?.trim().parse::<u64>().ok())
        };
        if let (Some(id), Some(bytes)) = (value("map_id:"), value("memlock:")) {
            maps.push((id, bytes));
        }
    }
    maps.sort_unstable();
    maps.dedup();
    Ok(maps.iter().map(|(_, bytes)| bytes).sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_has_median_and_ends() {
        let spread = Spread::of([3.0, 1.0, 2.0]);
        assert_eq!((spread.low, spread.median, spread.high), (1.0, 2.0, 3.0));
        assert_eq!(Spread::of([1.0, 2.0]).median, 1.5);
        assert_eq!(Spread::of([1.0, 2.0, 3.0]).to_string(), "2.00 (1.00 … 3.00)");
        assert_eq!(Spread::exactly(7.0).to_string(), "7.00");
    }

    #[test]
    fn numbers_have_the_digits_that_matter() {
        assert_eq!(number(1_234_567.8), "1,234,568");
        assert_eq!(number(0.901_23), "0.901");
        assert_eq!(number(-20.04), "-20.0");
        assert_eq!(number(0.0), "0");
        assert_eq!(number(100.0), "100");
    }

    #[test]
    fn this_process_has_used_time_and_memory() {
        let own = std::process::id();
        assert!(rss(own).unwrap() > 100_000);
        assert!(cpu_ns(own).unwrap() > 0);
        assert!(user_seconds(own).unwrap() >= 0.0);
    }
}
