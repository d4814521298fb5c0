//! HTTP/2 and gRPC, one test per shape on the wire.

use remora_common::{
    frames::HTTP2_ROW,
    policy,
    record::{CloseCause, Direction, Role, open_flag},
};

use super::*;
use crate::exchange::{Detail, Failure, RpcExchange};

pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
pub(super) const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

pub(super) fn framed(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// Literals; `insert`: into the table, else never.
fn block(insert: bool, fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(if insert { 0x40 } else { 0x10 });
        for text in [name, value] {
            assert!(text.len() < 127);
            block.push(text.len() as u8);
            block.extend(text.bytes());
        }
    }
    block
}

pub(super) fn headers(stream: u32, flags: u8, fields: &[(&str, &str)]) -> Vec<u8> {
    framed(1, END_HEADERS | flags, stream, &block(false, fields))
}

/// `:method: GET` and `:scheme: http` from the static table.
pub(super) fn get(stream: u32, path: &str) -> Vec<u8> {
    let fields = block(false, &[(":path", path), (":authority", "h:81")]);
    framed(1, END_HEADERS | END_STREAM, stream, &[&[0x82, 0x86][..], &fields].concat())
}

pub(super) fn data(stream: u32, flags: u8, len: usize) -> Vec<u8> {
    framed(0, flags, stream, &vec![b'x'; len])
}

/// `:status: 200` from the static table.
pub(super) fn ok(stream: u32, flags: u8) -> Vec<u8> {
    framed(1, END_HEADERS | flags, stream, &[0x88])
}

pub(super) fn settings() -> Vec<u8> {
    framed(4, 0, 0, &[0, 3, 0, 0, 0, 100])
}

fn reset(stream: u32, code: u8) -> Vec<u8> {
    framed(3, 0, stream, &[0, 0, 0, code])
}

/// The client's first bytes and the server's.
pub(super) fn greeted(mut kernel: Kernel, requests: Direction) -> Kernel {
    kernel.capture = policy::ALL;
    kernel.moved(requests, &[PREFACE, &settings()].concat());
    kernel.moved(requests.flip(), &[settings(), framed(4, 1, 0, &[])].concat());
    kernel
}

pub(super) fn of_server() -> Kernel {
    greeted(server(), Direction::Rx)
}

fn rpc(exchange: &Exchange) -> &RpcExchange {
    match &exchange.detail {
        Detail::Grpc(rpc) => rpc,
        other => panic!("{other:?} is no call"),
    }
}

const CALL: [(&str, &str); 5] = [
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/shop.Stock/Count"),
    (":authority", "h"),
    ("content-type", "application/grpc+proto"),
];

#[test]
fn tells_a_request_and_its_response() {
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let fields = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/a?b=c"),
        (":authority", "h:81"),
        ("user-agent", "me"),
        ("x-forwarded-for", "192.0.2.1, 10.0.0.1"),
        ("traceparent", parent),
        ("tracestate", "a=1"),
    ];
    let mut kernel = of_server();
    let start_ns = kernel.now_ns + 1000;
    kernel.rx(&headers(1, 0, &fields)).rx(&data(1, END_STREAM, 5));
    kernel.tx(&ok(1, 0)).tx(&data(1, 0, 7)).tx(&data(1, END_STREAM, 0));
    let end_ns = kernel.now_ns;
    kernel.gone();
    let exchange = one(&kernel);
    let http = clean(&exchange);
    assert_eq!((&*http.method, &*http.target, http.status), ("POST", "/a?b=c", 200));
    assert_eq!((http.version, http.host.as_deref()), ((2, 0), Some("h:81")));
    assert_eq!(http.user_agent.as_deref(), Some("me"));
    assert_eq!(http.forwarded_for.as_deref(), Some("192.0.2.1"));
    assert_eq!((http.request_content_len, http.response_content_len), (5, 7));
    assert_eq!(exchange.role, exchange::Role::Server);
    assert_eq!((exchange.start_mono_ns, exchange.end_mono_ns), (start_ns, end_ns));
    assert!(exchange.trace.parent.is_some());
    assert_eq!(&*exchange.trace.state.0, "a=1");
}

#[test]
fn streams_that_run_at_once_are_told_apart() {
    let mut kernel = greeted(client(), Direction::Tx);
    kernel.tx(&[get(1, "/1"), get(3, "/3"), get(5, "/5")].concat());
    let not_found = headers(5, END_STREAM, &[(":status", "404")]);
    kernel.rx(&[ok(3, 0), not_found, data(3, 0, 9), ok(1, 0), data(1, END_STREAM, 2)].concat());
    kernel.tx(&get(7, "/7")).rx(&ok(7, END_STREAM)).rx(&data(3, END_STREAM, 1));
    let exchanges = all(&kernel);
    assert_eq!(told(&exchanges), [("/5", 404), ("/1", 200), ("/7", 200), ("/3", 200)]);
    assert_eq!(clean(&exchanges[3]).response_content_len, 10);
    assert!(exchanges.iter().all(|exchange| exchange.role == exchange::Role::Client));
}

#[test]
fn whatever_pieces_it_comes_in_the_same_is_told() {
    let table = |fields| framed(1, END_HEADERS | END_STREAM, 1, &block(true, fields));
    let first = table(&[(":method", "GET"), (":path", "/a"), (":authority", "h")]);
    let second = framed(1, END_HEADERS | END_STREAM, 3, &[0xc0, 0xbf, 0xbe]);
    let requests = [PREFACE, &settings(), &first, &second].concat();
    let responses = [settings(), ok(1, 0), data(1, END_STREAM, 3), ok(3, END_STREAM)].concat();
    for size in [1, 2, 3, 7, 50] {
        let mut kernel = server();
        kernel.capture = policy::ALL;
        requests.chunks(size).for_each(|piece| {
            kernel.rx(piece);
        });
        responses.chunks(size).for_each(|piece| {
            kernel.tx(piece);
        });
        kernel.gone();
        let (out, _) = run(Limits::default(), &kernel.records);
        assert_eq!(
            (told(&out.finished), &out.lost[..]),
            (vec![("/a", 200), ("/a", 200)], &[][..]),
            "{size}"
        );
    }
}

#[test]
fn a_server_may_speak_first() {
    let mut kernel = server();
    kernel.capture = policy::ALL;
    kernel.tx(&settings()).rx(&[PREFACE, &settings(), &get(1, "/a")].concat());
    kernel.tx(&[framed(4, 1, 0, &[]), ok(1, END_STREAM)].concat()).gone();
    let exchange = one(&kernel);
    assert_eq!((clean(&exchange).status, exchange.connection.joined), (200, false));
}

#[test]
fn interim_responses_trailers_and_pushes_are_no_responses() {
    let mut kernel = of_server();
    kernel.rx(&get(1, "/a"));
    kernel.tx(&headers(1, 0, &[(":status", "103"), ("link", "</b>")]));
    let promise = [&2_u32.to_be_bytes()[..], &[0x82, 0x86, 0x84]].concat();
    kernel
        .tx(&framed(5, END_HEADERS, 1, &promise))
        .tx(&[ok(2, 0), data(2, END_STREAM, 9)].concat());
    kernel.tx(&[ok(1, 0), data(1, 0, 4), headers(1, END_STREAM, &[("x-sum", "1")])].concat());
    let exchange = one(&kernel);
    assert_eq!((clean(&exchange).status, clean(&exchange).response_content_len), (200, 4));
}

#[test]
fn a_tunnel_is_over_when_it_is_made() {
    let websocket = [
        (":method", "CONNECT"),
        (":protocol", "websocket"),
        (":scheme", "http"),
        (":path", "/chat"),
        (":authority", "h"),
    ];
    let mut kernel = of_server();
    kernel.rx(&headers(1, 0, &websocket)).tx(&ok(1, 0));
    kernel.rx(&data(1, 0, 6)).tx(&data(1, END_STREAM, 6));
    kernel.rx(&headers(3, 0, &[(":method", "CONNECT"), (":authority", "h:443")])).tx(&ok(3, 0));
    kernel.rx(&headers(5, 0, &[(":method", "CONNECT"), (":authority", "h:443")]));
    kernel.tx(&headers(5, END_STREAM, &[(":status", "407")])).gone();
    let exchanges = all(&kernel);
    assert_eq!(told(&exchanges), [("/chat", 200), ("h:443", 200), ("h:443", 407)]);
    assert_eq!([0, 1, 2].map(|nth| http(&exchanges[nth]).upgraded), [true, true, false]);
}

#[test]
fn a_reset_is_a_failure_of_its_exchange_alone() {
    let mut kernel = of_server();
    kernel.rx(&[get(1, "/1"), get(3, "/3"), get(5, "/5")].concat());
    kernel.rx(&reset(1, 8)).tx(&[ok(3, 0), reset(3, 2)].concat()).tx(&ok(5, END_STREAM));
    kernel.rx(&reset(5, 8)).tx(&data(1, 0, 3));
    let exchanges = all(&kernel);
    let failures: Vec<_> = exchanges.iter().map(|e| (http(e).status, e.failure)).collect();
    let expected =
        [(0, Some(Failure::StreamReset(8))), (200, Some(Failure::StreamReset(2))), (200, None)];
    assert_eq!(failures, expected);
}

#[test]
fn what_a_server_that_goes_away_did_not_look_at_was_refused() {
    let mut kernel = of_server();
    kernel.rx(&[get(1, "/1"), get(3, "/3")].concat());
    kernel.tx(&framed(7, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 0])).tx(&ok(1, END_STREAM)).gone();
    let exchanges = all(&kernel);
    assert_eq!(exchanges[0].failure, Some(Failure::StreamReset(7)));
    assert_eq!((http(&exchanges[1]).status, exchanges[1].failure), (200, None));
}

#[test]
fn the_end_of_the_connection_settles_what_is_open() {
    for (cause, errno, failure) in [
        (CloseCause::LocalFin, 0, Failure::Closed),
        (CloseCause::Error, -libc::ECONNRESET, Failure::Reset),
    ] {
        let mut kernel = of_server();
        kernel.rx(&[get(1, "/1"), get(3, "/3")].concat()).tx(&ok(3, 0));
        kernel.close(cause, errno).gone();
        let exchanges = all(&kernel);
        assert_eq!(told(&exchanges), [("/1", 0), ("/3", 200)]);
        assert!(exchanges.iter().all(|exchange| exchange.failure == Some(failure)));
    }
}

#[test]
fn a_call_ends_with_the_status_of_its_trailers() {
    let mut kernel = of_server();
    kernel.rx(&headers(1, 0, &CALL)).rx(&data(1, END_STREAM, 7));
    kernel.tx(&headers(1, 0, &[(":status", "200"), ("content-type", "application/grpc")]));
    kernel.tx(&data(1, 0, 9)).tx(&headers(
        1,
        END_STREAM,
        &[("grpc-status", "5"), ("grpc-message", "no")],
    ));
    // Without content, in one block.
    kernel.rx(&headers(3, END_STREAM, &CALL));
    kernel.tx(&headers(3, END_STREAM, &[(":status", "200"), ("grpc-status", "12")]));
    kernel.rx(&headers(5, END_STREAM, &CALL)).rx(&reset(5, 8));
    let exchanges = all(&kernel);
    let statuses: Vec<_> = exchanges.iter().map(|exchange| rpc(exchange).status).collect();
    assert_eq!(statuses, [Some(5), Some(12), None]);
    let call = rpc(&exchanges[0]);
    assert_eq!((&*call.http.target, call.http.status), ("/shop.Stock/Count", 200));
    assert_eq!((call.http.request_content_len, call.http.response_content_len), (7, 9));
    assert_eq!(exchanges[2].failure, Some(Failure::StreamReset(8)));
}

#[test]
fn a_stream_of_messages_is_open_as_long_as_its_stream_is() {
    let mut kernel = of_server();
    kernel.rx(&headers(1, 0, &CALL)).tx(&ok(1, 0));
    for _ in 0..20 {
        kernel.now_ns += 3_600_000_000_000;
        kernel.rx(&data(1, 0, 6)).tx(&data(1, 0, 8));
    }
    kernel.rx(&data(1, END_STREAM, 0)).tx(&headers(1, END_STREAM, &[("grpc-status", "0")]));
    let exchange = one(&kernel);
    assert_eq!((rpc(&exchange).status, exchange.failure), (Some(0), None));
    assert!(exchange.end_mono_ns - exchange.start_mono_ns > 20 * 3_600_000_000_000);
}

#[test]
fn what_browsers_speak_instead_is_http() {
    let mut call = CALL;
    call[4].1 = "application/grpc-web+proto";
    let mut kernel = of_server();
    kernel.rx(&headers(1, END_STREAM, &call)).tx(&ok(1, END_STREAM));
    // An error without content stands in the head.
    let error = [(":status", "200"), ("content-type", call[4].1), ("grpc-status", "5")];
    kernel.rx(&headers(3, END_STREAM, &call)).tx(&headers(3, END_STREAM, &error));
    let exchanges = all(&kernel);
    assert_eq!(told(&exchanges), [("/shop.Stock/Count", 200); 2]);
    assert!(exchanges.iter().all(|exchange| matches!(exchange.detail, Detail::Http(_))));
}

#[test]
fn a_connection_changes_from_http_1() {
    let request = b"GET /up HTTP/1.1\r\nHost: h\r\nConnection: Upgrade, HTTP2-Settings\r\n\
                    Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAA\r\n\r\n";
    let agreed = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n";
    for together in [true, false] {
        let mut kernel = server();
        let start_ns = kernel.now_ns + 1000;
        kernel.rx(request);
        match together {
            true => {
                kernel.tx(&[agreed, &settings()[..], &ok(1, 0)].concat());
                kernel.capture = policy::ALL;
            }
            false => {
                kernel.tx(agreed);
                kernel.capture = policy::ALL;
                kernel.tx(&[settings(), ok(1, 0)].concat());
            }
        }
        kernel.rx(&[PREFACE, &settings()].concat()).tx(&data(1, END_STREAM, 5));
        kernel.rx(&get(3, "/3")).tx(&ok(3, END_STREAM)).gone();
        let (out, stats) = assemble(Limits::default(), &kernel.records);
        assert_eq!((told(&out.finished), out.lost.len()), (vec![("/up", 200), ("/3", 200)], 0));
        let first = &out.finished[0];
        assert_eq!((first.start_mono_ns, first.failure), (start_ns, None));
        let http = clean(first);
        assert_eq!((http.version, http.upgraded, http.response_content_len), ((2, 0), false, 5));
        assert_eq!(stats.connections_other_protocol, 0);
        assert_eq!(out.captures, [(7, policy::FRAMES + HTTP2_ROW)]);
    }
}

#[test]
fn a_connection_that_was_open_before_is_recognised_by_its_frames() {
    for role in [Role::Server, Role::Unknown] {
        let mut kernel = Kernel::opened(role, open_flag::JOINED);
        kernel.capture = policy::ALL;
        kernel.rx(&framed(8, 0, 0, &[0, 0, 1, 0])).tx(&framed(6, 0, 0, &[0; 8]));
        for _ in 0..6 {
            kernel.tx(&data(7, 0, 100)).rx(&framed(8, 0, 7, &[0, 0, 1, 0]));
        }
        kernel.rx(&get(9, "/9")).tx(&[ok(9, 0), data(7, END_STREAM, 9)].concat());
        kernel.tx(&data(9, END_STREAM, 3)).rx(&get(11, "/11")).tx(&ok(11, END_STREAM));
        let (out, _) = assemble(Limits::default(), &kernel.records);
        assert_eq!(told(&out.finished), [("/9", 200), ("/11", 200)], "{role:?}");
        assert!(out.finished.iter().all(|exchange| exchange.connection.joined));
        let lost: Vec<Lost> = out.lost.iter().map(|lost| lost.1).collect();
        assert_eq!(lost, [Lost::NoRequest], "the answer to what was asked before, {role:?}");
    }
}

/// What an index beyond the first insertion that was seen refers to is not known.
#[test]
fn fields_from_before_are_unknown_and_said_to_be() {
    let mut kernel = Kernel::opened(Role::Server, open_flag::JOINED);
    kernel.capture = policy::ALL;
    kernel
        .rx(&framed(1, END_HEADERS | END_STREAM, 9, &[0x82, 0x86, 0xc0, 0xbf]))
        .tx(&ok(9, END_STREAM));
    let known = [&[0x82, 0x86][..], &block(true, &[(":path", "/new")])].concat();
    kernel.rx(&framed(1, END_HEADERS | END_STREAM, 11, &known));
    kernel.tx(&framed(1, END_HEADERS | END_STREAM, 11, &[0xc5]));
    kernel
        .rx(&framed(1, END_HEADERS | END_STREAM, 13, &[0x82, 0x86, 0xbe]))
        .tx(&ok(13, END_STREAM));
    let exchanges = all(&kernel);
    assert_eq!(told(&exchanges), [("", 200), ("/new", 0), ("/new", 200)]);
    let unknown = exchanges.iter().map(|exchange| {
        (exchange.marks.request_fields_unknown, exchange.marks.response_fields_unknown)
    });
    assert_eq!(unknown.collect::<Vec<_>>(), [(true, false), (false, true), (false, false)]);
}
