//! One test per shape on the wire.

use remora_common::{policy, record::Role};

use super::*;

#[test]
fn tells_a_request_and_its_response() {
    let mut kernel = server();
    kernel.rx(GET).tx(OK_2).gone();
    let exchange = one(&kernel);
    let http = clean(&exchange);
    assert_eq!(exchange.role, exchange::Role::Server);
    assert_eq!((&*http.method, &*http.target, http.status), ("GET", "/a", 200));
    assert_eq!((http.request_content_len, http.response_content_len), (0, 2));
    assert_eq!(http.request_head_len as usize, GET.len());
    assert_eq!(http.response_head_len as usize, OK_2.len() - 2);
    assert_eq!((exchange.start_mono_ns, exchange.end_mono_ns), (1_001_000, 1_002_000));
    assert_eq!(exchange.first_byte_mono_ns, 1_001_600);
}

#[test]
fn the_direction_of_the_request_makes_the_role() {
    let mut kernel = Kernel::opened(Role::Unknown, 0);
    kernel.tx(GET).rx(OK_2);
    let exchange = one(&kernel);
    assert_eq!(exchange.role, exchange::Role::Client);
    assert_eq!(exchange.start_mono_ns, 1_000_600, "when the call began");
}

#[test]
fn announces_the_request_before_its_response() {
    let mut kernel = server();
    kernel.rx(GET);
    let (out, _) = assemble(Limits::default(), &kernel.records);
    assert_eq!((out.started.len(), out.started[0].tgid, out.started[0].tid), (1, 100, 101));
    assert_eq!(out.lost, [(out.started[0].serial, Lost::Stopped)]);
}

#[test]
fn keep_alive_and_empty_lines_between_messages() {
    let mut kernel = client();
    for n in 0..4 {
        kernel.tx(&[b"\r\n", &get(&format!("/{n}"))[..]].concat()).rx(&answer(200 + n, "x"));
    }
    let exchanges = all(&kernel);
    assert_eq!(told(&exchanges), [("/0", 200), ("/1", 201), ("/2", 202), ("/3", 203)]);
}

#[test]
fn heads_split_at_every_byte() {
    let request = b"\r\nPOST /x HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc";
    for size in [1, 2, 3, 7] {
        let mut kernel = server();
        for _ in 0..2 {
            request.chunks(size).for_each(|piece| {
                kernel.rx(piece);
            });
            OK_2.chunks(size).for_each(|piece| {
                kernel.tx(piece);
            });
        }
        let exchanges = all(&kernel);
        assert_eq!(told(&exchanges), [("/x", 200), ("/x", 200)]);
        assert!(exchanges.iter().all(|e| clean(e).request_content_len == 3));
    }
}

#[test]
fn pairs_pipelined_responses_in_order_and_asks_for_all_bytes() {
    let mut kernel = server();
    kernel.rx(&[get("/1"), get("/2"), get("/3")].concat());
    kernel.tx(&[answer(201, "a"), answer(202, "")].concat()).tx(&answer(404, "b"));
    let (out, _) = assemble(Limits::default(), &kernel.records);
    assert_eq!(told(&out.finished), [("/1", 201), ("/2", 202), ("/3", 404)]);
    assert_eq!(out.captures, [(7, policy::ALL)]);
}

#[test]
fn interim_responses_are_not_final() {
    let mut kernel = server();
    kernel.rx(b"POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n");
    kernel.tx(b"HTTP/1.1 100 Continue\r\n\r\n").rx(b"abc");
    kernel.tx(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n").tx(OK_2);
    let exchange = one(&kernel);
    assert_eq!((clean(&exchange).status, clean(&exchange).request_content_len), (200, 3));
}

#[test]
fn responses_without_content_do_not_swallow_the_next() {
    for (method, status) in [("HEAD", 200), ("GET", 204), ("GET", 304)] {
        let mut kernel = server();
        let first = format!("{method} /1 HTTP/1.1\r\n\r\n");
        kernel.rx(first.as_bytes());
        kernel.tx(format!("HTTP/1.1 {status} X\r\nContent-Length: 100\r\n\r\n").as_bytes());
        kernel.rx(&get("/2")).tx(OK_2);
        assert_eq!(told(&all(&kernel)), [("/1", status), ("/2", 200)]);
    }
}

#[test]
fn an_upgraded_connection_is_counted_only() {
    for (request, response) in [
        (
            &b"GET /ws HTTP/1.1\r\nUpgrade: websocket\r\n\r\n"[..],
            &b"HTTP/1.1 101 S\r\n\r\n\x81\x01x"[..],
        ),
        (b"CONNECT h:1 HTTP/1.1\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n"),
    ] {
        let mut kernel = server();
        kernel.rx(request).tx(response).rx(GET).tx(OK_2).gone();
        let (out, stats) = assemble(Limits::default(), &kernel.records);
        assert_eq!((out.finished.len(), out.lost.len()), (1, 0));
        assert!(clean(&out.finished[0]).upgraded);
        assert_eq!(out.captures, [(7, policy::COUNT)]);
        assert_eq!((stats.records_other_protocol, stats.connections_other_protocol), (2, 0));
    }
}

#[test]
fn a_refused_connect_is_an_ordinary_response() {
    let mut kernel = server();
    kernel.rx(b"CONNECT h:1 HTTP/1.1\r\n\r\n").tx(&answer(407, "no")).rx(GET).tx(OK_2);
    assert_eq!(told(&all(&kernel)), [("h:1", 407), ("/a", 200)]);
}

#[test]
fn heads_up_to_64_kib_are_read_to_their_end() {
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    for len in [900, 1100, 5000, 20_000, 60_000] {
        let fill = "f".repeat(len);
        let head = format!("GET /long HTTP/1.1\r\nX: {fill}\r\ntraceparent: {parent}\r\n\r\n");
        for size in [head.len(), 4096, 700] {
            let mut kernel = server();
            head.as_bytes().chunks(size).for_each(|piece| {
                kernel.rx(piece);
            });
            kernel.tx(OK_2);
            let exchange = one(&kernel);
            clean(&exchange);
            assert!(exchange.trace.parent.is_some(), "{len} {size}");
        }
    }
}

#[test]
fn a_longer_head_is_told_as_cut() {
    let head = format!("GET /cut HTTP/1.1\r\nHost: h\r\nX: {}\r\n\r\n", "f".repeat(70_000));
    let mut kernel = server();
    kernel.rx(head.as_bytes()).tx(OK_2).rx(GET).tx(OK_2);
    let exchanges = all(&kernel);
    assert_eq!(told(&exchanges), [("/cut", 200), ("/a", 200)]);
    assert!(exchanges[0].marks.request_head_cut);
    assert_eq!(http(&exchanges[0]).host.as_deref(), Some("h"));
    let mut kernel = server();
    let head = format!("HTTP/1.1 418 T\r\nX: {}\r\n\r\n", "f".repeat(70_000));
    kernel.rx(GET).tx(head.as_bytes()).rx(GET).tx(OK_2);
    let exchanges = all(&kernel);
    assert_eq!(told(&exchanges), [("/a", 418), ("/a", 200)]);
    assert!(exchanges[0].marks.response_head_cut && exchanges[0].marks.end_inferred);
}

#[test]
fn content_that_looks_like_a_message_is_content() {
    let body = [&get("/false")[..], &get("/false")].concat();
    let post = format!("POST /true HTTP/1.1\r\nContent-Length: {}\r\n\r\n", body.len() * 40);
    let mut kernel = server();
    kernel.rx(post.as_bytes());
    for _ in 0..40 {
        kernel.rx(&body);
    }
    let response = "HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n".repeat(100);
    kernel.tx(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", response.len()).as_bytes());
    kernel.tx(response.as_bytes()).rx(GET).tx(OK_2);
    assert_eq!(told(&all(&kernel)), [("/true", 200), ("/a", 200)]);
}

#[test]
fn unknown_methods_are_requests() {
    let mut kernel = server();
    kernel.rx(b"BREW-2 /pot HTTP/1.1\r\n\r\n").tx(OK_2);
    assert_eq!(&*clean(&one(&kernel)).method, "BREW-2");
}
