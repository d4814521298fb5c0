//! What a recording may keep of records: no secret, wherever they are cut and whatever is lost, and
//! enough for the same exchanges. The latter is checked for every test that goes through
//! [`assemble`](super::assemble), too.

use proptest::{collection::vec, prelude::*, sample::Index};
use remora_common::{
    policy,
    record::{CloseCause, Direction},
};

use super::*;
use crate::semantics::{Target, http::is_common_method, redact};

/// The records as a recording has them: with what was kept of their content.
pub(super) fn as_kept(limits: Limits, records: &[Owned]) -> Vec<Owned> {
    let mut assembler = Assembler::new(limits);
    assembler.keep();
    let mut kept = records.to_vec();
    for owned in &mut kept {
        assembler.record(&owned.record(), &mut Collector::default());
        if let Owned::Data(header, head) = owned {
            let kept = assembler.kept().unwrap();
            assert_eq!(kept.head().len(), head.len());
            header.tail = kept.tail();
            head.copy_from_slice(kept.head());
        }
    }
    kept
}

/// An exchange with what a span never shows taken out.
pub(super) fn redacted(exchange: &Exchange) -> Exchange {
    let mut exchange = exchange.clone();
    let Some(http) = exchange.detail.http_mut() else { return exchange };
    if !is_common_method(&http.method) {
        // Blanked where its start line was cut.
        http.method = "other".into();
        http.target = "".into();
    }
    let target = Target::parse(&http.method, &http.target);
    let without_userinfo = |text: &str| text.rsplit('@').next().unwrap_or_default().to_owned();
    http.target = format!(
        "{:?} {:?} {} {:?}",
        target.scheme,
        target.authority.map(without_userinfo),
        redact::redact_path(target.path),
        target.query.map(redact::redact_query),
    )
    .into();
    http.host = http.host.as_deref().map(without_userinfo).map(Into::into);
    exchange
}

/// Two letters that nothing else in these conversations has, and no common method begins with.
fn secret() -> impl Strategy<Value = String> {
    "[JZ]{4,40}"
}

fn request() -> impl Strategy<Value = String> {
    let target = prop_oneof![
        secret().prop_map(|secret| format!("/a?b=c&token={secret}&d=e")),
        secret().prop_map(|secret| format!("/a?api%5Fkey={secret};{secret}")),
        secret().prop_map(|secret| format!("/a;jsessionid={secret}/b?c=d#{secret}")),
        secret().prop_map(|secret| format!("http://h:80/?user[password]={secret} {secret}")),
        secret().prop_map(|secret| format!("/a?sig={secret} HTTP/1.1{secret}")),
    ];
    let field = prop_oneof![
        secret().prop_map(|secret| format!("Authorization: Bearer {secret}\r\n")),
        secret().prop_map(|secret| format!("cookie : a={secret}; b={secret}\r\n")),
        secret().prop_map(|secret| format!("X-API-Key:{secret}\r\n")),
        secret().prop_map(|secret| format!("Proxy-Authorization: Basic\r\n {secret}\r\n")),
        secret().prop_map(|secret| format!("X-Own-Idea: {secret}\n")),
        secret().prop_map(|secret| format!("{secret}\r\n")),
        Just("User-Agent: curl/8\r\n".to_owned()),
        Just("tracestate: a=1\r\n".to_owned()),
        Just("traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n".to_owned()),
    ];
    (prop_oneof![Just("GET"), Just("BREW")], target, vec(field, 0..6), content()).prop_map(
        |(method, target, fields, content)| {
            format!("{method} {target} HTTP/1.1\r\nHost: h\r\n{}{content}", fields.concat())
        },
    )
}

/// The end of a head and what follows.
fn content() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("\r\n".to_owned()),
        secret().prop_map(|s| format!("Content-Length: {}\r\n\r\n{s}", s.len())),
        (secret(), any::<bool>()).prop_map(|(s, trailer)| {
            let trailer = if trailer { format!("Set-Cookie: {s}\r\n") } else { String::new() };
            let len = s.len();
            format!("Transfer-Encoding: chunked\r\n\r\n{len:x};{s}\r\n{s}\r\n0\r\n{trailer}\r\n")
        }),
    ]
}

fn response() -> impl Strategy<Value = String> {
    let field = prop_oneof![
        secret().prop_map(|secret| format!("Set-Cookie: id={secret}; Secure\r\n")),
        secret().prop_map(|secret| format!("Location: /?code={secret}\r\n")),
        secret().prop_map(|secret| format!("WWW-Authenticate: {secret}\r\n")),
    ];
    let content = content().prop_map(|content| match &*content {
        "\r\n" => "Content-Length: 0\r\n\r\n".to_owned(),
        _ => content,
    });
    (secret(), vec(field, 0..4), content).prop_map(|(reason, fields, content)| {
        format!("HTTP/1.1 200 {reason}\r\n{}{content}", fields.concat())
    })
}

/// What may happen to records on their way.
#[derive(Clone, Debug)]
enum Disturbance {
    Drop(Index),
    Duplicate(Index),
    Swap(Index),
}

fn disturbance() -> impl Strategy<Value = Disturbance> {
    prop_oneof![
        any::<Index>().prop_map(Disturbance::Drop),
        any::<Index>().prop_map(Disturbance::Duplicate),
        any::<Index>().prop_map(Disturbance::Swap),
    ]
}

fn disturb(records: &mut Vec<Owned>, disturbance: &Disturbance) {
    if records.len() < 2 {
        return;
    }
    match disturbance {
        Disturbance::Drop(at) => _ = records.remove(at.index(records.len())),
        Disturbance::Duplicate(at) => {
            let at = at.index(records.len());
            records.insert(at, records[at].clone());
        }
        Disturbance::Swap(at) => {
            let at = at.index(records.len() - 1);
            records.swap(at, at + 1);
        }
    }
}

fn assert_no_secret(records: &[Owned]) {
    for owned in records {
        if let Owned::Data(header, head) = owned {
            let secret = |byte: &u8| matches!(byte, b'J' | b'Z');
            assert!(!head.iter().any(secret), "{}", head.escape_ascii());
            assert!(!header.tail.iter().any(secret), "{}", header.tail.escape_ascii());
        }
    }
}

proptest! {
    #![proptest_config(crate::properties::config(200))]

    #[test]
    fn no_secret_is_kept_of_any_split_and_the_exchanges_are_the_same(
        turns in vec((request(), response()), 1..5),
        pipelined in any::<bool>(),
        is_client in any::<bool>(),
        cuts in prop_oneof![vec(1_usize..4, 1..5), vec(1_usize..60, 1..9), vec(100_usize..4000, 1..3)],
        disturbances in vec(disturbance(), 0..4),
    ) {
        let (mut kernel, requests) = match is_client {
            true => (client(), Direction::Tx),
            false => (server(), Direction::Rx),
        };
        let mut cuts = cuts.iter().cycle();
        let mut play = |kernel: &mut Kernel, direction, text: &str| {
            let mut rest = text.as_bytes();
            while !rest.is_empty() {
                let (piece, more) = rest.split_at(rest.len().min(*cuts.next().unwrap()));
                kernel.moved(direction, piece);
                rest = more;
            }
        };
        if pipelined {
            kernel.capture = policy::ALL;
            let all = |side: fn(&(String, String)) -> &String| -> String {
                turns.iter().map(side).cloned().collect()
            };
            play(&mut kernel, requests, &all(|turn| &turn.0));
            play(&mut kernel, requests.flip(), &all(|turn| &turn.1));
        } else {
            for (request, response) in &turns {
                play(&mut kernel, requests, request);
                play(&mut kernel, requests.flip(), response);
            }
        }
        kernel.close(CloseCause::Gone, 0);
        if disturbances.is_empty() {
            let (out, _) = assemble(Limits::default(), &kernel.records);
            prop_assert_eq!(out.finished.len(), turns.len());
        }
        for disturbance in &disturbances {
            disturb(&mut kernel.records, disturbance);
        }
        let kept = as_kept(Limits::default(), &kernel.records);
        assert_no_secret(&kept);
        assemble(Limits::default(), &kernel.records);
    }

    #[test]
    fn other_protocols_leave_nothing(
        pieces in vec((any::<bool>(), "[*$+a-z]{1,4}\r\n[JZ*$0-9\r\n\0-\x1f]{0,40}"), 1..20),
    ) {
        let mut kernel = server();
        for (received, text) in &pieces {
            let direction = if *received { Direction::Rx } else { Direction::Tx };
            kernel.moved(direction, text.as_bytes());
        }
        let kept = as_kept(Limits::default(), &kernel.records);
        assert_no_secret(&kept);
        assemble(Limits::default(), &kernel.records);
    }
}

#[test]
fn a_command_of_another_protocol_leaves_nothing() {
    for command in ["AUTH JZJZ\r\n", "*2\r\n$4\r\nAUTH\r\n$4\r\nJZJZ\r\n", "PASS JZJZ\n", "JZJZ\n"]
    {
        let mut kernel = server();
        kernel.rx(command.as_bytes()).tx(b"+OK\r\n").rx(command.as_bytes());
        assert_no_secret(&as_kept(Limits::default(), &kernel.records));
        for cut in 6..command.len() {
            let mut kernel = server();
            kernel.rx(&command.as_bytes()[..cut]).rx(&command.as_bytes()[cut..]);
            if !command.starts_with('J') {
                assert_no_secret(&as_kept(Limits::default(), &kernel.records));
            }
        }
    }
}
