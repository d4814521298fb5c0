//! What came of the tests? Counts read from the output of test programs, and their summary.

use std::{fmt, process::ExitStatus, time::Duration};

use anyhow::{Result, bail};

/// What one ring, or one check, came to.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    pub(crate) ignored: usize,
    pub(crate) skipped: Vec<String>,
    /// Names of the tests that failed.
    pub(crate) failed_tests: Vec<String>,
    /// Names of those that passed when they ran again.
    pub(crate) unstable: Vec<String>,
    /// What the tests that failed said, one after the other.
    pub(crate) reasons: Reasons,
    pub(crate) failure: Option<String>,
    pub(crate) took: Duration,
}

/// How many failed tests may run again.
const MAX_AGAIN: usize = 2;
/// How many lines of a panic's message are kept at either end.
const KEPT_LINES: usize = 12;
/// And how many bytes of each.
const KEPT_BYTES: usize = 400;

/// The panics of tests that failed, read from the section `failures:` of a test program's output.
#[derive(Debug, Default)]
pub(crate) struct Reasons {
    within: Within,
    /// By test: the lines of its first panic.
    panics: Vec<(String, Vec<String>)>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Within {
    #[default]
    Other,
    Failures,
    /// The output of a test that failed, before its panic.
    Output,
    Panic,
}

impl Reasons {
    fn read(&mut self, line: &str) {
        if line == "failures:" {
            self.within = Within::Failures;
        } else if line == "successes:" || line.starts_with("test result: ") {
            self.within = Within::Other;
        } else if self.within == Within::Other {
            // Of a test that passed, or of none.
        } else if let Some(test) =
            line.strip_prefix("---- ").and_then(|line| line.strip_suffix(" stdout ----"))
        {
            self.panics.push((test.to_owned(), Vec::new()));
            self.within = Within::Output;
        } else if self.within == Within::Output
            && line.starts_with("thread '")
            && line.contains(" panicked at ")
        {
            self.within = Within::Panic;
            self.keep(line);
        } else if self.within == Within::Panic {
            if line == "stack backtrace:" || line.starts_with("note: run with `RUST_BACKTRACE") {
                self.within = Within::Failures;
            } else {
                self.keep(line);
            }
        }
    }

    fn keep(&mut self, line: &str) {
        if let Some((_, lines)) = self.panics.last_mut() {
            lines.push(line[..line.floor_char_boundary(KEPT_BYTES)].to_owned());
        }
    }

    /// The beginning and the end of what `test` said.
    fn of<'a>(&'a self, test: &str) -> impl Iterator<Item = &'a str> {
        let lines = self.panics.iter().find(|(name, _)| name == test).map_or(&[][..], |one| &one.1);
        let head = lines.len().min(KEPT_LINES);
        let tail = lines.len().saturating_sub(KEPT_LINES).max(head);
        let left_out = (tail > head).then_some("[...]");
        lines[..head]
            .iter()
            .map(String::as_str)
            .chain(left_out)
            .chain(lines[tail..].iter().map(String::as_str))
    }
}

impl Report {
    pub(crate) fn failed(error: anyhow::Error) -> Self {
        Self { failure: Some(format!("{error:#}")), ..Self::default() }
    }

    /// Tests that looked at something: a skipped one counts as passed in Cargo's summary.
    pub(crate) fn ran(&self) -> usize {
        (self.passed + self.failed).saturating_sub(self.skipped.len())
    }

    /// Takes up one line of `cargo test`'s output.
    pub(crate) fn read(&mut self, line: &str) {
        self.reasons.read(line);
        if let Some(reason) = line.strip_prefix("skipped: ") {
            self.skipped.push(reason.to_owned());
        } else if let Some(test) =
            line.strip_prefix("test ").and_then(|t| t.strip_suffix(" ... FAILED"))
        {
            self.failed_tests.push(test.to_owned());
        } else if let Some(result) = line.strip_prefix("test result: ") {
            let counts = result.split_once(". ").map_or("", |(_, counts)| counts);
            for part in counts.split("; ") {
                let Some((number, what)) = part.split_once(' ') else { continue };
                let number = number.parse().unwrap_or(0);
                match what {
                    "passed" => self.passed += number,
                    "failed" => self.failed += number,
                    "ignored" => self.ignored += number,
                    _ => {}
                }
            }
        }
    }

    /// The tests to run once more: few enough to be chance.
    pub(crate) fn again(&self) -> Option<&[String]> {
        let few = (1..=MAX_AGAIN).contains(&self.failed_tests.len());
        (few && self.failed == self.failed_tests.len()).then_some(&self.failed_tests)
    }

    /// What came of [`Self::again`]. What holds then has passed, and is told as unstable with what it said before.
    pub(crate) fn ran_again(&mut self, second: &Self) {
        self.took += second.took;
        if second.failure.is_some() || second.passed != self.failed_tests.len() {
            return;
        }
        self.passed += second.passed;
        self.failed = 0;
        self.failure = None;
        self.unstable = std::mem::take(&mut self.failed_tests);
    }

    pub(crate) fn finish(&mut self, status: ExitStatus) {
        if self.failed > 0 {
            self.failure = Some(format!("{} failed", self.failed));
        } else if !status.success() {
            self.failure = Some(format!("cargo test ended with {status}"));
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let passed = self.passed.saturating_sub(self.skipped.len());
        write!(f, "{passed} passed, {} failed, {} skipped", self.failed, self.skipped.len())?;
        if self.ignored > 0 {
            write!(f, ", {} ignored", self.ignored)?;
        }
        write!(f, " in {:.1} s", self.took.as_secs_f64())
    }
}

pub(crate) fn summarise(reports: &[(String, Report)]) -> Result<()> {
    println!("\n== summary ==");
    for (name, report) in reports {
        let verdict = if report.failure.is_some() { "FAILED" } else { "ok" };
        println!("{name:<20} {verdict:<7} {report}");
        for reason in &report.skipped {
            println!("{:<20} skipped: {reason}", "");
        }
        let failed = report.failed_tests.iter().map(|test| ("failed", test));
        let unstable = report.unstable.iter().map(|test| ("failed at first", test));
        for (how, test) in failed.chain(unstable) {
            println!("{:<20} {how}: {test}", "");
            for line in report.reasons.of(test) {
                println!("{:<24} {line}", "");
            }
        }
        if let Some(failure) = &report.failure {
            println!("{:<20} {failure}", "");
        }
    }
    let failed: Vec<&str> = reports
        .iter()
        .filter(|(_, report)| report.failure.is_some())
        .map(|(name, _)| name.as_str())
        .collect();
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adds_up_the_closing_lines_of_several_programs() {
        let mut report = Report::default();
        report.read("test result: ok. 9 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out");
        report.read("test result: FAILED. 2 passed; 3 failed; 0 ignored; 0 measured");
        assert_eq!((report.passed, report.failed, report.ignored), (11, 3, 1));
    }

    #[test]
    fn names_the_tests_that_failed() {
        let mut report = Report::default();
        report.read("test one_that_holds ... ok");
        report.read("test one_that_does_not ... FAILED");
        assert_eq!(report.failed_tests, ["one_that_does_not"]);
    }

    #[test]
    fn few_tests_that_failed_may_run_again() {
        let failed = |names: &[&str]| {
            let mut report = Report::default();
            names.iter().for_each(|name| report.read(&format!("test {name} ... FAILED")));
            report.read(&format!("test result: FAILED. 3 passed; {} failed", names.len()));
            report.failure = Some("some failed".to_owned());
            report
        };
        assert_eq!(failed(&[]).again(), None);
        assert_eq!(failed(&["a", "b", "c"]).again(), None);
        let mut report = failed(&["a", "b"]);
        assert_eq!(report.again(), Some(&["a".to_owned(), "b".to_owned()][..]));
        let mut second = Report::default();
        second.read("test result: ok. 1 passed; 0 failed");
        report.ran_again(&second);
        assert!(report.failure.is_some(), "one of them did not run");
        second.read("test result: ok. 1 passed; 0 failed");
        report.ran_again(&second);
        assert_eq!((report.passed, report.failed, report.failure), (5, 0, None));
        assert_eq!(report.unstable, ["a", "b"]);
    }

    #[test]
    fn tells_what_the_tests_that_failed_said() {
        let mut report = Report::default();
        let log: String = (0..100).map(|line| format!("line {line}\n")).collect();
        let output = format!(
            "test a ... ok\ntest b ... FAILED\ntest c ... FAILED\n\nsuccesses:\n\n---- a stdout ----\n\
             thread 'x' panicked at what was expected\n\nfailures:\n\n---- b stdout ----\nof b\n\n\
             thread 'b' (12) panicked at tests/b.rs:1:1:\nleft: 1\nright: 2\n\
             note: run with `RUST_BACKTRACE=1` environment variable to display a backtrace\nmore of b\n\n\
             ---- c stdout ----\n\nthread 'c' panicked at tests/c.rs:1:1:\n{log}stack backtrace:\n   0: main\n\n\
             \nfailures:\n    b\n    c\n\ntest result: FAILED. 1 passed; 2 failed; 0 ignored\n"
        );
        output.lines().for_each(|line| report.read(line));
        let of = |test| report.reasons.of(test).collect::<Vec<_>>();
        assert_eq!(of("a"), [""; 0]);
        assert_eq!(of("b"), ["thread 'b' (12) panicked at tests/b.rs:1:1:", "left: 1", "right: 2"]);
        let of_c = of("c");
        assert_eq!(of_c.len(), 2 * KEPT_LINES + 1);
        assert_eq!(
            [of_c[1], of_c[KEPT_LINES], of_c[2 * KEPT_LINES]],
            ["line 0", "[...]", "line 99"]
        );
    }

    #[test]
    fn counts_a_skipped_test_as_one_that_did_not_run() {
        let mut report = Report::default();
        report.read("skipped: no fexit on this kernel");
        report.read("test result: ok. 1 passed; 0 failed; 0 ignored");
        assert_eq!(report.ran(), 0);
        assert_eq!(report.skipped, ["no fexit on this kernel"]);
    }
}
