//! Makes the recordings of `tests/data/recordings` anew: runs end-to-end tests with agents that record,
//! then writes down what the recordings replay to. Both are committed after they were looked at.

use std::fs;

use anyhow::{Context as _, Result};

use crate::{
    shell::{self, cargo, workspace},
    test,
};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Only tests whose name contains this; recordings of other tests stay
    filter: Option<String>,
}

/// Test programs whose scenarios are short enough to be kept.
const SCENARIOS: [&str; 6] =
    ["http", "parents", "tls", "lifecycle", "faults_targets", "faults_loss"];

pub(crate) fn run(options: &Options) -> Result<()> {
    let folder = workspace().join("tests/data/recordings");
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let mut record = cargo();
    record.args(["test", "-p", "remora", "-p", "remora-tests"]);
    for scenario in SCENARIOS {
        record.args(["--test", scenario]);
    }
    test::as_root(&mut record, test::root()?);
    // A recording that is there is not overwritten: the tests of this run decide which go.
    for entry in fs::read_dir(&folder)? {
        let path = entry?.path();
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if options.filter.as_ref().is_none_or(|filter| name.contains(filter.as_str())) {
            fs::remove_file(&path)?;
        }
    }
    record.env("REMORA_TEST_RECORD", &folder).args(&options.filter);
    let ran = shell::run(record.args(["--", "--test-threads", "1"]));
    for entry in fs::read_dir(&folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "raw") {
            fs::remove_file(&path)?; // of an agent that was killed, or whose test counts only
        }
    }
    ran?;
    let mut accept = cargo();
    accept.args(["test", "-p", "remora", "-p", "remora-tests", "--test", "recordings"]);
    shell::run(accept.env("REMORA_ACCEPT", "1"))
}
