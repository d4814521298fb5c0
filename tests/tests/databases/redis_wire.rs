//! Redis: what libraries rarely send, or in other pieces than usual.

use std::time::Duration;

use remora_tests::{
    agent::{Agent, Done},
    database_clients::SECRET,
    process::Running,
    redis::{Redis, calls, command},
    spans::{SERVER, Span},
};

use crate::{all_is_told, redis::missing};

/// What `talk` says to a server is seen there; those spans, and what the agent has left.
fn seen(talk: impl FnOnce(&Redis)) -> (Redis, Done) {
    let server = Redis::start();
    server.forget();
    let agent = Agent::on(&[server.pid()], &[]);
    talk(&server);
    let done = agent.stop();
    all_is_told(&done);
    (server, done)
}

fn operations(done: &Done) -> Vec<&str> {
    let mut spans: Vec<&Span> = done.spans.iter().collect();
    spans.sort_by_key(|span| span.start_ns);
    spans.iter().map(|span| span.text("db.operation.name")).collect()
}

#[test]
fn inline_commands_and_commands_in_pieces_are_told_apart() {
    if missing() {
        return;
    }
    let (server, done) = seen(|server| {
        let mut wire = server.wire();
        wire.send(b"set inline value\r\n");
        wire.read_until(|all| all == b"+OK\r\n");
        wire.send(b"GET inline\r\n");
        wire.read_until(|all| all == b"$5\r\nvalue\r\n");
        // Byte by byte.
        for byte in command(&["SET", "slow", SECRET]) {
            wire.send(&[byte]);
            std::thread::sleep(Duration::from_micros(300));
        }
        wire.read_until(|all| all == b"+OK\r\n");
        wire.close().unwrap();
    });
    assert_eq!(operations(&done), ["AUTH", "SET", "GET", "SET"], "{}", done.log);
    assert_eq!(calls(&done.spans, SERVER), server.counted().calls);
    let texts: Vec<&str> = done.spans.iter().map(|span| span.text("db.query.text")).collect();
    assert!(texts.contains(&"SET slow ?"), "{texts:?}");
}

#[test]
fn ten_megabytes_are_timed_and_counted() {
    if missing() {
        return;
    }
    let value = SECRET.repeat((10 << 20) / SECRET.len());
    let (server, done) = seen(|server| {
        let mut wire = server.wire();
        assert_eq!(wire.ask(&["SET", "large", &value]), "+OK\r\n");
        wire.send(&command(&["GET", "large"]));
        let expected = format!("${}\r\n", value.len()).len() + value.len() + 2;
        wire.read_until(|all| all.len() == expected);
        assert_eq!(wire.ask(&["GET", "nothing"]), "$-1\r\n");
        wire.close().unwrap();
    });
    assert_eq!(operations(&done), ["AUTH", "SET", "GET", "GET"], "{}", done.log);
    assert_eq!(calls(&done.spans, SERVER), server.counted().calls);
    // Neither is what was moved copied.
    assert!(done.books().bytes > 2 * (10 << 20), "{}", done.log);
    let texts: Vec<&str> = done.spans.iter().map(|span| span.text("db.query.text")).collect();
    assert!(texts.contains(&"SET large ?") && texts.contains(&"GET nothing"), "{texts:?}");
}

#[test]
fn a_pipeline_of_ten_thousand_is_counted_whole() {
    if missing() {
        return;
    }
    let (server, done) = seen(|server| {
        let mut wire = server.wire();
        let all: Vec<u8> =
            (0..10_000).flat_map(|n| command(&["SET", &format!("key:{n}"), SECRET])).collect();
        let reader = std::thread::spawn(move || {
            wire.send(&all);
            wire.read_until(|all| all.len() == 10_000 * 5);
            wire.close().unwrap();
        });
        reader.join().unwrap();
    });
    let counted = server.counted().calls;
    assert_eq!(counted["SET"], 10_000);
    assert_eq!(calls(&done.spans, SERVER), counted, "{}", done.log);
}

#[test]
fn pushes_of_a_subscription_make_no_spans() {
    if missing() {
        return;
    }
    let (server, done) = seen(|server| {
        let (mut subscriber, mut publisher) = (server.wire(), server.wire());
        subscriber.send(&command(&["SUBSCRIBE", "news"]));
        subscriber.read_until(|all| all.ends_with(b":1\r\n"));
        for _ in 0..100 {
            assert_eq!(publisher.ask(&["PUBLISH", "news", SECRET]), ":1\r\n");
        }
        let one = format!("*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$8\r\n{SECRET}\r\n").len();
        subscriber.read_until(|all| all.len() == 100 * one);
        // RESP3: pushes come between replies.
        let mut modern = server.wire();
        modern.send(&command(&["HELLO", "3"]));
        modern.read_until(|all| all.ends_with(b"$7\r\nmodules\r\n*0\r\n"));
        modern.send(&command(&["SUBSCRIBE", "news"]));
        modern.read_until(|all| all.ends_with(b":1\r\n"));
        assert_eq!(publisher.ask(&["PUBLISH", "news", SECRET]), ":2\r\n");
        modern.read_until(|all| all.ends_with(format!("{SECRET}\r\n").as_bytes()));
        assert_eq!(modern.ask(&["SET", "key", SECRET]), "+OK\r\n");
        for wire in [subscriber, publisher, modern] {
            wire.close().unwrap();
        }
    });
    assert_eq!(calls(&done.spans, SERVER), server.counted().calls, "{}", done.log);
}

#[test]
fn a_blocking_command_lasts_as_long_as_it_blocks() {
    if missing() {
        return;
    }
    let (_server, done) = seen(|server| {
        let (mut waiting, mut giving) = (server.wire(), server.wire());
        waiting.send(&command(&["BLPOP", "queue", "0"]));
        std::thread::sleep(Duration::from_millis(400));
        assert_eq!(giving.ask(&["RPUSH", "queue", SECRET]), ":1\r\n");
        waiting.read_until(|all| all.ends_with(format!("{SECRET}\r\n").as_bytes()));
        waiting.close().unwrap();
        giving.close().unwrap();
    });
    let span =
        |name: &str| done.spans.iter().find(|span| span.text("db.operation.name") == name).unwrap();
    let lasted = Duration::from_nanos(span("BLPOP").duration_ns());
    assert!(lasted >= Duration::from_millis(400), "{lasted:?}");
    assert!(span("BLPOP").end_ns >= span("RPUSH").start_ns);
}

/// Its connection only pushes, and what it pushes is what others say.
#[test]
fn a_monitor_is_no_stream_of_commands() {
    if missing() {
        return;
    }
    let (server, done) = seen(|server| {
        let mut monitor = Running::start(server.cli().arg("MONITOR"));
        assert_eq!(monitor.line(), "OK");
        let mut wire = server.wire();
        assert!(monitor.line().contains("\"AUTH\""));
        for number in 0..50 {
            assert_eq!(wire.ask(&["SET", &format!("key:{number}"), SECRET]), "+OK\r\n");
            assert!(monitor.line().contains("\"SET\""));
        }
        wire.close().unwrap();
        monitor.signal(libc::SIGTERM);
        monitor.wait();
    });
    let mut counted = server.counted().calls;
    let mut seen = calls(&done.spans, SERVER);
    // A command without an end.
    counted.remove("MONITOR");
    seen.remove("MONITOR");
    assert_eq!(seen, counted, "{}", done.log);
}
