//! What was measured, kept as a table of text beside the page that is made from it: lines are measured
//! anew one by one.

use std::{fmt::Write as _, fs, path::PathBuf, process::Command};

use anyhow::{Context as _, Result};

use super::measure::Spread;
use crate::shell::{output, workspace};

/// One number.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Row {
    /// Of the line, what: `fexit: CPU per request`.
    pub(crate) what: String,
    pub(crate) value: Spread,
    pub(crate) unit: String,
}

impl Row {
    pub(crate) fn new(what: impl Into<String>, value: Spread, unit: &str) -> Self {
        Self { what: what.into(), value, unit: unit.to_owned() }
    }
}

/// A line as it was measured last.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Measured {
    pub(crate) line: String,
    /// Kernel, processor, commit, load of the machine.
    pub(crate) conditions: String,
    pub(crate) rows: Vec<Row>,
}

#[derive(Debug, Default, PartialEq)]
pub(crate) struct Results(pub(crate) Vec<Measured>);

pub(crate) fn folder() -> PathBuf {
    workspace().join("docs/bench")
}

impl Results {
    pub(crate) fn read() -> Result<Self> {
        match fs::read_to_string(folder().join("results.tsv")) {
            Ok(text) => Self::parse(&text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error).context("docs/bench/results.tsv cannot be read"),
        }
    }

    pub(crate) fn write(&self) -> Result<()> {
        fs::create_dir_all(folder())?;
        Ok(fs::write(folder().join("results.tsv"), self.text())?)
    }

    /// In place of what was there of the same line.
    pub(crate) fn put(&mut self, measured: Measured) {
        self.0.retain(|known| known.line != measured.line);
        self.0.push(measured);
        self.0.sort_by(|a, b| a.line.cmp(&b.line));
    }

    pub(crate) fn line(&self, line: &str) -> Option<&Measured> {
        self.0.iter().find(|measured| measured.line == line)
    }

    fn parse(text: &str) -> Result<Self> {
        let mut results = Self::default();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let fields: Vec<&str> = line.split('\t').collect();
            match fields[..] {
                [line, conditions] => results.0.push(Measured {
                    line: line.to_owned(),
                    conditions: conditions.to_owned(),
                    rows: Vec::new(),
                }),
                ["", what, median, low, high, unit] => {
                    let number = |text: &str| text.parse().with_context(|| line.to_owned());
                    let value =
                        Spread { median: number(median)?, low: number(low)?, high: number(high)? };
                    let last = results.0.last_mut().context("a number without a line")?;
                    last.rows.push(Row::new(what, value, unit));
                }
                _ => anyhow::bail!("{line:?} is neither a line of the bench nor a number"),
            }
        }
        Ok(results)
    }

    fn text(&self) -> String {
        let mut text = String::from("# Written by `cargo xtask bench`.\n");
        for Measured { line, conditions, rows } in &self.0 {
            writeln!(text, "{line}\t{conditions}").expect("into memory");
            for Row { what, value: Spread { median, low, high }, unit } in rows {
                writeln!(text, "\t{what}\t{median:.4}\t{low:.4}\t{high:.4}\t{unit}")
                    .expect("into memory");
            }
        }
        text
    }
}

/// Of this machine, now.
pub(crate) fn conditions() -> Result<String> {
    let read = |path: &str| fs::read_to_string(path).with_context(|| path.to_owned());
    let release = read("/proc/sys/kernel/osrelease")?;
    let processor = read("/proc/cpuinfo")?;
    let mut models = processor.lines().filter_map(|line| line.strip_prefix("model name"));
    let model =
        models.clone().next().map_or("", |model| model.trim_start_matches(['\t', ':', ' ']));
    let count = models.by_ref().count();
    let load = read("/proc/loadavg")?;
    let load = load.split(' ').next().unwrap_or_default();
    Ok(format!("Linux {}, {count} x {model}, commit {}, load {load}", release.trim(), commit()?))
}

/// The commit that is checked out; with a plus sign if something is changed.
pub(crate) fn commit() -> Result<String> {
    let git =
        |arguments: &[&str]| output(Command::new("git").current_dir(workspace()).args(arguments));
    let changed = !git(&["status", "--porcelain", "--untracked-files=no"])?.is_empty();
    Ok(git(&["rev-parse", "--short", "HEAD"])? + if changed { "+" } else { "" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let rows = vec![Row::new("a door", Spread { median: 1.5, low: 1.0, high: 2.0 }, "us")];
        let one = Measured { line: "nginx".into(), conditions: "here".into(), rows };
        let mut results = Results::default();
        results.put(Measured { rows: Vec::new(), ..one.clone() });
        results.put(one);
        assert_eq!(Results::parse(&results.text()).unwrap(), results);
        assert_eq!(results.0.len(), 1);
    }

    #[test]
    fn what_is_no_result_is_refused() {
        assert!(Results::parse("\twhat\t1\t1\t1\tus\n").is_err());
        assert!(Results::parse("line\there\n\twhat\tone\t1\t1\tus\n").is_err());
        assert!(Results::parse("a\tb\tc\n").is_err());
    }
}
