//! One test per shape on the wire.

use remora_common::{
    policy,
    record::{CloseCause, Direction, Role},
};

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
fn long_content_is_followed_by_its_length() {
    let head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n";
    let mut kernel = server();
    kernel.rx(GET).tx(head);
    for _ in 0..10 {
        kernel.in_kernel(Direction::Tx, 50_000);
    }
    for _ in 0..5 {
        kernel.tx(&[b'x'; 100_000]);
    }
    let end_ns = kernel.now_ns;
    kernel.rx(GET).tx(OK_2);
    let exchanges = all(&kernel);
    assert_eq!(told(&exchanges), [("/a", 200), ("/a", 200)]);
    assert_eq!(clean(&exchanges[0]).response_content_len, 1_000_000);
    assert_eq!(exchanges[0].end_mono_ns, end_ns);
}

fn chunk(len: usize) -> Vec<u8> {
    [format!("{len:x}\r\n").into_bytes(), vec![b'c'; len], b"\r\n".to_vec()].concat()
}

const CHUNKED: &[u8] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";

#[test]
fn captured_chunks_are_decoded() {
    let mut kernel = server();
    kernel.rx(GET).tx(&[CHUNKED, &chunk(5)[..], b"0\r\nT: x\r\n\r\n"].concat());
    assert_eq!(clean(&one(&kernel)).response_content_len, 5);
}

#[test]
fn chunks_longer_than_the_capture_are_followed_by_their_size() {
    let mut kernel = server();
    kernel.rx(GET).tx(&[CHUNKED, &chunk(200_000)[..], b"0\r\n\r\n"].concat());
    let end_ns = kernel.now_ns;
    kernel.rx(GET).tx(OK_2);
    let exchanges = all(&kernel);
    assert_eq!(exchanges.len(), 2);
    assert_eq!(exchanges[0].end_mono_ns, end_ns);
}

#[test]
fn uncaptured_chunks_end_with_the_last_fragment() {
    for (last, inferred) in [(&b"0\r\n\r\n"[..], false), (b"0\r\nTrailer: x\r\n\r\n", true)] {
        let mut kernel = server();
        kernel.rx(GET).tx(CHUNKED);
        for _ in 0..20 {
            kernel.tx(&chunk(3000));
        }
        kernel.tx(last);
        let end_ns = kernel.now_ns;
        kernel.now_ns += 1_000_000;
        kernel.rx(GET).tx(OK_2).gone();
        let exchanges = all(&kernel);
        assert_eq!(told(&exchanges), [("/a", 200), ("/a", 200)]);
        assert_eq!((exchanges[0].end_mono_ns, exchanges[0].failure), (end_ns, None));
        assert_eq!(exchanges[0].marks.end_inferred, inferred);
        assert!(exchanges[0].serial < exchanges[1].serial, "ended before the next was announced");
    }
}

#[test]
fn an_end_that_was_none_is_taken_back() {
    let mut kernel = server();
    kernel.rx(GET).tx(CHUNKED);
    kernel.tx(&chunk(3000)).tx(&[b'x'; 2000]).tx(b"\r\n0\r\n\r\n").tx(&chunk(3000));
    kernel.tx(&[&chunk(3000)[..], b"0\r\n\r\n"].concat());
    let end_ns = kernel.now_ns;
    let exchange = one(&kernel);
    assert_eq!((exchange.end_mono_ns, exchange.marks.end_inferred), (end_ns, false));
}

#[test]
fn a_seeming_end_is_confirmed_by_time() {
    let mut kernel = server();
    kernel.rx(GET).tx(CHUNKED).tx(&chunk(3000)).tx(&[&chunk(3000)[..], b"0\r\n\r\n"].concat());
    let limits = Limits::default();
    let mut assembler = Assembler::new(limits);
    let mut out = Collector::default();
    kernel.records.iter().for_each(|owned| assembler.record(&owned.record(), &mut out));
    assembler.tick(kernel.now_ns + limits.end_grace_ns - 1, &mut out);
    assert_eq!(out.finished.len(), 0);
    assembler.tick(kernel.now_ns + limits.end_grace_ns, &mut out);
    assert_eq!(out.finished[0].end_mono_ns, kernel.now_ns);
}

#[test]
fn content_of_unknown_length_ends_with_the_connection() {
    for version in ["1.0", "1.1"] {
        let mut kernel = client();
        kernel.tx(GET).rx(format!("HTTP/{version} 200 OK\r\n\r\nabc").as_bytes()).rx(&[b'x'; 5000]);
        let end_ns = kernel.now_ns;
        kernel.close(CloseCause::EndOfFile, 0).gone();
        let exchange = one(&kernel);
        assert_eq!(clean(&exchange).response_content_len, 5003);
        assert_eq!(exchange.end_mono_ns, end_ns);
    }
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
fn a_request_may_be_answered_before_it_was_sent() {
    let mut kernel = server();
    kernel.rx(b"PUT /big HTTP/1.1\r\nContent-Length: 100000\r\n\r\n").rx(&[b'x'; 5000]);
    kernel.tx(&answer(413, "no"));
    kernel.rx(&[b'x'; 95_000]).rx(GET).tx(OK_2);
    let exchanges = all(&kernel);
    assert_eq!(told(&exchanges), [("/big", 413), ("/a", 200)]);
    assert_eq!(clean(&exchanges[0]).request_content_len, 5000);
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
fn uncaptured_chunks_that_look_like_messages_are_content() {
    let mut kernel = server();
    kernel.rx(b"POST /true HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n");
    for _ in 0..5 {
        kernel.rx(&chunk(3000)).rx(&get("/false"));
    }
    kernel.rx(b"0\r\n\r\n").tx(CHUNKED);
    for _ in 0..5 {
        kernel.tx(&chunk(3000)).tx(OK_2);
    }
    kernel.tx(b"\r\n0\r\n\r\n").rx(GET).tx(OK_2);
    assert_eq!(told(&all(&kernel)), [("/true", 200), ("/a", 200)]);
}

#[test]
fn unknown_methods_are_requests() {
    let mut kernel = server();
    kernel.rx(b"BREW-2 /pot HTTP/1.1\r\n\r\n").tx(OK_2);
    assert_eq!(&*clean(&one(&kernel)).method, "BREW-2");
}
