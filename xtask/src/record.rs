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

/// And scenarios of test programs of which most are not kept.
const SOME_OF: [(&str, &[&str]); 2] = [
    (
        "databases",
        &[
            "redis_wire::inline_commands_and_commands_in_pieces_are_told_apart",
            "postgres_wire::notifications_are_no_answers_and_bytes_come_one_by_one",
        ],
    ),
    ("http2", &["curl_and_nghttp_are_told_through_a_proxy", "each_kind_of_call_is_told"]),
];

pub(crate) fn run(options: &Options) -> Result<()> {
    let folder = workspace().join("tests/data/recordings");
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let root = test::root()?;
    let record = |programs: &[&str]| {
        let mut record = cargo();
        record.args(["test", "-p", "remora", "-p", "remora-tests"]);
        for program in programs {
            record.args(["--test", program]);
        }
        test::as_root(&mut record, root);
        record.env("REMORA_TEST_RECORD", &folder);
        record
    };
    // A recording that is there is not overwritten: the tests of this run decide which go.
    for entry in fs::read_dir(&folder)? {
        let path = entry?.path();
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if options.filter.as_ref().is_none_or(|filter| name.contains(filter.as_str())) {
            fs::remove_file(&path)?;
        }
    }
    let mut scenarios = record(&SCENARIOS);
    let ran = shell::run(scenarios.args(&options.filter).args(["--", "--test-threads", "1"]));
    let wanted =
        |name: &&str| options.filter.as_ref().is_none_or(|filter| name.contains(&**filter));
    let ran = ran.and_then(|()| {
        for (program, names) in SOME_OF {
            let names = names.iter().copied().filter(wanted).collect::<Vec<_>>();
            if !names.is_empty() {
                let mut some = record(&[program]);
                shell::run(some.args(["--", "--test-threads", "1", "--exact"]).args(names))?;
            }
        }
        Ok(())
    });
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
