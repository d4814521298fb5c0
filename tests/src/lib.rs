//! Harness of the end-to-end tests: starts the agent and real programs, reads the spans, compares
//! them with an oracle. Whatever a test starts it ends, by pid, also when it fails.

pub mod agent;
pub mod conversation;
pub mod curl;
pub mod nginx;
pub mod oracle;
pub mod plan;
pub mod process;
pub mod programs;
pub mod skip;
pub mod spans;
