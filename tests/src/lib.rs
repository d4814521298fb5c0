//! Harness of the end-to-end tests: starts the agent and real programs, reads the spans, compares
//! them with an oracle. Whatever a test starts it ends, by pid, also when it fails.

pub mod agent;
pub mod process;
pub mod skip;
pub mod spans;
