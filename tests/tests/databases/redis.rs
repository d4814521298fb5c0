//! Redis: commands by name, as `INFO commandstats` counts them.

use std::{process::Command, time::Duration};

use remora_tests::{
    agent::{Agent, Done},
    database_clients::{Language, SECRET, go, waiting},
    redis::{Calls, Counted, Redis, UNTOLD, calls},
    skip,
    spans::{CLIENT, SERVER, Span},
};
use tempfile::TempDir;

use crate::{all_is_told, is_error, of_kind, recording_tells_the_same};

/// Workers, first one and then many; and how many that is altogether.
const WORKERS: &str = "1,64";
const ALL: u64 = 65;
const ROUNDS: u64 = 3;

pub fn missing() -> bool {
    skip::without_root()
        || skip::without(&["redis-server", "redis-cli", "redis-benchmark", "setpriv"])
}

/// How a library says that it wants one more.
fn increment(language: Language) -> &'static str {
    match language {
        Language::Python | Language::Rust => "INCRBY",
        _ => "INCR",
    }
}

/// What the clients' README says that they do.
fn planned(language: Language) -> Calls {
    let each_round = [
        ("SET", 5),
        ("GET", 1),
        ("HSET", 1),
        ("MULTI", 1),
        (increment(language), 3),
        ("EXEC", 1),
        ("LPUSH", 1),
    ];
    let once = [("EVAL", 1), ("STRLEN", 1), ("BLPOP", 1)];
    let rounds = each_round.map(|(name, count)| (name, count * ROUNDS));
    let all = rounds.into_iter().chain(once);
    all.map(|(name, count)| (name.to_owned(), count * ALL)).collect()
}

/// Each command that the server counted is in a span of `kind`. Long batches of several commands do not tell all
/// names, but how many they are.
pub fn agree(done: &Done, kind: u64, expected: &Calls) {
    let mut seen = calls(&done.spans, kind);
    let untold = seen.remove(UNTOLD).unwrap_or(0);
    let total = |calls: &Calls| calls.values().sum::<u64>();
    let fewer = seen.iter().all(|(name, count)| *count <= expected.get(name).copied().unwrap_or(0));
    let agrees = if untold > 0 { fewer } else { seen == *expected };
    let all = total(&seen) + untold == total(expected);
    assert!(agrees && all, "of kind {kind} {seen:?} and {untold}, not {expected:?}\n{}", done.log);
}

/// Both ends have a span for each command that the server counted; those of a script's own have none.
fn both_ends_agree(done: &Done, counted: &Counted, in_scripts: &[&str]) {
    let mut expected = counted.calls.clone();
    expected.retain(|name, _| !in_scripts.contains(&&**name));
    // What libraries say of themselves this server does not know, and so does not count.
    if let Some(&unknown) = counted.errors.get("ERR") {
        *expected.entry("CLIENT".to_owned()).or_default() += unknown;
    }
    for kind in [SERVER, CLIENT] {
        agree(done, kind, &expected);
    }
}

fn library_agrees(language: Language) {
    if missing() || language.missing() {
        return;
    }
    let server = Redis::start();
    let client = waiting(&language.client("redis", server.port(), WORKERS, ROUNDS));
    server.forget();
    let agent = Agent::on(&[server.pid(), client.pid()], &[]);
    go(client, "");
    let done = agent.stop();
    let counted = server.counted();
    for (name, count) in planned(language) {
        assert_eq!(counted.calls.get(&name), Some(&count), "{name}: {counted:?}");
    }
    both_ends_agree(&done, &counted, &["STRLEN"]);
    all_is_told(&done);
    for kind in [SERVER, CLIENT] {
        let spans = of_kind(&done.spans, kind);
        let named = |name: &str| -> Vec<&&Span> {
            spans.iter().filter(|span| span.text("db.operation.name") == name).collect()
        };
        let refused = named("LPUSH");
        assert!(refused.iter().all(|span| is_error(span, "WRONGTYPE")), "{refused:?}");
        for (name, size) in [("PIPELINE SET", 4), (&format!("MULTI {}", increment(language)), 3)] {
            let batches = named(name);
            assert_eq!(batches.len() as u64, ALL * ROUNDS, "{name}\n{}", done.log);
            let sized = |span: &&&Span| span.int("db.operation.batch.size") == Some(size);
            assert!(batches.iter().all(&sized), "{batches:?}");
        }
        for span in named("BLPOP") {
            let lasted = Duration::from_nanos(span.duration_ns());
            assert!(lasted >= Duration::from_millis(290), "{lasted:?}: {span:?}");
        }
        for span in &spans {
            assert_eq!(span.text("db.system.name"), "redis");
            assert_eq!(span.int("server.port"), Some(server.port().into()), "{span:?}");
        }
        let set = named("SET");
        assert!(set.iter().all(|span| span.text("db.namespace") == "2"), "{set:?}");
        let text = |span: &&&Span| {
            let text = span.text("db.query.text");
            text.starts_with("SET value:") && text.ends_with(" ?")
        };
        assert!(set.iter().all(&text), "{set:?}");
    }
}

#[test]
fn redis_py_agrees_with_commandstats() {
    library_agrees(Language::Python);
}

#[test]
fn go_redis_agrees_with_commandstats() {
    library_agrees(Language::Go);
}

#[test]
fn ioredis_agrees_with_commandstats() {
    library_agrees(Language::Node);
}

#[test]
fn the_redis_crate_agrees_with_commandstats() {
    library_agrees(Language::Rust);
}

/// Many users of one connection write into it without waiting for each other.
#[test]
fn a_connection_that_many_share_has_a_span_for_each_command() {
    if missing() || Language::Node.missing() {
        return;
    }
    let server = Redis::start();
    let client = waiting(&Language::Node.client("shared", server.port(), "64", 20));
    server.forget();
    let agent = Agent::on(&[server.pid(), client.pid()], &[]);
    go(client, "");
    let done = agent.stop();
    let counted = server.counted();
    assert_eq!((counted.calls["SET"], counted.calls["GET"]), (64 * 20, 64 * 20));
    both_ends_agree(&done, &counted, &[]);
    all_is_told(&done);
}

#[test]
fn redis_benchmark_has_what_it_counts_with_and_without_a_pipeline() {
    if missing() {
        return;
    }
    let server = Redis::open_to_all();
    let bench = |clients: &str, pipeline: &str, requests: &str| {
        let mut bench = Command::new("redis-benchmark");
        bench.args(["-p", &server.port().to_string(), "-t", "set,get,incr,lpush", "-q"]);
        bench.args(["-c", clients, "-P", pipeline, "-n", requests]);
        waiting(&bench)
    };
    let runs = [
        bench("1", "1", "2000"),
        bench("64", "1", "4000"),
        bench("1", "16", "3200"),
        bench("64", "16", "6400"),
    ];
    server.forget();
    let mut pids: Vec<u32> = runs.iter().map(|run| run.pid()).collect();
    pids.push(server.pid());
    let agent = Agent::on(&pids, &["--ring-size", "64MiB"]);
    for run in runs {
        go(run, "");
    }
    let done = agent.stop();
    let counted = server.counted();
    for name in ["SET", "GET", "INCR", "LPUSH"] {
        assert!(counted.calls[name] >= 15_600, "{counted:?}");
    }
    let books = done.books();
    if books.gap_bytes > 0 || !books.drops.is_empty() {
        // As fast as a busy machine can, 64 clients may be too much for it. Then the books say that bytes are missing, and
        // no command is told that was not sent.
        println!("{} bytes were not seen, drops {:?}", books.gap_bytes, books.drops);
        for kind in [SERVER, CLIENT] {
            let seen = calls(&done.spans, kind);
            let sent = |name: &str| counted.calls.get(name).copied().unwrap_or(0);
            assert!(seen.iter().all(|(name, count)| name == UNTOLD || *count <= sent(name)));
            assert!(seen.values().sum::<u64>() > counted.calls.values().sum::<u64>() / 4);
        }
        return;
    }
    both_ends_agree(&done, &counted, &[]);
    all_is_told(&done);
    let batches: Vec<&Span> =
        done.spans.iter().filter(|span| span.text("db.operation.name") == "PIPELINE GET").collect();
    assert_eq!(batches.len(), 2 * (3200 + 6400) / 16);
    assert!(batches.iter().all(|span| span.int("db.operation.batch.size") == Some(16)));
}

/// Of pipelines that are longer than what is copied of a write, the middle may not be known.
#[test]
fn a_pipeline_of_long_commands_is_told_whole_or_counted_as_lost() {
    if missing() {
        return;
    }
    let server = Redis::open_to_all();
    let mut bench = Command::new("redis-benchmark");
    bench.args([
        "-p",
        &server.port().to_string(),
        "-t",
        "mset",
        "-q",
        "-c",
        "1",
        "-P",
        "16",
        "-n",
        "3200",
    ]);
    let bench = waiting(&bench);
    let agent = Agent::on(&[server.pid(), bench.pid()], &[]);
    go(bench, "");
    let done = agent.stop();
    let [requests, exported, _, lost] = done.requests();
    println!("{lost} of {requests} are lost, {} bytes were not seen", done.books().gap_bytes);
    for span in done.spans.iter().filter(|span| span.text("db.operation.name").contains("MSET")) {
        assert_eq!(span.name, "PIPELINE MSET");
        assert_eq!(span.int("db.operation.batch.size"), Some(16), "{span:?}");
    }
    assert_eq!(done.spans.len() as u64, exported);
    // 200 pipelines, and two questions about the server at its beginning, at both ends.
    let all = 2 * (3200 / 16 + 1);
    let unseen = done.books().gap_bytes > 0;
    assert!(requests == all || unseen && requests < all, "{requests} of {all}\n{}", done.log);
}

/// Read from a pipe redis-cli connects first: the agent finds the connection open, and what it cannot know of it
/// is not there.
#[test]
fn redis_cli_is_seen_on_a_connection_that_was_open_before() {
    if missing() {
        return;
    }
    let server = Redis::start();
    let mut cli = server.cli();
    let mut cli = remora_tests::process::Running::start(
        cli.args(["-n", "3"]).stdin(std::process::Stdio::piped()),
    );
    cli.say("PING");
    assert_eq!(cli.line(), "PONG");
    server.forget();
    let folder = TempDir::new().unwrap();
    let recording = folder.path().join("recording");
    let pids = [server.pid(), cli.pid()];
    let agent = Agent::on(&pids, &["--record", recording.to_str().unwrap()]);
    let script = format!(
        "SET mykey {SECRET}\nGET mykey\nSELECT 5\nSET other {SECRET} EX 100\nLPUSH other {SECRET}\nMULTI\n\
         INCR count\nINCR count\nEXEC\nEVAL \"return redis.call('STRLEN', KEYS[1])\" 1 other\n\
         FUNCTION LOAD \"#!lua name=mine\\nredis.register_function('double', function(keys, args) return 2 * args[1] \
         end)\"\nFCALL double 0 21\nNOSUCHCOMMAND {SECRET}\nAUTH default {SECRET}\nMSET a {SECRET} b {SECRET}\n\
         CONFIG SET maxmemory-policy noeviction\nOBJECT ENCODING count\n"
    );
    cli.give(&script);
    let said = cli.finish();
    assert!(said.contains("42") && said.contains("WRONGTYPE"), "{said}");
    let done = agent.stop();
    all_is_told(&done);
    recording_tells_the_same(&recording, &done);
    let counted = server.counted();
    assert_eq!(counted.calls["STRLEN"], 1, "{counted:?}");
    for kind in [SERVER, CLIENT] {
        let mut seen = calls(&done.spans, kind);
        assert_eq!(seen.remove("NOSUCHCOMMAND"), Some(1), "{seen:?}\n{}", done.log);
        let mut expected = counted.calls.clone();
        expected.remove("STRLEN");
        assert_eq!(seen, expected, "of kind {kind}\n{}", done.log);
        let spans = of_kind(&done.spans, kind);
        let of = |text: &str| -> &Span {
            let found = spans.iter().find(|span| span.text("db.query.text").starts_with(text));
            found.unwrap_or_else(|| panic!("no {text}: {spans:?}"))
        };
        assert_eq!(of("SET mykey").text("db.query.text"), "SET mykey ?");
        assert_eq!(of("GET mykey").text("db.query.text"), "GET mykey");
        // It was chosen before anybody watched.
        assert_eq!(of("SET mykey").text("db.namespace"), "");
        assert!(of("SET mykey").attributes.contains_key("remora.joined"), "{:?}", of("SET mykey"));
        assert_eq!(of("SET other").text("db.namespace"), "5");
        assert!(is_error(of("LPUSH other"), "WRONGTYPE"), "{spans:?}");
        let called: Vec<_> =
            spans.iter().filter(|span| span.text("db.stored_procedure.name") == "double").collect();
        assert_eq!(called.len(), 1, "{spans:?}");
        let transaction: Vec<_> =
            spans.iter().filter(|span| span.text("db.operation.name") == "MULTI INCR").collect();
        assert_eq!(transaction.len(), 1, "{spans:?}");
        assert_eq!(transaction[0].int("db.operation.batch.size"), Some(2));
    }
}

#[test]
fn exec_sees_a_client_from_its_first_command() {
    if missing() {
        return;
    }
    let server = Redis::open_to_all();
    let port = server.port().to_string();
    let script = "printf 'SET a 1\\nGET a\\n' | redis-cli -p $0; redis-cli -p $0 DEL a";
    server.forget();
    let arguments = ["--", "sh", "-c", script, &port].map(str::to_owned);
    let done = Agent::start("exec", &arguments).ended();
    all_is_told(&done);
    let counted = server.counted().calls;
    assert_eq!((counted["SET"], counted["GET"], counted["DEL"]), (1, 1, 1));
    agree(&done, CLIENT, &counted);
}
