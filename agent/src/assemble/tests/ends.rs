//! What the end of a connection means for what is open on it, and for what comes after it: one test each.

use remora_common::record::{CloseCause, Direction, Role};

use super::*;
use crate::exchange::Failure;

#[test]
fn the_end_of_the_connection_settles_what_is_open() {
    let partial = &OK_2[..OK_2.len() - 1];
    for (bytes, cause, errno, expected) in [
        (&b""[..], CloseCause::LocalFin, 0, Failure::Closed),
        (b"", CloseCause::Gone, 0, Failure::Closed),
        (b"", CloseCause::Gone, libc::EPIPE, Failure::Closed),
        (b"", CloseCause::Gone, libc::ECONNRESET, Failure::Reset),
        (partial, CloseCause::Gone, libc::ETIMEDOUT, Failure::TimedOut),
        (&OK_2[..5], CloseCause::LocalFin, 0, Failure::Closed),
        (partial, CloseCause::LocalFin, 0, Failure::Closed),
        (b"", CloseCause::Error, libc::ECONNRESET, Failure::Reset),
        (partial, CloseCause::Error, libc::EPIPE, Failure::Reset),
        (b"HTTP/1.1 200 OK\r\n\r\nabc", CloseCause::Error, libc::ECONNRESET, Failure::Reset),
        (b"", CloseCause::Error, libc::ETIMEDOUT, Failure::TimedOut),
        (b"", CloseCause::Error, libc::EHOSTUNREACH, Failure::Errno(libc::EHOSTUNREACH)),
    ] {
        let mut kernel = server();
        kernel.rx(GET);
        if !bytes.is_empty() {
            kernel.tx(bytes);
        }
        kernel.close(cause, errno);
        let end_ns = kernel.now_ns;
        if cause != CloseCause::Gone {
            kernel.gone();
        }
        let exchange = one(&kernel);
        assert_eq!((exchange.failure, exchange.end_mono_ns), (Some(expected), end_ns));
        let status = if bytes.len() > 10 { 200 } else { 0 };
        assert_eq!(http(&exchange).status, status);
    }
}

#[test]
fn a_failed_write_does_not_hide_the_response() {
    let mut kernel = client();
    kernel.tx(b"PUT /big HTTP/1.1\r\nContent-Length: 100000\r\n\r\n").tx(&[b'x'; 5000]);
    kernel.close(CloseCause::Error, libc::EPIPE).rx(&answer(413, "no"));
    kernel.close(CloseCause::EndOfFile, 0).gone();
    let exchange = one(&kernel);
    assert_eq!((http(&exchange).status, exchange.failure), (413, None));
    assert!(exchange.marks.request_content_incomplete, "5,000 of 100,000 bytes were sent");
}

#[test]
fn what_is_asked_when_no_answer_can_come_is_no_failure() {
    // A server that closes an idle connection reads what still comes and drops it, and a client that was told of the
    // close may write before it heeds it.
    for (mut kernel, ask, tell, cause) in [
        (server(), Direction::Rx, Direction::Tx, CloseCause::LocalFin),
        (client(), Direction::Tx, Direction::Rx, CloseCause::EndOfFile),
    ] {
        kernel.moved(ask, GET).moved(tell, OK_2).close(cause, 0);
        kernel.moved(ask, &get("/late")[..10]).moved(ask, &get("/late")[10..]).gone();
        let (out, _) = assemble(Limits::default(), &kernel.records);
        assert_eq!(told(&out.finished), [("/a", 200)]);
        assert_eq!(out.lost, [(0, Lost::AfterClose)]);
    }
}

#[test]
fn what_a_client_asks_before_it_knows_of_the_end_is_no_failure() {
    // The reset is the answer to what came when the server had closed the connection.
    let mut kernel = client();
    kernel.tx(GET).rx(OK_2).close(CloseCause::PeerFin, 0).tx(&get("/late"));
    kernel.close(CloseCause::Error, libc::ECONNRESET).gone();
    let (out, _) = assemble(Limits::default(), &kernel.records);
    assert_eq!(told(&out.finished), [("/a", 200)]);
    assert_eq!(out.lost.iter().map(|lost| lost.1).collect::<Vec<_>>(), [Lost::AfterClose]);
    // What was asked before may have been read.
    let mut kernel = client();
    kernel.tx(GET).close(CloseCause::PeerFin, 0).close(CloseCause::EndOfFile, 0).gone();
    assert_eq!(one(&kernel).failure, Some(Failure::Closed));
    // And what is answered after all is.
    let mut kernel = client();
    kernel.tx(GET).close(CloseCause::PeerFin, 0).rx(OK_2).close(CloseCause::EndOfFile, 0).gone();
    assert_eq!(clean(&one(&kernel)).status, 200);
}

#[test]
fn an_idle_connection_that_ends_is_no_failure() {
    for mut kernel in [server(), client()] {
        let (ask, tell) = match kernel.records[0] {
            Owned::Open(Role::Server, _) => (Direction::Rx, Direction::Tx),
            _ => (Direction::Tx, Direction::Rx),
        };
        kernel.moved(ask, GET).moved(tell, OK_2);
        let used = kernel.records.len();
        for ends in [
            &[(CloseCause::EndOfFile, 0), (CloseCause::LocalFin, 0)][..],
            &[(CloseCause::LocalFin, 0), (CloseCause::EndOfFile, 0)],
            &[(CloseCause::Error, libc::ECONNRESET)],
            &[(CloseCause::Error, libc::EPIPE)],
            &[(CloseCause::Gone, libc::ECONNRESET)],
            &[(CloseCause::Gone, libc::ETIMEDOUT)],
        ] {
            kernel.records.truncate(used);
            ends.iter().for_each(|&(cause, errno)| _ = kernel.close(cause, errno));
            clean(&one(&kernel));
        }
    }
}

#[test]
fn a_half_closed_client_still_gets_its_response() {
    let mut kernel = server();
    kernel.rx(GET).close(CloseCause::EndOfFile, 0).tx(OK_2).close(CloseCause::LocalFin, 0).gone();
    assert_eq!(clean(&one(&kernel)).status, 200);
}

#[test]
fn a_response_is_its_requests_however_late_it_comes() {
    let limits = Limits::default();
    let mut kernel = server();
    kernel.rx(GET);
    let mut assembler = Assembler::new(limits);
    let mut out = Collector::default();
    kernel.records.iter().for_each(|owned| assembler.record(&owned.record(), &mut out));
    // Twenty hours, and somebody looks every second of the last minute.
    let late_ns = kernel.now_ns + 72_000_000_000_000;
    (0..60).for_each(|second| assembler.tick(late_ns - second * 1_000_000_000, &mut out));
    assembler.tick(late_ns, &mut out);
    assert!(out.finished.is_empty() && out.lost.is_empty());
    kernel.now_ns = late_ns;
    kernel.records.clear();
    kernel.tx(OK_2).rx(&get("/b")).tx(&answer(404, "")).gone();
    kernel.records.iter().for_each(|owned| assembler.record(&owned.record(), &mut out));
    assert_eq!(told(&out.finished), [("/a", 200), ("/b", 404)]);
    assert!(out.finished[0].end_mono_ns - out.finished[0].start_mono_ns > 72_000_000_000_000);
    out.assert_settled(assembler.stats());
}

#[test]
fn a_connection_that_gave_its_place_is_lost_and_no_error() {
    let mut kernel = server();
    kernel.rx(GET).close(CloseCause::Evicted, 0);
    let (out, _) = run(Limits::default(), &kernel.records);
    assert!(out.finished.is_empty());
    assert_eq!(out.lost, [(out.started[0].serial, Lost::ConnectionsFull)]);
}
