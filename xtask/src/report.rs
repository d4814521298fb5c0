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
    pub(crate) failure: Option<String>,
    pub(crate) took: Duration,
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
        for test in &report.failed_tests {
            println!("{:<20} failed: {test}", "");
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
    fn counts_a_skipped_test_as_one_that_did_not_run() {
        let mut report = Report::default();
        report.read("skipped: no fexit on this kernel");
        report.read("test result: ok. 1 passed; 0 failed; 0 ignored");
        assert_eq!(report.ran(), 0);
        assert_eq!(report.skipped, ["no fexit on this kernel"]);
    }
}
