//! How much content a message had and where it ended, one test per shape.

use remora_common::{
    policy,
    record::{CloseCause, Direction, Role},
};

use super::*;

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
    assert_eq!(clean(&exchanges[0]).response_content_len, 200_000);
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
fn a_coding_that_changes_nothing_leaves_the_length() {
    let identity = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\nContent-Length: 2\r\n\r\nok";
    let post = b"POST /b HTTP/1.1\r\nTransfer-Encoding: identity\r\nContent-Length: 2\r\n\r\nok";
    for mut kernel in [server(), client()] {
        let (ask, tell) = match kernel.records[0] {
            Owned::Open(Role::Server, _) => (Direction::Rx, Direction::Tx),
            _ => (Direction::Tx, Direction::Rx),
        };
        kernel.moved(ask, GET).moved(tell, identity).moved(ask, post).moved(tell, OK_2).gone();
        let exchanges = all(&kernel);
        assert_eq!(told(&exchanges), [("/a", 200), ("/b", 200)]);
        let sizes = |exchange| {
            let http = clean(exchange);
            (http.request_content_len, http.response_content_len)
        };
        assert_eq!((sizes(&exchanges[0]), sizes(&exchanges[1])), ((0, 2), (2, 2)));
    }
}

#[test]
fn a_coding_that_is_not_known_does_not_hide_the_next_exchange() {
    // The length counts for some recipients and the end of the connection for others.
    let gzip = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\nContent-Length: 2\r\n\r\nok";
    let mut kernel = client();
    kernel.tx(GET).rx(gzip).tx(&get("/b")).rx(OK_2).gone();
    let exchanges = all(&kernel);
    assert_eq!(told(&exchanges), [("/a", 200), ("/b", 200)]);
    assert!(exchanges[0].marks.response_size_estimated && exchanges[0].marks.end_inferred);
    clean(&exchanges[1]);
}

#[test]
fn bytes_that_are_no_chunks_are_counted_once() {
    for (pieces, expected) in [
        (vec![&b"xyz"[..]], 3),
        (vec![b"3\r\nabcX\r\n"], 9),
        (vec![b"3\r\nabc\r\n", b"zzzz"], 7),
        (vec![b"5\r\nab", b"cdeX"], 6),
    ] {
        let mut kernel = client();
        kernel.capture = policy::ALL;
        kernel.tx(GET).rx(CHUNKED);
        pieces.iter().for_each(|piece| _ = kernel.rx(piece));
        kernel.close(CloseCause::EndOfFile, 0).gone();
        let exchange = one(&kernel);
        assert_eq!(http(&exchange).response_content_len, expected, "{pieces:?}");
        assert!(exchange.marks.response_size_estimated);
    }
}

/// A request of 38 bytes that is answered before its content was read.
fn answered_early(framing: &str) -> Kernel {
    let mut kernel = server();
    kernel.rx(format!("POST /early HTTP/1.1\r\n{framing}\r\n\r\n").as_bytes()).tx(OK_2);
    kernel
}

#[test]
fn a_request_that_is_answered_before_its_content_was_read_has_all_of_it() {
    let content = "c".repeat(38);
    let chunks = format!("26\r\n{content}\r\n0\r\n\r\n");
    for (framing, content) in
        [("Content-Length: 38", &content), ("Transfer-Encoding: chunked", &chunks)]
    {
        for size in [1, 10, content.len()] {
            let mut kernel = answered_early(framing);
            kernel.capture = policy::ALL;
            let end_ns = kernel.now_ns;
            content.as_bytes().chunks(size).for_each(|piece| _ = kernel.rx(piece));
            kernel.rx(GET).tx(OK_2).gone();
            let exchanges = all(&kernel);
            assert_eq!(told(&exchanges), [("/early", 200), ("/a", 200)]);
            assert_eq!(clean(&exchanges[0]).request_content_len, 38);
            assert_eq!(exchanges[0].end_mono_ns, end_ns, "when its response was over");
        }
    }
}

#[test]
fn content_that_was_not_all_read_is_marked() {
    let ends: [fn(&mut Kernel); 4] = [
        |kernel| _ = kernel.gone(),
        |kernel| _ = kernel.close(CloseCause::LocalFin, 0).gone(),
        |kernel| _ = kernel.close(CloseCause::EndOfFile, 0).gone(),
        |kernel| _ = kernel.close(CloseCause::Error, libc::ECONNRESET).gone(),
    ];
    for end in ends {
        for arrived in [0, 20] {
            let mut kernel = answered_early("Content-Length: 38");
            if arrived > 0 {
                kernel.rx(&[b'c'; 20]);
            }
            end(&mut kernel);
            let exchange = one(&kernel);
            assert_eq!(http(&exchange).request_content_len, arrived);
            assert_eq!((http(&exchange).status, exchange.failure), (200, None));
            assert!(exchange.marks.request_content_incomplete);
        }
    }
    // And of a request that was never answered.
    let mut kernel = server();
    kernel.rx(b"POST / HTTP/1.1\r\nContent-Length: 38\r\n\r\nabc").gone();
    let exchange = one(&kernel);
    assert_eq!(http(&exchange).request_content_len, 3);
    assert!(exchange.marks.request_content_incomplete && exchange.failure.is_some());
}

#[test]
fn content_that_nobody_reads_is_not_waited_for_very_long() {
    let limits = Limits::default();
    let kernel = answered_early("Content-Length: 38");
    let mut assembler = Assembler::new(limits);
    let mut out = Collector::default();
    kernel.records.iter().for_each(|owned| assembler.record(&owned.record(), &mut out));
    assert_eq!(out.answered, [out.started[0].serial], "its thread is free for others");
    assembler.tick(kernel.now_ns + limits.content_grace_ns - 1, &mut out);
    assert_eq!(out.finished.len(), 0);
    assembler.tick(kernel.now_ns + 2 * limits.content_grace_ns, &mut out);
    assert_eq!(out.finished.len(), 1);
    assert!(out.finished[0].marks.request_content_incomplete);
    assert_eq!(out.finished[0].end_mono_ns, kernel.now_ns);
}

#[test]
fn a_hole_that_is_the_rest_of_the_content_completes_it() {
    let mut kernel = answered_early("Content-Length: 38");
    kernel.rx(&[b'c'; 38]).rx(GET).tx(OK_2).gone();
    kernel.records.remove(3);
    let exchanges = all(&kernel);
    assert_eq!(told(&exchanges), [("/early", 200), ("/a", 200)]);
    let marks = exchanges[0].marks;
    assert!(marks.gap && !marks.request_content_incomplete);
    assert_eq!(http(&exchanges[0]).request_content_len, 38);
}

#[test]
fn a_request_recorded_after_its_response_waits_for_its_content() {
    let mut kernel = client();
    kernel.tx(b"POST /late HTTP/1.1\r\nContent-Length: 38\r\n\r\n").rx(OK_2);
    kernel.tx(&[b'c'; 38]).gone();
    kernel.records.swap(1, 2);
    if let [_, Owned::Data(response, _), Owned::Data(request, _), ..] = &mut kernel.records[..] {
        response.other_pos = 0;
        request.mono_ns = response.mono_ns + 100;
    }
    let exchange = one(&kernel);
    assert_eq!((clean(&exchange).status, http(&exchange).request_content_len), (200, 38));
}

#[test]
fn a_request_may_be_answered_before_it_was_sent() {
    let mut kernel = server();
    kernel.rx(b"PUT /big HTTP/1.1\r\nContent-Length: 100000\r\n\r\n").rx(&[b'x'; 5000]);
    kernel.tx(&answer(413, "no"));
    kernel.rx(&[b'x'; 95_000]).rx(GET).tx(OK_2);
    let exchanges = all(&kernel);
    assert_eq!(told(&exchanges), [("/big", 413), ("/a", 200)]);
    assert_eq!(clean(&exchanges[0]).request_content_len, 100_000, "all of it arrived");
}
