//! Instruction counts as a gate: they repeat, so a change that makes something dearer shows.
//!
//! `docs/bench/accepted.tsv` holds the numbers of the agent as the tests build it. They hold for one kernel
//! and one QEMU; under others nothing is compared, and that is said.

use std::{fmt::Write as _, fs, path::PathBuf, process::Command};

use anyhow::{Context as _, Result, bail};

use super::{guest, measure::number, results};
use crate::{
    shell::{self, WORKSPACE, cargo, target_dir},
    vm,
};

/// The kernel on which is counted.
const KERNEL: vm::Version = vm::Version(6, 12);

/// The doors that are held to their numbers: each agent that starts takes seconds of emulation.
const DOORS: [&str; 2] = ["socket", "fexit"];

/// A number may rise by this share.
const TOLERANCE: f64 = 0.05;

/// And by so many instructions a request whatever the share: what is nearly nothing varies by more.
const NOISE: f64 = 60.0;

/// What was accepted.
#[derive(Debug, Default, PartialEq)]
struct Accepted {
    kernel: String,
    qemu: String,
    numbers: Vec<(String, f64)>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Verdict {
    Same,
    Risen,
    Fallen,
    New,
    Gone,
}

impl Verdict {
    fn of(accepted: Option<f64>, now: Option<f64>) -> Self {
        match (accepted, now) {
            (None, _) => Self::New,
            (Some(_), None) => Self::Gone,
            (Some(accepted), Some(now)) => {
                let room = (accepted.abs() * TOLERANCE).max(NOISE);
                match now - accepted {
                    change if change > room => Self::Risen,
                    change if change < -room => Self::Fallen,
                    _ => Self::Same,
                }
            }
        }
    }

    const fn says(self) -> &'static str {
        match self {
            Self::Same => "",
            Self::Risen => "RISEN by more than 5 %",
            Self::Fallen => "fallen: lower the accepted number",
            Self::New => "not accepted yet",
            Self::Gone => "not counted any more",
        }
    }

    /// Whether the change that is tested must not pass.
    const fn fails(self) -> bool {
        matches!(self, Self::Risen | Self::New | Self::Gone)
    }
}

fn file() -> PathBuf {
    results::folder().join("accepted.tsv")
}

impl Accepted {
    fn parse(text: &str) -> Result<Self> {
        let mut accepted = Self::default();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let (name, value) = line.split_once('\t').with_context(|| line.to_owned())?;
            match name {
                "kernel" => accepted.kernel = value.to_owned(),
                "qemu" => accepted.qemu = value.to_owned(),
                name => {
                    let value = value.parse().with_context(|| line.to_owned())?;
                    accepted.numbers.push((name.to_owned(), value));
                }
            }
        }
        Ok(accepted)
    }

    fn text(&self) -> String {
        let mut text = format!(
            "# Instructions that are accepted, of the agent as tests build it; a number that rises on \
             purpose is\n# changed in the same commit. `cargo xtask bench --accept` writes them all.\n\
             kernel\t{}\nqemu\t{}\n",
            self.kernel, self.qemu
        );
        for (name, value) in &self.numbers {
            writeln!(text, "{name}\t{value:.0}").expect("into memory");
        }
        text
    }
}

/// Counts, prints the table, and fails if a number has risen; returns the reason where nothing can be
/// compared. With `accept` the numbers are written down instead.
pub(crate) fn run(accept: bool) -> Result<Option<String>> {
    let known = match fs::read_to_string(file()) {
        Ok(text) => Accepted::parse(&text).context("docs/bench/accepted.tsv")?,
        Err(_) => Accepted::default(),
    };
    vm::install()?;
    // With the features of the tests' build: nothing is built twice.
    shell::run(cargo().arg("build").args(WORKSPACE).args(["--bins", "--test", "*"]))?;
    let counted = guest::measure(&target_dir().join("debug/remora"), KERNEL, &DOORS)?;
    let now = Accepted {
        kernel: counted.release,
        qemu: qemu()?,
        // The least of some rounds: in the others the agent may have sent its metrics besides.
        numbers: counted.rows.into_iter().map(|row| (row.what, row.value.low)).collect(),
    };
    if accept {
        fs::create_dir_all(results::folder())?;
        fs::write(file(), now.text())?;
    }
    let rows = compare(&known, &now);
    print!("{}", table(&rows));
    if accept {
        return Ok(None);
    }
    if (&known.kernel, &known.qemu) != (&now.kernel, &now.qemu) {
        return Ok(Some(format!(
            "instructions are accepted for Linux {} under {}, not for Linux {} under {}",
            known.kernel, known.qemu, now.kernel, now.qemu
        )));
    }
    let failed = rows.iter().filter(|(.., verdict)| verdict.fails()).count();
    if failed > 0 {
        bail!("{failed} of {} counts are not accepted: docs/bench/accepted.tsv", rows.len());
    }
    Ok(None)
}

type Compared = (String, Option<f64>, Option<f64>, Verdict);

fn compare(known: &Accepted, now: &Accepted) -> Vec<Compared> {
    let find = |numbers: &[(String, f64)], name: &str| {
        numbers.iter().find(|(known, _)| known == name).map(|(_, value)| *value)
    };
    let gone = known.numbers.iter().filter(|(name, _)| find(&now.numbers, name).is_none());
    let names = now.numbers.iter().chain(gone).map(|(name, _)| name);
    names
        .map(|name| {
            let (accepted, now) = (find(&known.numbers, name), find(&now.numbers, name));
            (name.clone(), accepted, now, Verdict::of(accepted, now))
        })
        .collect()
}

fn table(rows: &[Compared]) -> String {
    let mut text = format!("{:<42} {:>14} {:>14}\n", "instructions", "accepted", "now");
    let shown = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), number);
    for (name, accepted, now, verdict) in rows {
        let (accepted, now) = (shown(*accepted), shown(*now));
        let line = format!("{name:<42} {accepted:>14} {now:>14}  {}", verdict.says());
        writeln!(text, "{}", line.trim_end()).expect("into memory");
    }
    text
}

/// The version that counts.
pub(crate) fn qemu() -> Result<String> {
    let text = shell::output(Command::new("qemu-system-x86_64").arg("--version"))?;
    let line = text.lines().next().unwrap_or_default();
    Ok(line.replace("emulator version ", ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rise_over_five_percent_fails_and_a_fall_is_said() {
        let verdict = |now| Verdict::of(Some(4000.0), Some(now));
        assert_eq!(verdict(4199.0), Verdict::Same);
        assert_eq!(verdict(4201.0), Verdict::Risen);
        assert_eq!(verdict(3801.0), Verdict::Same);
        assert_eq!(verdict(3799.0), Verdict::Fallen);
        assert!(Verdict::Risen.fails() && !Verdict::Fallen.fails());
    }

    #[test]
    fn what_is_nearly_nothing_may_vary() {
        assert_eq!(Verdict::of(Some(10.0), Some(60.0)), Verdict::Same);
        assert_eq!(Verdict::of(Some(0.0), Some(100.0)), Verdict::Risen);
    }

    #[test]
    fn what_is_not_accepted_fails() {
        let known = Accepted::parse("kernel\t6\nqemu\t7\na\t1\nb\t2\n").unwrap();
        let now = Accepted::parse("kernel\t6\nqemu\t7\na\t1\nc\t2\n").unwrap();
        let verdicts: Vec<_> = compare(&known, &now).into_iter().map(|(.., v)| v).collect();
        assert_eq!(verdicts, [Verdict::Same, Verdict::New, Verdict::Gone]);
        assert!(verdicts[1].fails() && verdicts[2].fails());
    }

    #[test]
    fn accepted_numbers_are_read_as_written() {
        let numbers = vec![("fexit: selected".to_owned(), 4000.0)];
        let accepted = Accepted { kernel: "6.12".into(), qemu: "QEMU 7".into(), numbers };
        assert_eq!(Accepted::parse(&accepted.text()).unwrap(), accepted);
        assert!(Accepted::parse("kernel 6").is_err());
    }
}
