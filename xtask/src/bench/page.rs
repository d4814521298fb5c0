//! docs/bench/README.md: every number with its budget, a verdict, and what the leading peer takes.

use std::{fmt::Write as _, fs};

use anyhow::Result;

use super::{
    measure::{Spread, number},
    results::{Results, folder},
    shapes::SHAPES,
};

/// What a number may be.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Limit {
    AtMost(f64),
    AtLeast(f64),
}

impl Limit {
    fn holds(self, value: Spread) -> bool {
        match self {
            Self::AtMost(most) => value.median <= most,
            Self::AtLeast(least) => value.median >= least,
        }
    }
}

/// A budget, for the numbers of a line whose name has `words` in it.
struct Budget {
    line: &'static str,
    words: [&'static str; 2],
    limit: Option<Limit>,
    /// What the leading peer takes there.
    peer: &'static str,
}

const fn budget(
    line: &'static str,
    words: [&'static str; 2],
    limit: Option<Limit>,
    peer: &'static str,
) -> Budget {
    Budget { line, words, limit, peer }
}

const fn at_most(limit: f64) -> Option<Limit> {
    Some(Limit::AtMost(limit))
}

const fn at_least(limit: f64) -> Option<Limit> {
    Some(Limit::AtLeast(limit))
}

/// The first that fits counts.
const BUDGETS: [Budget; 31] = [
    budget("nginx", ["5 bytes: added", ""], at_most(2.0), ""),
    budget(
        "nginx",
        ["throughput", ""],
        at_least(0.9),
        "0.34 (guest, one processor, 64 connections)",
    ),
    budget("redis", ["added", ""], at_most(1.0), "18 us (reported by its users)"),
    budget("redis", ["throughput", ""], at_least(0.9), ""),
    budget("echo", ["throughput", ""], at_least(0.9), "0.25 (Go gRPC, reported by its users)"),
    budget("neighbour", ["added, socket", ""], at_most(5.0), ""),
    budget("neighbour", ["not hooked: added", "fexit"], at_most(5.0), ""),
    budget("neighbour", ["added", ""], at_most(160.0), ""),
    budget("outputs", ["OTLP", "user and kernel"], None, ""),
    budget("outputs", ["OTLP", "user"], at_most(2.0), ""),
    budget("memory", ["resident", ""], at_most(25.0), "92-97 MB"),
    budget("memory", ["maps", ""], at_most(16.8), "128 MB"),
    budget("loss", ["records lost", "pipelined"], at_most(0.0), "7,900 of 34,126 requests counted"),
    budget("loss", ["records lost", ""], at_most(0.0), ""),
    budget("life", ["start to first span", ""], at_most(300.0), ""),
    budget("life", ["SIGINT", ""], at_most(300.0), ""),
    budget("replay", ["replayed", ""], at_least(500_000.0), ""),
    budget("guest", ["redis", "no agent"], None, "35,969"),
    budget("guest", ["redis", "added in line"], at_most(7000.0), "+54,481"),
    budget("guest", ["redis", "agent, traces"], at_most(15_000.0), "61,307"),
    budget("guest", ["no agent", ""], None, "40,644 (another client)"),
    budget("guest", ["not selected, added", "socket"], at_most(300.0), "+39,493"),
    budget("guest", ["not selected, added", "fexit"], at_most(300.0), "+39,493"),
    budget("guest", ["not selected, added", ""], None, "+39,493"),
    budget("guest", [": selected, added", "socket"], at_most(4000.0), "+50,156"),
    budget("guest", [": selected, added", "fexit"], at_most(4000.0), "+50,156"),
    budget("guest", [": selected, added", ""], None, "+50,156"),
    budget("guest", ["agent, traces and RED", ""], at_most(10_000.0), "109,260"),
    budget("guest", ["RED only", ""], None, "75,253"),
    budget("guest", ["to ready", ""], at_most(0.5e9), "4.2 G"),
    budget("guest", ["idle", ""], at_most(0.2e6), "2-3 M"),
];

fn budget_of(line: &str, what: &str) -> Option<&'static Budget> {
    BUDGETS
        .iter()
        .find(|budget| budget.line == line && budget.words.iter().all(|word| what.contains(word)))
}

const OVER: &str = "**over**";

/// What each line measures, and how.
const LINES: [(&str, &str); 11] = [
    (
        "nginx",
        "nginx with one worker, wrk with 16 connections as fast as both can, spans and RED metrics to an \
         OTLP/HTTP sink. Processor time is the worker's (`schedstat`) divided by wrk's requests; nginx, wrk, \
         agent and sink share the machine's processors, so throughput falls by what all of them take.",
    ),
    (
        "redis",
        "redis-server with 50 connections that send `GET`; spans and RED metrics to an OTLP/HTTP sink.",
    ),
    ("echo", "Release builds that answer at once; wrk with 16 connections."),
    (
        "neighbour",
        "A process that is not selected: 256 bytes through a socket pair, and `getppid`. The tenth percentile \
         of 100 batches of 2000 calls.",
    ),
    (
        "outputs",
        "The agent's processor time a span, all threads, at 10,000 requests a second, flushing included. \
         User time is counted in ticks of 10 ms.",
    ),
    ("memory", "With the default sizes."),
    (
        "loss",
        "An agent with the default ring of 4 MiB; nginx, load, agent and sink share the processors.",
    ),
    ("life", "One nginx is watched."),
    ("replay", "`remora replay` of what nginx did under full load for three seconds."),
    (
        "guest",
        "Instructions a request, which repeat: a keep-alive connection, one request after the other, on one \
         processor whose clock is its instructions. *In line* is server and client with the kernel's work for \
         them, above what they take without an agent. Lines without a protocol are of HTTP/1. The peer's numbers \
         are from the same kind of guest (6.12, default traces and RED).",
    ),
    (
        "profile",
        "Which functions the instructions of *guest* are of, the dearest of each side: samples of `perf` in such a guest, \
         one each 20,000 instructions, of 20,000 requests. In line what the kernel does for one of our programs is told \
         with that program's name. The sampling is in the numbers (a tenth or two), so they are for comparison among each other.",
    ),
];

/// Why a line is over its budget, as far as that is understood.
const REASONS: [(&str, &str); 8] = [
    (
        "nginx",
        "Load, server, agent and sink fill the machine's two processors, so the server loses what the agent takes of \
         them (see *outputs*), on top of what it pays itself: two runs of a program for each request.",
    ),
    (
        "redis",
        "Two runs of a program for each GET: what *guest* and *profile* tell of a run. At 10,000 a second the server \
         sleeps between requests and finds what the programs need in no cache; saturated it pays a third of that.",
    ),
    ("echo", "As with *nginx*: load, server, agent and sink share two processors."),
    (
        "neighbour",
        "The budget of the socket door is that of a call that is not hooked. A socket call of a process that is not selected is: the kernel \
         runs the program, which looks the process up and ends. All other calls cost nothing at this door.",
    ),
    (
        "outputs",
        "More than half of it is what metrics alone take, too: one record for each turn of a connection, its head \
         parsed, its exchange counted. The ticks of 10 ms hide the differences between outputs.",
    ),
    (
        "memory",
        "The ring's 4 MiB are mapped twice, one copy behind the other, and count as 8.4 MB resident as soon as they were \
         gone through once.",
    ),
    (
        "replay",
        "Reading, assembling and encoding are one thread; start, flush and end are in the time.",
    ),
    (
        "guest",
        "In line there are four runs for a request, two of them the client's, which is not selected here and pays the \
         look-up of a process that is not: some 400 instructions a run, nearly all of them the kernel's own way to a program and out of it. \
         *profile* tells which functions the rest is of. `fexit` runs at each call of the kinds it hooks and walks from \
         the descriptor to the socket; the socket door has the socket at hand. Before the agent is ready the verifier has \
         looked at 86,000 instructions.",
    ),
];

/// What was done about what *profile* has shown.
const DONE: &str = "
What was done about it, in line (6,081 instructions a request before, 4,675 now): values were hidden from the verifier by letting the kernel
copy them onto themselves, three times a run; the socket door's programs now work in a map, of which the verifier knows nothing either. Zeros side by side
became calls that fill byte by byte; they are no longer side by side. The first and one of the calls were 1,200 instructions, the other call 220. A request that ends
with a blank line is not searched for one, which takes 30 instructions for every eight bytes. What is left in `copy_first` is the search through the
response's head; to leave out words without a newline was tried, and cost two fifths more to verify at each start. The floor is what the kernel does:
four runs (`bpf_trace_run3`), two copies of user memory with their checks, two reservations in the ring.

In the agent (27,861 before, 25,390 after, each the least of some rounds): addresses were formatted by `fmt`, up to three for each span, and hosts looked through by
character patterns. The rest is spread: finding the lines of heads (`memchr`), writing attributes (`Attributes`, `memmove`), memory for batches (`clear_page`).
";

const HEAD: &str = "\
# What Remora costs

Written by `cargo xtask bench [LINE..]`, which measures by turns with and without an agent; each number is the median, with the
smallest and the largest in parentheses. Times are of a shared machine: ratios and instruction counts tell more. A debug
build is said where it was measured, and costs many times a release. *Budget* is what we allow ourselves; the *peer* is OpenTelemetry eBPF Instrumentation (OBI) 0.5.0, measured on Linux
6.12 in QEMU with its default traces and RED metrics unless said otherwise.

`cargo xtask bench --gate` counts the guest's instructions again, of the release build, and fails if one rose by more than 5 % over
`accepted.tsv`; it is part of the default test run. On another build of the same kernel version, a count is held to what was accepted times
what the request takes without an agent there (by 8 %). A rise on purpose is accepted by changing the number in the same commit
(`cargo xtask bench --accept` writes them).
";

pub(crate) fn write(results: &Results) -> Result<()> {
    fs::create_dir_all(folder())?;
    Ok(fs::write(folder().join("README.md"), page(results))?)
}

fn page(results: &Results) -> String {
    let mut page = HEAD.to_owned();
    for (line, how) in LINES {
        let Some(measured) = results.line(line) else { continue };
        let conditions = &measured.conditions;
        page += &format!("\n## {line}\n\n{how}\n\n*{conditions}; `cargo xtask bench {line}`*\n\n");
        page += "| | measured | | budget | | peer |\n|---|---:|---|---:|---|---|\n";
        let mut over = false;
        for row in &measured.rows {
            let budget = budget_of(line, &row.what);
            let (limit, verdict) = match budget.and_then(|budget| budget.limit) {
                None => (String::new(), ""),
                Some(limit) => {
                    let shown = match limit {
                        Limit::AtMost(most) => format!("≤ {}", number(most)),
                        Limit::AtLeast(least) => format!("≥ {}", number(least)),
                    };
                    (shown, if limit.holds(row.value) { "kept" } else { OVER })
                }
            };
            let peer = budget.map_or("", |budget| budget.peer);
            let (what, value, unit) = (&row.what, row.value, &row.unit);
            writeln!(page, "| {what} | {value} | {unit} | {limit} | {verdict} | {peer} |")
                .expect("into memory");
            over |= verdict == OVER;
        }
        if line == "profile" {
            page += DONE;
        }
        if let Some((_, why)) = REASONS.iter().find(|(name, _)| over && *name == line) {
            writeln!(page, "\nOver its budget: {why}").expect("into memory");
        }
    }
    page += "\n## Shapes on the wire\n\nWhat the peer gets wrong, measured in the same kind of guest.\n\n";
    page += "| on the wire | the peer | Remora | test |\n|---|---|---|---|\n";
    for [shape, peer, ours, test] in SHAPES {
        writeln!(page, "| {shape} | {peer} | {ours} | `{test}` |").expect("into memory");
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::results::{Measured, Row};

    #[test]
    fn a_number_is_judged_by_its_budget() {
        let rows = vec![
            Row::new("fexit: selected, added in line", Spread::exactly(4100.0), "instructions"),
            Row::new("fexit: not selected, added in line", Spread::exactly(0.0), "instructions"),
            Row::new("fexit: agent, RED only", Spread::exactly(9000.0), "instructions"),
        ];
        let mut results = Results::default();
        results.put(Measured { line: "guest".into(), conditions: "here".into(), rows });
        let page = page(&results);
        let line = |what| page.lines().find(|line| line.starts_with(what)).unwrap();
        assert!(line("| fexit: selected").contains("| ≤ 4,000 | **over** | +50,156 |"), "{page}");
        assert!(line("| fexit: not").contains("| ≤ 300 | kept |"), "{page}");
        assert!(line("| fexit: agent, RED").ends_with("|  |  | 75,253 |"), "{page}");
    }

    #[test]
    fn a_share_is_kept_from_below() {
        let ratio = Limit::AtLeast(0.9);
        assert!(ratio.holds(Spread::exactly(0.93)) && !ratio.holds(Spread::exactly(0.8)));
    }
}
