//! Makes recordings of what end-to-end tests do, without what they say of this machine.
//!
//! With `REMORA_TEST_RECORD` set to a folder every agent that a test starts records, and what is short
//! enough is kept there under the test's name.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::atomic::{AtomicU32, Ordering},
    thread,
};

use remora::recording::{
    block::encode,
    format::{Target, section},
    read::Reader,
};
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    agent::command,
    spans::{self, Span},
};

/// Longest recording that is worth a place in the repository.
const MAX_LEN: usize = 16 << 10;

/// What is kept of a resource: what tells services and processes apart.
const KEPT: [&str; 3] = ["service.name", "process.pid", "process.parent_pid"];

/// Where the next agent of this test records to, if it has to.
#[must_use]
pub fn wanted() -> Option<PathBuf> {
    static AGENTS: AtomicU32 = AtomicU32::new(0);
    let folder = PathBuf::from(std::env::var_os("REMORA_TEST_RECORD")?);
    let test = thread::current().name()?.replace("::", "_");
    let number = AGENTS.fetch_add(1, Ordering::Relaxed);
    Some(folder.join(format!("{test}.{number}.raw")))
}

/// Keeps what was recorded to `raw` if it is short, under the name of its test.
///
/// # Errors
/// It cannot be read or written.
pub fn keep(raw: &Path) -> io::Result<()> {
    let bytes = sanitised(raw).map_err(io::Error::other)?;
    fs::remove_file(raw)?;
    let stem = raw.with_extension("");
    let name = stem.with_extension("rec");
    if bytes.len() <= MAX_LEN && !name.exists() {
        fs::write(name, bytes)?;
    }
    Ok(())
}

fn sanitised(raw: &Path) -> Result<Vec<u8>, Box<dyn std::error::Error + Send + Sync>> {
    let mut reader = Reader::open(raw)?;
    let mut facts = reader.facts().clone();
    facts.host = BTreeMap::from([("host.name".to_owned(), Value::from("host"))]);
    let mut sections = Vec::new();
    while let Some((kind, bytes)) = reader.next_raw()? {
        let bytes = if kind == section::TARGET {
            let mut target: Target = serde_json::from_slice(bytes)?;
            target.resource.retain(|key, _| KEPT.contains(&key.as_str()));
            serde_json::to_vec(&target)?
        } else {
            bytes.to_vec()
        };
        sections.push((kind, bytes));
    }
    Ok(encode(&facts, sections.iter().map(|(kind, bytes)| (*kind, &**bytes)))?)
}

/// `remora replay` as somebody without any privilege; its spans go to `file`.
///
/// # Panics
/// If there is no setpriv.
#[must_use]
pub fn replay(recording: &Path, file: &str, arguments: &[&str]) -> Output {
    let mut remora = Command::new("setpriv");
    let plain = command();
    for (name, value) in plain.get_envs() {
        match value {
            Some(value) => remora.env(name, value),
            None => remora.env_remove(name),
        };
    }
    remora.args(["--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"]);
    remora.arg(plain.get_program()).arg("replay").arg(recording);
    remora.args(["--otlp-file", file]).args(arguments);
    remora.output().expect("setpriv")
}

/// What a recording replays to is what was seen when it was made.
///
/// # Panics
/// If it is not.
pub fn replays_to(recording: &Path, seen: &[Span]) {
    let folder = TempDir::new().expect("a folder");
    let file = folder.path().join("spans");
    let output = replay(recording, file.to_str().expect("a name"), &[]);
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{log}");
    assert_eq!(sorted(&spans::read(&file)), sorted(seen), "{log}");
}

fn sorted(spans: &[Span]) -> Vec<String> {
    let mut spans: Vec<&Span> = spans.iter().collect();
    spans.sort_by_key(|span| (span.start_ns, span.end_ns, span.kind));
    spans.iter().map(|span| format!("{span:?}")).collect()
}
