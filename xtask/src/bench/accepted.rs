//! Which instruction counts were accepted, and is a new count among them?
//!
//! `docs/bench/accepted.tsv` has a section for each minor version of the kernel that counts were accepted on. On
//! another build of that version, or under another QEMU, a request costs a little more or less whatever the agent
//! does: there a count is held to what was accepted times what the same request takes without an agent now,
//! divided by what it took then.

use std::{fmt::Write as _, fs, path::PathBuf};

use anyhow::{Context as _, Result};

use super::{measure::number, results};

/// A number may rise by this share.
const TOLERANCE: f64 = 0.05;

/// And by this one where the kernel or QEMU is another build than the accepted one.
const OTHER_BUILD_TOLERANCE: f64 = 0.08;

/// And by so many instructions a request whatever the share: what is nearly nothing varies by more.
const NOISE: f64 = 60.0;

/// The end of the name of a request's cost without an agent.
pub(crate) const WITHOUT: &str = "no agent: in line";

/// What is counted, by name.
pub(crate) type Counts = Vec<(String, f64)>;

/// Counts of one kernel under one QEMU.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Section {
    /// As `uname -r` says it.
    pub(crate) kernel: String,
    pub(crate) qemu: String,
    pub(crate) counts: Counts,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Verdict {
    Same,
    Risen,
    Fallen,
    New,
    Gone,
}

impl Verdict {
    fn of(accepted: Option<f64>, now: Option<f64>, tolerance: f64) -> Self {
        match (accepted, now) {
            (None, _) => Self::New,
            (Some(_), None) => Self::Gone,
            (Some(accepted), Some(now)) => {
                let room = (accepted.abs() * tolerance).max(NOISE);
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
            Self::Risen => "RISEN",
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

impl Section {
    fn minor(&self) -> &str {
        let end = self.kernel.match_indices(['.', '-']).nth(1).map(|(at, _)| at);
        &self.kernel[..end.unwrap_or(self.kernel.len())]
    }

    fn count(&self, name: &str) -> Option<f64> {
        self.counts.iter().find(|(known, _)| known == name).map(|(_, value)| *value)
    }

    /// By how much a request costs more in `now` than here without any agent, for counts that go with it.
    fn scale(&self, now: &Self, name: &str) -> f64 {
        // Getting ready and waiting are no part of a request.
        if name.ends_with("to ready") || name.ends_with("idle") || name.ends_with(WITHOUT) {
            return 1.0;
        }
        let protocol = name.split_once(": ").map_or("", |(protocol, _)| protocol);
        let own = format!("{protocol}: {WITHOUT}");
        let base = if self.count(&own).is_some() { &own } else { WITHOUT };
        match (self.count(base), now.count(base)) {
            (Some(then), Some(now)) if then > 0.0 => now / then,
            _ => 1.0,
        }
    }
}

/// All that was accepted.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Accepted(Vec<Section>);

fn file() -> PathBuf {
    results::folder().join("accepted.tsv")
}

impl Accepted {
    pub(crate) fn read() -> Result<Self> {
        match fs::read_to_string(file()) {
            Ok(text) => Self::parse(&text).context("docs/bench/accepted.tsv"),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error).context("docs/bench/accepted.tsv"),
        }
    }

    pub(crate) fn write(&self) -> Result<()> {
        fs::create_dir_all(results::folder())?;
        Ok(fs::write(file(), self.text())?)
    }

    fn parse(text: &str) -> Result<Self> {
        let mut accepted = Self::default();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let (name, value) = line.split_once('\t').with_context(|| line.to_owned())?;
            if name == "kernel" {
                accepted.0.push(Section { kernel: value.to_owned(), ..Section::default() });
                continue;
            }
            let section = accepted.0.last_mut().context("a number before the first kernel")?;
            if name == "qemu" {
                section.qemu = value.to_owned();
            } else {
                let value = value.parse().with_context(|| line.to_owned())?;
                section.counts.push((name.to_owned(), value));
            }
        }
        Ok(accepted)
    }

    fn text(&self) -> String {
        let mut text = "# Instructions that are accepted, of the release build; a number that rises on purpose is \
                        changed in\n# the same commit. `cargo xtask bench --accept` writes a kernel's section.\n"
            .to_owned();
        for Section { kernel, qemu, counts } in &self.0 {
            write!(text, "kernel\t{kernel}\nqemu\t{qemu}\n").expect("into memory");
            for (name, value) in counts {
                writeln!(text, "{name}\t{value:.0}").expect("into memory");
            }
        }
        text
    }

    /// Takes `now` in place of what was accepted for this minor version.
    pub(crate) fn accept(&mut self, now: Section) {
        self.0.retain(|section| section.minor() != now.minor());
        self.0.push(now);
        self.0.sort_by(|a, b| a.kernel.cmp(&b.kernel));
    }

    /// Holds `now` against what was accepted for its minor version, if something was.
    pub(crate) fn compare(&self, now: &Section) -> Option<Comparison> {
        let known = self.0.iter().find(|section| section.minor() == now.minor())?;
        let same_build = (&known.kernel, &known.qemu) == (&now.kernel, &now.qemu);
        let gone = known.counts.iter().filter(|(name, _)| now.count(name).is_none());
        let names = now.counts.iter().chain(gone).map(|(name, _)| name);
        let row = |name: &String| {
            let scale = if same_build { 1.0 } else { known.scale(now, name) };
            let accepted = known.count(name).map(|accepted| accepted * scale);
            let tolerance = if same_build { TOLERANCE } else { OTHER_BUILD_TOLERANCE };
            // What a request takes without an agent is the kernel's business.
            let verdict = match Verdict::of(accepted, now.count(name), tolerance) {
                Verdict::Risen | Verdict::Fallen if name.ends_with(WITHOUT) && !same_build => {
                    Verdict::Same
                }
                verdict => verdict,
            };
            (name.clone(), accepted, now.count(name), verdict)
        };
        let other_build =
            (!same_build).then(|| format!("Linux {} under {}", known.kernel, known.qemu));
        Some(Comparison { rows: names.map(row).collect(), other_build })
    }
}

/// Counts beside those that were accepted.
pub(crate) struct Comparison {
    rows: Vec<(String, Option<f64>, Option<f64>, Verdict)>,
    /// What they were accepted on, where that is not what they were counted on.
    pub(crate) other_build: Option<String>,
}

impl Comparison {
    /// Names of those that must not pass.
    pub(crate) fn failures(&self) -> Vec<&str> {
        let failed = self.rows.iter().filter(|(.., verdict)| verdict.fails());
        failed.map(|(name, ..)| name.as_str()).collect()
    }

    pub(crate) fn table(&self) -> String {
        let mut text = format!("{:<48} {:>14} {:>14}\n", "instructions", "accepted", "now");
        let shown = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), number);
        for (name, accepted, now, verdict) in &self.rows {
            let (accepted, now) = (shown(*accepted), shown(*now));
            let line = format!("{name:<48} {accepted:>14} {now:>14}  {}", verdict.says());
            writeln!(text, "{}", line.trim_end()).expect("into memory");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section(kernel: &str, counts: &[(&str, f64)]) -> Section {
        let counts = counts.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect();
        Section { kernel: kernel.to_owned(), qemu: "QEMU 7".to_owned(), counts }
    }

    #[test]
    fn a_rise_over_five_percent_fails_and_a_fall_is_said() {
        let verdict = |now| Verdict::of(Some(4000.0), Some(now), TOLERANCE);
        assert_eq!(verdict(4199.0), Verdict::Same);
        assert_eq!(verdict(4201.0), Verdict::Risen);
        assert_eq!(verdict(3801.0), Verdict::Same);
        assert_eq!(verdict(3799.0), Verdict::Fallen);
        assert!(Verdict::Risen.fails() && !Verdict::Fallen.fails());
    }

    #[test]
    fn what_is_nearly_nothing_may_vary() {
        assert_eq!(Verdict::of(Some(10.0), Some(60.0), TOLERANCE), Verdict::Same);
        assert_eq!(Verdict::of(Some(0.0), Some(100.0), TOLERANCE), Verdict::Risen);
    }

    #[test]
    fn what_is_not_accepted_fails() {
        let known = Accepted::parse("kernel\t6.1.2\nqemu\tQEMU 7\na\t1\nb\t2\n").unwrap();
        let now = section("6.1.2", &[("a", 1.0), ("c", 2.0)]);
        let comparison = known.compare(&now).unwrap();
        let verdicts: Vec<_> = comparison.rows.iter().map(|(.., verdict)| *verdict).collect();
        assert_eq!(verdicts, [Verdict::Same, Verdict::New, Verdict::Gone]);
        assert_eq!(comparison.failures(), ["c", "b"]);
        assert!(known.compare(&section("6.2.2", &[])).is_none());
    }

    #[test]
    fn another_build_of_the_kernel_is_compared_by_what_a_request_takes_there() {
        let counts = |base, added, redis_base, redis_added, ready| {
            [
                ("no agent: in line", base),
                ("socket: selected, added in line", added),
                ("redis: no agent: in line", redis_base),
                ("redis: socket, added in line", redis_added),
                ("socket: agent, to ready", ready),
            ]
        };
        let mut known = Accepted::default();
        known.accept(section("6.12.1", &counts(40_000.0, 4000.0, 30_000.0, 3000.0, 1e9)));
        let compare = |now: &[(&str, f64)]| {
            let comparison = known.compare(&section("6.12.2", now)).unwrap();
            assert!(comparison.other_build.is_some());
            comparison.failures().join(", ")
        };
        // A tenth more each, with and without an agent.
        assert_eq!(compare(&counts(44_000.0, 4400.0, 33_000.0, 3300.0, 1e9)), "");
        let risen = compare(&counts(40_000.0, 4400.0, 30_000.0, 3000.0, 1e9));
        assert_eq!(risen, "socket: selected, added in line");
        let risen = compare(&counts(44_000.0, 4400.0, 30_000.0, 3300.0, 1e9));
        assert_eq!(risen, "redis: socket, added in line");
        let risen = compare(&counts(44_000.0, 4400.0, 33_000.0, 3300.0, 1.1e9));
        assert_eq!(risen, "socket: agent, to ready");
    }

    #[test]
    fn accepted_numbers_are_read_as_written_and_replaced_by_version() {
        let mut accepted = Accepted::default();
        accepted.accept(section("6.12.1+deb12", &[("fexit: selected", 4000.0)]));
        accepted.accept(section("6.1.9", &[("fexit: selected", 5000.0)]));
        assert_eq!(Accepted::parse(&accepted.text()).unwrap(), accepted);
        accepted.accept(section("6.12.7+deb13", &[("fexit: selected", 3000.0)]));
        let kernels: Vec<&str> = accepted.0.iter().map(|section| &*section.kernel).collect();
        assert_eq!(kernels, ["6.1.9", "6.12.7+deb13"]);
        assert!(Accepted::parse("kernel 6").is_err());
        assert!(Accepted::parse("a\t1\n").is_err());
    }
}
