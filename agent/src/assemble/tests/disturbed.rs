//! What the end of a connection, lost records and limits cost: one test each.

use remora_common::{
    policy,
    record::{Direction, Role, data_flag, open_flag},
};

use super::*;

#[test]
fn heads_that_wait_for_more_share_a_budget_and_are_cut_beyond_it() {
    let limits = Limits { max_heads_len: 10_000, ..Limits::default() };
    let mut assembler = Assembler::new(limits);
    let mut out = Collector::default();
    let mut kernels: Vec<Kernel> = (0..20).map(Kernel::new).collect();
    let begins = format!("GET /slow HTTP/1.1\r\nHost: h\r\nX: {}", "f".repeat(900));
    for kernel in &mut kernels {
        kernel.rx(begins.as_bytes());
        kernel.records.drain(..).for_each(|owned| assembler.record(&owned.record(), &mut out));
        assert!(assembler.shared.heads_len <= limits.max_heads_len);
    }
    let cut = assembler.stats().heads_cut;
    assert_eq!(cut, 20 - 10_000 / begins.len() as u64);
    // What was cut is told all the same, and so is the rest, whose room others take later.
    for kernel in &mut kernels {
        kernel.rx(b"\r\n\r\n").tx(OK_2).rx(GET).tx(OK_2);
        kernel.records.drain(..).for_each(|owned| assembler.record(&owned.record(), &mut out));
    }
    assert_eq!((out.finished.len(), out.lost.len(), assembler.shared.heads_len), (40, 0, 0));
    let slow = out.finished.iter().filter(|exchange| exchange.marks.request_head_cut);
    assert_eq!(slow.count() as u64, cut);
    out.assert_settled(assembler.stats());
}

#[test]
fn what_moves_where_no_program_sees_it_is_counted_before_a_protocol_is_known() {
    let mut kernel = server();
    kernel.in_kernel(Direction::Rx, 100).in_kernel(Direction::Tx, 100);
    let (out, stats) = assemble(Limits::default(), &kernel.records);
    assert_eq!((out.finished.len(), out.lost.len(), stats.beginnings_not_shown), (0, 0, 2));
    let mut kernel = server();
    kernel.rx(GET).tx(&OK_2[..OK_2.len() - 2]).in_kernel(Direction::Tx, 2);
    let (out, stats) = assemble(Limits::default(), &kernel.records);
    assert_eq!((out.finished.len(), stats.beginnings_not_shown), (1, 0), "content is no beginning");
}

#[test]
fn the_budget_of_heads_is_given_back_by_connections_that_are_gone() {
    let mut assembler = Assembler::new(Limits::default());
    let mut out = Collector::default();
    for conn_id in 0..50 {
        let mut kernel = Kernel::new(conn_id);
        kernel.rx(b"GET /never HTTP/1.1\r\nHost: h\r\n");
        if conn_id % 2 == 0 {
            kernel.gone();
        }
        kernel.records.iter().for_each(|owned| assembler.record(&owned.record(), &mut out));
    }
    assembler.tick(2_000_000_000, &mut out);
    assert_eq!(assembler.shared.heads_len, 25 * 30);
    assembler.tick(1_000_000_000_000, &mut out);
    assert_eq!((assembler.connections(), assembler.stats().connections_idle), (0, 25));
    assembler.tick(1_001_000_000_000, &mut out);
    assert_eq!(assembler.shared.heads_len, 0);
}

#[test]
fn a_response_without_request_is_counted() {
    let mut kernel = server();
    kernel.tx(OK_2).rx(GET).tx(OK_2);
    let (out, _) = assemble(Limits::default(), &kernel.records);
    assert_eq!((out.finished.len(), out.lost), (1, vec![(0, Lost::NoRequest)]));
}

#[test]
fn a_request_recorded_after_its_response_gets_it() {
    // Another thread read the response before the writing call's return was recorded.
    for request in [GET, b"HEAD /a HTTP/1.1\r\n\r\n"] {
        let mut kernel = client();
        kernel.tx(request).rx(&OK_2[..OK_2.len() - 2]);
        if request == GET {
            kernel.rx(b"ok");
        }
        kernel.records.swap(1, 2);
        if let (Owned::Data(response, _), Owned::Data(request, _)) = {
            let (a, b) = kernel.records.split_at_mut(2);
            (&mut a[1], &mut b[0])
        } {
            response.other_pos = 0;
            request.mono_ns = response.mono_ns + 100;
        }
        assert_eq!(clean(&one(&kernel)).status, 200);
    }
}

#[test]
fn a_connection_joined_in_mid_stream_begins_at_the_next_head() {
    let mut kernel = Kernel::opened(Role::Unknown, open_flag::JOINED);
    kernel.tx(b"rest of some content").rx(GET).tx(OK_2).rx(&get("/b")).tx(OK_2);
    let exchanges = all(&kernel);
    assert_eq!(told(&exchanges), [("/a", 200), ("/b", 200)]);
    assert!(exchanges.iter().all(|exchange| exchange.marks.joined));
}

#[test]
fn a_joined_connection_may_send_its_first_head_in_small_pieces() {
    for joined_in in ["", "the end of a response"] {
        let mut kernel = Kernel::opened(Role::Unknown, open_flag::JOINED);
        kernel.tx(joined_in.as_bytes());
        for byte in get("/a") {
            kernel.rx(&[byte]);
        }
        for byte in answer(200, "a") {
            kernel.tx(&[byte]);
        }
        kernel.rx(&get("/b")).tx(&answer(200, "b"));
        assert_eq!(told(&all(&kernel)), [("/a", 200), ("/b", 200)], "{joined_in:?}");
    }
}

#[test]
fn a_connection_that_was_never_announced_is_told() {
    let mut kernel = Kernel::new(9);
    kernel.rx(GET).tx(OK_2);
    let exchange = one(&kernel);
    assert!(exchange.marks.joined);
    assert_eq!(exchange.connection.local, Endpoint::Unknown);
}

#[test]
fn other_protocols_are_counted_only() {
    for (first, second, mode) in [
        (&b"get a\r\n"[..], &b"END\r\n"[..], policy::COUNT),
        (b"PRI * HTTP/3.0\r\n\r\nSM\r\n\r\n", b"\0\0\0\x44\0\0\0\0\0", policy::COUNT),
        (b"\x16\x03\x01\x02\0", b"\x16\x03\x03\0", policy::CIPHERTEXT),
        (b"helo", b"220 mail\r\n", policy::COUNT),
    ] {
        let mut kernel = server();
        for _ in 0..9 {
            kernel.rx(first).tx(second);
        }
        let (out, stats) = assemble(Limits::default(), &kernel.records);
        assert_eq!((out.finished.len(), out.lost.len()), (0, 0));
        assert_eq!(out.captures, [(7, mode)], "{}", first.escape_ascii());
        assert_eq!(stats.connections_other_protocol, 1);
    }
}

#[test]
fn plaintext_takes_the_place_of_ciphertext() {
    let mut kernel = client();
    kernel.tx(b"\x16\x03\x01\x02\0\x01").rx(b"\x16\x03\x03\0\x10\x02");
    let mut plain = Kernel::new(7);
    plain.source = Source::CLibrary;
    plain.now_ns = kernel.now_ns;
    plain.tx(GET).rx(OK_2);
    kernel.records.append(&mut plain.records);
    let exchange = one(&kernel);
    assert!(exchange.connection.is_tls());
    assert!(matches!(exchange.connection.remote, Endpoint::Inet { port: 40_000, .. }));
}

#[test]
fn a_hole_up_to_the_end_of_content_costs_a_mark_and_a_hole_beyond_it_the_exchange() {
    let head = b"HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\n";
    let mut kernel = server();
    kernel.rx(GET).tx(head).tx(&[b'x'; 3000]).tx(&[b'x'; 3000]).tx(&[b'x'; 3000]);
    kernel.rx(&get("/b")).tx(OK_2);
    let mut dropped = kernel.records.clone();
    dropped.remove(4);
    let (out, stats) = assemble(Limits::default(), &dropped);
    assert_eq!((told(&out.finished), stats.gap_bytes), (vec![("/a", 200), ("/b", 200)], 3000));
    assert!(out.finished[0].marks.gap && !out.finished[1].marks.gap);
    assert_eq!(http(&out.finished[0]).response_content_len, 9000);
    dropped = kernel.records.clone();
    dropped.remove(5);
    let (out, _) = assemble(Limits::default(), &dropped);
    assert_eq!(told(&out.finished), [("/a", 200), ("/b", 200)]);
    assert!(out.finished[0].marks.gap && !out.finished[1].marks.gap);
    assert_eq!(http(&out.finished[0]).response_content_len, 9000);
    kernel.rx(&get("/c")).tx(OK_2);
    dropped = kernel.records.clone();
    dropped.drain(5..8);
    let (out, _) = assemble(Limits::default(), &dropped);
    assert_eq!(out.finished, []);
    assert!(out.lost.contains(&(1, Lost::Gap)));
}

#[test]
fn a_lost_record_costs_only_its_exchange() {
    let mut kernel = server();
    for n in 0..4 {
        kernel.rx(&get(&format!("/{n}"))).tx(&answer(200 + n, "x"));
    }
    for at in 1..kernel.records.len() - 1 {
        let mut records = kernel.records.clone();
        records.remove(at);
        let (out, _) = assemble(Limits::default(), &records);
        assert_eq!((out.finished.len(), out.lost.len()), (3, 1), "{at}: {out:?}");
        for (target, status) in told(&out.finished) {
            assert_eq!(target, format!("/{}", status - 200));
        }
    }
}

#[test]
fn a_pipelined_connection_that_lost_records_is_trusted_after_a_silence() {
    let mut kernel = server();
    for n in 0..3 {
        kernel.rx(&get(&format!("/{n}")));
    }
    for n in 0..3 {
        kernel.tx(&answer(200 + n, "x"));
    }
    kernel.rx(&get("/3")).tx(&answer(203, "x"));
    kernel.now_ns += Limits::default().resync_idle_ns;
    kernel.rx(&get("/4")).tx(&answer(204, ""));
    kernel.records.remove(4);
    let (out, _) = assemble(Limits::default(), &kernel.records);
    assert_eq!(told(&out.finished), [("/4", 204)]);
    assert_eq!(out.lost.len(), 4);
}

#[test]
fn messages_behind_the_capture_of_a_burst_are_counted_as_lost() {
    let mut kernel = server();
    let requests: Vec<u8> = (0..40).flat_map(|n| get(&format!("/{n}"))).collect();
    kernel.rx(&requests);
    for n in 0..40 {
        kernel.tx(&answer(400 + n, "x"));
    }
    let (out, _) = assemble(Limits::default(), &kernel.records);
    assert_eq!(out.finished.len() + out.lost.len(), 40);
    assert!(out.finished.len() > 25);
    assert!(out.lost.iter().all(|lost| lost.1 == Lost::PipelineCut));
    assert_eq!(out.captures, [(7, policy::ALL)]);
}

#[test]
fn limits_are_kept_and_counted() {
    let mut kernel = server();
    for n in 0..5 {
        kernel.rx(&get(&format!("/{n}")));
    }
    for n in 0..5 {
        kernel.tx(&answer(200 + n, "x"));
    }
    let limits = Limits { max_open_per_connection: 3, ..Limits::default() };
    let (out, _) = assemble(limits, &kernel.records);
    assert_eq!(told(&out.finished), [("/0", 200), ("/1", 201), ("/2", 202)]);
    assert_eq!(out.lost, [(0, Lost::TooManyOpen), (0, Lost::TooManyOpen)]);
    let limits = Limits { max_connections: 0, ..Limits::default() };
    let (out, stats) = assemble(limits, &kernel.records);
    assert_eq!(out.lost, [(0, Lost::ConnectionsFull); 5]);
    assert_eq!(stats.records_refused, 11);
}

#[test]
fn malformed_messages_are_counted_as_lost() {
    let mut kernel = server();
    kernel.rx(GET).tx(OK_2).rx(b"\0\0\0").tx(&answer(400, "")).gone();
    assert_eq!(lost(&kernel), [Lost::Malformed]);
    let mut kernel = server();
    kernel.rx(GET).tx(OK_2).rx(GET).tx(b"ICY 200 OK\r\n\r\n").rx(GET).tx(OK_2).gone();
    let (out, _) = assemble(Limits::default(), &kernel.records);
    assert_eq!((out.finished.len(), out.lost.len()), (2, 1));
}

#[test]
fn bytes_after_a_response_without_content_shift_no_pairs() {
    let mut kernel = server();
    kernel.rx(&[&b"HEAD /1 HTTP/1.1\r\n\r\n"[..], &get("/2"), &get("/3")].concat());
    kernel.tx(&answer(201, "wrong")).tx(&answer(202, "")).tx(&answer(203, ""));
    let (out, _) = assemble(Limits::default(), &kernel.records);
    assert_eq!(told(&out.finished), [("/1", 201)]);
    assert_eq!(out.lost.len(), 2);
    let mut kernel = server();
    kernel.rx(b"HEAD /1 HTTP/1.1\r\n\r\n").tx(&answer(201, "wrong")).rx(&get("/2"));
    kernel.tx(&answer(202, "x"));
    assert_eq!(told(&all(&kernel)), [("/1", 201), ("/2", 202)]);
}

#[test]
fn an_exchange_that_is_forgotten_for_its_silence_is_lost_and_no_error() {
    let limits = Limits::default();
    let mut kernel = server();
    kernel.rx(GET);
    let mut assembler = Assembler::new(limits);
    let mut out = Collector::default();
    kernel.records.iter().for_each(|owned| assembler.record(&owned.record(), &mut out));
    assembler.tick(kernel.now_ns + limits.exchange_idle_ns, &mut out);
    assert_eq!((assembler.connections(), out.finished.len()), (0, 0));
    assert_eq!(out.lost, [(1, Lost::Idle)]);
}

#[test]
fn silence_within_a_stream_of_chunks_ends_nothing() {
    let mut kernel = server();
    let chunk = |text: &str| format!("{:x}\r\n{text}\r\n", text.len()).into_bytes();
    kernel.rx(GET).tx(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
    let mut assembler = Assembler::new(Limits::default());
    let mut out = Collector::default();
    for (at, text) in ["data: one\n\n", "data: two\n\n", "data: three\n\n"].iter().enumerate() {
        kernel.now_ns += at as u64 * 62_000_000_000;
        kernel.tx(&chunk(text));
        kernel.records.iter().for_each(|owned| assembler.record(&owned.record(), &mut out));
        kernel.records.clear();
        assembler.tick(kernel.now_ns + 61_000_000_000, &mut out);
        assert!(out.finished.is_empty());
    }
    kernel.tx(b"0\r\n\r\n").gone();
    kernel.records.iter().for_each(|owned| assembler.record(&owned.record(), &mut out));
    let [exchange] = &*out.finished else { panic!("{:?}", out.finished) };
    assert!(exchange.end_mono_ns - exchange.start_mono_ns > 180_000_000_000);
    assert_eq!((http(exchange).status, exchange.failure), (200, None));
}

#[test]
fn an_idle_connection_is_forgotten() {
    let limits = Limits::default();
    let mut kernel = server();
    kernel.rx(GET).tx(OK_2);
    let mut assembler = Assembler::new(limits);
    let mut out = Collector::default();
    kernel.records.iter().for_each(|owned| assembler.record(&owned.record(), &mut out));
    assert_eq!(assembler.connections(), 1);
    assembler.tick(kernel.now_ns + limits.idle_ns, &mut out);
    assert_eq!((assembler.connections(), assembler.stats().connections_evicted), (0, 1));
}

/// What the kernel leaves out a run for is told of only by the next record of the same direction: until then
/// the records of the other one do not know of it.
fn leave_out(kernel: &mut Kernel, at: usize) {
    let Owned::Data(gone, _) = kernel.records.remove(at) else { panic!("not data") };
    let mut turned = false;
    for owned in &mut kernel.records[at..] {
        let Owned::Data(header, _) = owned else { continue };
        if header.direction == gone.direction {
            header.flags |= if turned { data_flag::MISSING_BEFORE_TURN } else { 0 };
            break;
        }
        turned = true;
        header.other_pos -= u64::from(gone.total_len);
    }
}

#[test]
fn a_run_that_the_kernel_leaves_out_costs_one_exchange() {
    const EXCHANGES: usize = 6;
    let post = b"POST /long HTTP/1.1\r\nContent-Length: 4\r\n\r\n";
    let ok = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n";
    let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let short = answer(200, "ok");
    // What the calls of a request move, and of its response.
    for (request, response) in [
        (&[GET][..], &[&short[..]][..]),
        (&[&GET[..9], &GET[9..]], &[&short]),
        (&[post, b"body"], &[ok, b"body"]),
        (&[post, b"bo", b"dy"], &[chunked, b"4\r\n", b"body\r\n", b"0\r\n\r\n"]),
    ] {
        for role in [Role::Server, Role::Client] {
            let both = request.len() + response.len();
            // The first record announces the connection, and nothing tells of what is missing at the end.
            for at in 1..=both * (EXCHANGES - 1) {
                let mut kernel = Kernel::opened(role, 0);
                let (requests, responses) = match role {
                    Role::Server => (Direction::Rx, Direction::Tx),
                    _ => (Direction::Tx, Direction::Rx),
                };
                for _ in 0..EXCHANGES {
                    for bytes in request {
                        kernel.moved(requests, bytes);
                    }
                    for bytes in response {
                        kernel.moved(responses, bytes);
                    }
                }
                leave_out(&mut kernel, at);
                let (out, _) = assemble(Limits::default(), &kernel.records);
                let lost = out.lost.len();
                println!(
                    "{role:?} {at} of {both}: {} whole, lost {:?}",
                    out.finished.len(),
                    out.lost
                );
                assert!(lost <= 1 && out.finished.len() + lost == EXCHANGES, "{out:#?}");
            }
        }
    }
}
