//! Do spans agree with what the program itself says?
//!
//! Programs read their stopwatch in user space, around the call of their HTTP library. Between it and the
//! system calls that a span is made of lies the program's own work, and whatever the machine does to
//! a thread meanwhile. So the claim about time has three parts:
//!
//! 1. A client's stopwatch runs from before the first byte is sent until after the last is received: *no*
//!    span is longer, and none begins earlier or ends later.
//! 2. A server's stopwatch is started when there is something of the request to act on: no
//!    span begins later.
//! 3. Of each kind of request, the repetition that was disturbed least has both within the larger of
//!    5 % and 200 µs. A busy machine delays single requests; it does not hasten any, and does
//!    not delay all. Left out are clients' requests that may have to connect first: connecting is
//!    in the stopwatch's time and not in the span's.

use std::{
    collections::HashMap,
    fmt::{self, Write as _},
};

use serde_json::Value;

use crate::{
    plan::{Mode, Request},
    spans::{CLIENT, SERVER, Span},
};

/// What a program logged of one request.
#[derive(Clone, Debug)]
pub struct Said {
    pub method: String,
    pub target: String,
    pub status: i64,
    /// Bytes of content; `None` where its log does not tell.
    pub request: Option<i64>,
    pub response: Option<i64>,
    /// When the stopwatch began, nanoseconds of the Unix epoch.
    pub begin: Option<u64>,
    pub ns: u64,
    /// What its clock rounds to.
    pub resolution_ns: u64,
}

impl Said {
    /// A line of a log.
    ///
    /// # Panics
    /// If it is not one.
    #[must_use]
    pub fn parse(line: &str) -> Self {
        let said: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line:?}"));
        let text = |key: &str| said[key].as_str().unwrap_or_else(|| panic!("{line}")).to_owned();
        let (ns, resolution_ns) = match said["ns"].as_u64() {
            Some(ns) => (ns, 0),
            // Seconds as nginx says them, by a clock that is read once a turn of its loop.
            None => (nanoseconds(&text("seconds")), 1_000_000),
        };
        Self {
            method: text("method"),
            target: text("target"),
            status: said["status"].as_i64().unwrap_or_else(|| panic!("{line}")),
            request: size(&said["request"]),
            response: size(&said["response"]),
            begin: said["begin"].as_u64(),
            ns,
            resolution_ns,
        }
    }
}

/// A number, or the text of one; nginx has `-` and nothing for none.
fn size(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_str()?.parse().ok())
}

/// Of a decimal number of seconds.
#[must_use]
pub fn nanoseconds(seconds: &str) -> u64 {
    let seconds: f64 = seconds.parse().unwrap_or_else(|_| panic!("seconds, not {seconds:?}"));
    (seconds * 1e9) as u64
}

/// For converting between the clocks: a stopwatch's beginning is wall-clock time, a span's was
/// monotonic time once.
const CLOCKS_NS: u64 = 1_000_000;

/// curl's stopwatch counts microseconds.
const ROUNDED_NS: u64 = 10_000;

/// What a chunk has around it, and the smallest that programs here make of content that is large.
const FRAMING: i64 = 8;
const LEAST_CHUNK: i64 = 1024;

/// How far apart duration and stopwatch may be.
fn tolerance(said: &Said) -> u64 {
    (said.ns / 20).max(200_000) + said.resolution_ns
}

/// Whether there is exactly one span of `kind` for each request of the plan, equal to what the
/// program says; else what is not.
///
/// # Errors
/// Everything that disagrees.
pub fn agree(
    plan: &[Request],
    spans: &[Span],
    kind: u64,
    scheme: &str,
    said: &[Said],
) -> Result<Summary, String> {
    let mut wrong = String::new();
    let mut by_target: HashMap<String, Vec<&Span>> = HashMap::new();
    for span in spans.iter().filter(|span| span.kind == kind) {
        by_target.entry(target(span)).or_default().push(span);
    }
    let said_of: HashMap<&str, &Said> = said.iter().map(|said| (&*said.target, said)).collect();
    if said.len() != plan.len() || said_of.len() != plan.len() {
        let _ = writeln!(wrong, "{} planned, {} logged", plan.len(), said.len());
    }
    let mut apart: HashMap<usize, Vec<(u64, u64, &Span, &Said)>> = HashMap::new();
    for request in plan {
        let Some(said) = said_of.get(&*request.target) else {
            let _ = writeln!(wrong, "not in the log: {request:?}");
            continue;
        };
        let spans = by_target.remove(&request.target).unwrap_or_default();
        let &[span] = &spans[..] else {
            let _ = writeln!(wrong, "{} spans of {said:?}", spans.len());
            continue;
        };
        for what in differences(request, span, said, scheme) {
            let _ = writeln!(wrong, "{what}\n    {said:?}\n    {span:?}");
        }
        if kind == CLIENT && request.connects {
            continue;
        }
        let distance = span.duration_ns().abs_diff(said.ns);
        let part = distance.saturating_mul(1000) / tolerance(said);
        apart.entry(request.kind).or_default().push((part, distance, span, said));
    }
    for (target, spans) in by_target {
        let _ = writeln!(wrong, "{} spans nobody planned: {target}", spans.len());
    }
    let (mut all, mut worst_permille) = (Vec::new(), 0);
    let mut worst = String::new();
    for repetitions in apart.values() {
        let (part, distance, span, said) =
            repetitions.iter().min_by_key(|(part, ..)| *part).expect("at least one");
        if *part > worst_permille {
            worst_permille = *part;
            worst = format!("{} {}", said.method, said.target);
        }
        if *part > 1000 {
            let _ = writeln!(
                wrong,
                "of {} repetitions the best is {distance} ns from its stopwatch\n    {said:?}\n    {span:?}",
                repetitions.len()
            );
        }
        all.extend(repetitions.iter().map(|(part, distance, ..)| (*distance, *part <= 1000)));
    }
    if !wrong.is_empty() {
        let count = wrong.lines().filter(|line| !line.starts_with(' ')).count();
        let first: Vec<&str> = wrong.lines().take(30).collect();
        return Err(format!("{count} differences, the first of which:\n{}", first.join("\n")));
    }
    all.sort_unstable();
    let within = all.iter().filter(|(_, within)| *within).count();
    Ok(Summary {
        durations: all.len(),
        within,
        median_ns: all[all.len() / 2].0,
        worst_permille,
        worst,
    })
}

/// How well they agree.
#[derive(Clone, Debug)]
pub struct Summary {
    pub durations: usize,
    /// Those that are within the larger of 5 % and 200 µs of the program's.
    pub within: usize,
    /// Between duration and stopwatch.
    pub median_ns: u64,
    /// What the best repetition of the worst kind has of its tolerance.
    pub worst_permille: u64,
    pub worst: String,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { durations, within, median_ns, worst_permille, worst } = self;
        write!(
            f,
            "{within} of {durations} durations within 5 % or 200 µs, median {} µs apart; the \
             worst kind's best at {} % of that: {worst}",
            median_ns / 1000,
            worst_permille / 10
        )
    }
}

/// Path and query as they were sent.
pub(crate) fn target(span: &Span) -> String {
    if span.kind == SERVER {
        return format!("{}?{}", span.text("url.path"), span.text("url.query"));
    }
    let url = span.text("url.full");
    let from = url.find("://").map_or(0, |at| at + 3);
    url[from..].find('/').map_or(url, |at| &url[from + at..]).to_owned()
}

fn differences(request: &Request, span: &Span, said: &Said, scheme: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut expect = |what: &str, span: &dyn fmt::Debug, said: &dyn fmt::Debug| {
        let (span, said) = (format!("{span:?}"), format!("{said:?}"));
        if span != said {
            wrong.push(format!("{what}: {span}, not {said}"));
        }
    };
    expect("method", &span.text("http.request.method"), &said.method);
    expect("status", &span.int("http.response.status_code"), &Some(said.status));
    expect("protocol", &span.text("network.protocol.version"), &"1.1");
    let seen = match span.kind {
        SERVER => span.text("url.scheme"),
        _ => span.text("url.full").split("://").next().unwrap_or_default(),
    };
    expect("scheme", &seen, &scheme);
    // The conventions make an error of 4xx for clients, of 5xx for both.
    let error = said.status >= if span.kind == CLIENT { 400 } else { 500 };
    let error = if error { said.status.to_string() } else { String::new() };
    expect("error.type", &span.text("error.type"), &error);
    let sizes = [
        ("http.request.body.size", said.request, request.mode == Mode::Chunked),
        ("http.response.body.size", said.response, request.target.starts_with("/chunked")),
    ];
    for (key, said, chunked) in sizes {
        let Some(said) = said else { continue };
        let size = span.int(key).unwrap_or(0);
        // Framing that was not copied is counted as content, and the span says so.
        let estimated = span.attributes.contains_key(&format!("remora.{}.estimated", &key[5..]));
        if estimated && !chunked {
            expect(key, &"estimated", &"exact");
        }
        let framing = if estimated { FRAMING * (said / LEAST_CHUNK + 2) } else { 0 };
        if !(said..=said + framing).contains(&size) {
            expect(key, &size, &said);
        }
    }
    for mark in
        ["remora.gap", "remora.joined", "remora.request.head.cut", "remora.response.head.cut"]
    {
        expect(mark, &span.attributes.get(mark), &None::<&Value>);
    }
    // Where head and all chunks are one large write, its end is not copied.
    if !request.target.starts_with("/chunked") && request.mode != Mode::Chunked {
        expect("remora.end.inferred", &span.attributes.get("remora.end.inferred"), &None::<&Value>);
    }
    if span.kind == CLIENT && span.duration_ns() > said.ns + ROUNDED_NS {
        wrong.push(format!("{} ns are longer than the stopwatch's", span.duration_ns()));
    }
    if let Some(begin) = said.begin {
        let early = span.start_ns + CLOCKS_NS < begin;
        let late = span.end_ns > begin + said.ns + CLOCKS_NS;
        if span.kind == CLIENT && (early || late) {
            wrong.push("outside of the stopwatch's time".to_owned());
        }
        if span.kind == SERVER && span.start_ns > begin + CLOCKS_NS {
            wrong.push("begins after the server has".to_owned());
        }
    }
    wrong
}
