//! Redis and PostgreSQL with the clients of their users, against what the servers count themselves.

#[path = "databases/postgres.rs"]
mod postgres;
#[path = "databases/postgres_wire.rs"]
mod postgres_wire;
#[path = "databases/redis.rs"]
mod redis;
#[path = "databases/redis_wire.rs"]
mod redis_wire;

use std::path::Path;

use remora::recording::read::Reader;
use remora_tests::{
    agent::Done,
    database_clients::SECRET,
    recording::replays_to,
    spans::{self, CLIENT, SERVER, Span},
};

fn of_kind(spans: &[Span], kind: u64) -> Vec<&Span> {
    spans.iter().filter(|span| span.kind == kind).collect()
}

/// Every request is a span, none is lost, every span is measured, and nothing that the agent has written has a
/// value, a parameter, a literal or a password.
fn all_is_told(done: &Done) {
    let [requests, exported, sampled_out, lost] = done.requests();
    assert_eq!((requests, sampled_out, lost), (exported, 0, 0), "{}", done.log);
    assert_eq!(done.spans.len() as u64, exported, "{}", done.log);
    let books = done.books();
    assert!(books.drops.is_empty(), "{}", done.log);
    for (kind, metric) in
        [(CLIENT, "db.client.operation.duration"), (SERVER, "db.server.operation.duration")]
    {
        let measured = spans::measurements(&done.metrics, metric);
        assert_eq!(measured, of_kind(&done.spans, kind).len() as u64, "{metric}\n{}", done.log);
    }
    for (what, text) in [("file", &done.file), ("log", &done.log), ("output", &done.stdout)] {
        if let Some(at) = text.find(SECRET) {
            panic!("a secret in the {what}: {}", &text[at.saturating_sub(300)..at]);
        }
    }
}

/// A recording replays to what was seen, and nothing of it has a secret in it.
fn recording_tells_the_same(recording: &Path, done: &Done) {
    replays_to(recording, &done.spans);
    let sections = sections(recording);
    assert!(sections.len() > 10, "only {} sections", sections.len());
    for bytes in sections {
        // Half of one would be one too.
        if let Some(at) = memchr::memmem::find(&bytes, &SECRET.as_bytes()[..4]) {
            let before = String::from_utf8_lossy(&bytes[at.saturating_sub(100)..at]).into_owned();
            panic!("a secret is recorded: {before:?}");
        }
    }
}

/// Everything that is in a recording, unpacked.
fn sections(recording: &Path) -> Vec<Vec<u8>> {
    let mut reader = Reader::open(recording).expect("a recording");
    let mut sections = Vec::new();
    while let Some((_, bytes)) = reader.next_raw().expect("readable") {
        sections.push(bytes.to_vec());
    }
    sections
}

fn is_error(span: &Span, code: &str) -> bool {
    span.text("db.response.status_code") == code && span.text("error.type") == code
}
