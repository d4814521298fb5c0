//! What clients of every ecosystem send, so that servers of every ecosystem answer the same.
//!
//! A plan is lines `METHOD TARGET SIZE MODE` on the client's standard input, with SIZE bytes of content.
//! The first segment of the target says what the server answers:
//!
//! | | |
//! |---|---|
//! | `/empty`, `/small` | 200 with nothing, with a few bytes |
//! | `/bytes/N`, `/chunked/N` | 200 with N bytes; chunked |
//! | `/nothing`, `/same`, `/missing`, `/broken` | 204, 304, 404, 500 |
//! | `/close` | 200, and the server closes the connection |
//! | `/echo` | 200 after the content was read |
//!
//! With `wait=MS` in the query the answer comes so many milliseconds later (of nginx about as many).
//!
//! Programs log a JSON line per request: `method`, `target`, `status`, size of the content sent
//! (`request`) and received (`response`), `ns` by a stopwatch, and when that began (`begin`).

use std::fmt::{self, Write as _};

/// How a request is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Over a connection that stays.
    Keep,
    /// With `Connection: close`.
    Close,
    /// With content of a length that is not told before.
    Chunked,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Keep => "keep",
            Self::Close => "close",
            Self::Chunked => "chunked",
        })
    }
}

/// One request of the plan.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: &'static str,
    /// With a query that is found once in the plan.
    pub target: String,
    pub size: usize,
    pub mode: Mode,
    /// Requests of the same kind differ in nothing but the query.
    pub kind: usize,
    /// Whether its client may have to connect first.
    pub connects: bool,
}

use Mode::{Chunked, Close, Keep};

/// Those that close their connection (of nginx the 500 does) stand at the end, before the first of the
/// next round.
const KINDS: [(&str, &str, usize, Mode); 22] = [
    ("GET", "/small", 0, Keep),
    ("GET", "/empty", 0, Keep),
    ("GET", "/small", 0, Keep),
    ("GET", "/bytes/20000", 0, Keep),
    ("GET", "/bytes/200000", 0, Keep),
    ("GET", "/chunked/20000", 0, Keep),
    ("GET", "/chunked/200000", 0, Keep),
    ("GET", "/nothing", 0, Keep),
    ("GET", "/same", 0, Keep),
    ("GET", "/missing", 0, Keep),
    ("HEAD", "/small", 0, Keep),
    ("HEAD", "/bytes/20000", 0, Keep),
    ("POST", "/echo", 0, Keep),
    ("POST", "/echo", 5, Keep),
    ("POST", "/echo", 20_000, Keep),
    ("PUT", "/echo", 200_000, Keep),
    ("PUT", "/echo", 20_000, Chunked),
    ("DELETE", "/echo", 0, Keep),
    ("GET", "/broken", 0, Keep),
    ("GET", "/small", 0, Close),
    ("POST", "/echo", 5, Close),
    ("GET", "/close", 0, Keep),
];

/// Every kind of request: `quick` times answered at once, then `waiting` times after `wait_ms`.
#[must_use]
pub fn plan(quick: usize, waiting: usize, wait_ms: u32) -> Vec<Request> {
    let rounds = quick + waiting;
    let kinds = KINDS.iter().enumerate().cycle().take(rounds * KINDS.len());
    let request = |(number, (kind, &(method, path, size, mode)))| {
        let mut target = format!("{path}?n={number}&text=a%20b");
        if number / KINDS.len() >= quick {
            target += &format!("&wait={wait_ms}");
        }
        // The first, those marked, and the one after a 500, which is among these.
        let connects = kind == 0 || mode == Close || path == "/close";
        Request { method, target, size, mode, kind, connects }
    };
    kinds.enumerate().map(request).collect()
}

/// The plan as clients read it.
#[must_use]
pub fn lines(plan: &[Request]) -> String {
    let mut text = String::new();
    for Request { method, target, size, mode, .. } in plan {
        writeln!(text, "{method} {target} {size} {mode}").expect("into memory");
    }
    text
}
