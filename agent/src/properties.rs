//! How property tests run.

use proptest::test_runner::Config;

/// At least `cases`; more if `PROPTEST_CASES` says so.
pub(crate) fn config(cases: u32) -> Config {
    let default = Config::default();
    Config { cases: default.cases.max(cases), failure_persistence: None, ..default }
}
