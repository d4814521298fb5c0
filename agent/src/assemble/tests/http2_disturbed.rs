//! HTTP/2 with records lost, out of order, or with less in them than there was.

use proptest::{collection::vec, prelude::*, sample::Index};
use remora_common::{
    frames::HTTP2_ROW,
    policy,
    record::{
        Direction, Role,
        data_flag::{self, FRAME},
    },
};

use super::{
    http2::{END_STREAM, data, framed, get, headers, of_server, ok},
    *,
};

/// Without the records at these places of those of the conversation itself.
fn without(kernel: &Kernel, places: &[usize]) -> Vec<Owned> {
    let mut records = kernel.records.clone();
    for &place in places {
        records.remove(place);
    }
    records
}

/// The first three records announce the connection and greet.
const GREETING: usize = 3;

#[test]
fn a_lost_request_is_counted_by_the_number_of_the_next() {
    let mut kernel = of_server();
    kernel.rx(&get(1, "/1")).tx(&ok(1, END_STREAM));
    kernel.rx(&get(3, "/3")).tx(&ok(3, END_STREAM));
    kernel
        .rx(&[get(5, "/5"), get(7, "/7")].concat())
        .tx(&[ok(5, END_STREAM), ok(7, END_STREAM)].concat());
    kernel.rx(&get(9, "/9")).tx(&ok(9, END_STREAM)).gone();
    let records = without(&kernel, &[GREETING + 4]);
    let (out, _) = assemble(Limits::default(), &records);
    assert_eq!(told(&out.finished), [("/1", 200), ("/3", 200), ("/9", 200)]);
    assert_eq!(out.lost, [(0, Lost::NoRequest), (0, Lost::NoRequest)], "they were answered");
    let records = without(&kernel, &[GREETING + 4, GREETING + 4]);
    let (out, _) = assemble(Limits::default(), &records);
    assert_eq!(told(&out.finished), [("/1", 200), ("/3", 200), ("/9", 200)]);
    assert_eq!(out.lost, [(0, Lost::Gap), (0, Lost::Gap)]);
}

#[test]
fn lost_records_of_the_server_cost_what_was_open() {
    let mut kernel = of_server();
    kernel.rx(&[get(1, "/1"), get(3, "/3")].concat()).tx(&ok(1, END_STREAM)).tx(&ok(3, 0));
    kernel.tx(&data(3, END_STREAM, 3));
    kernel.rx(&get(5, "/5")).tx(&ok(5, END_STREAM)).gone();
    let (out, _) = assemble(Limits::default(), &without(&kernel, &[GREETING + 2]));
    assert_eq!(told(&out.finished), [("/1", 200), ("/5", 200)]);
    assert_eq!(out.lost.iter().map(|lost| lost.1).collect::<Vec<_>>(), [Lost::Gap]);
}

#[test]
fn a_loss_within_content_costs_a_mark() {
    let mut kernel = of_server();
    kernel.rx(&get(1, "/1"));
    let long = [ok(1, 0), data(1, END_STREAM, 3000)].concat();
    long.chunks(1000).for_each(|piece| {
        kernel.tx(piece);
    });
    let (out, _) = assemble(Limits::default(), &without(&kernel, &[GREETING + 2]));
    assert_eq!((told(&out.finished), out.lost.len()), (vec![("/1", 200)], 0));
    assert!(out.finished[0].marks.gap);
    assert_eq!(http(&out.finished[0]).response_content_len, 3000);
}

/// A client's reset may be among what was lost: what the connection takes along has no outcome then.
#[test]
fn what_was_open_while_the_client_was_not_heard_does_not_fail_with_the_connection() {
    let mut kernel = of_server();
    kernel.rx(&[get(1, "/1"), get(3, "/3")].concat());
    kernel.rx(&framed(3, 0, 1, &[0, 0, 0, 8])).tx(&ok(3, END_STREAM));
    kernel.rx(&get(5, "/5")).gone();
    let (out, _) = assemble(Limits::default(), &without(&kernel, &[GREETING + 1]));
    assert_eq!(told(&out.finished), [("/3", 200), ("/5", 0)]);
    assert_eq!(out.lost.iter().map(|lost| lost.1).collect::<Vec<_>>(), [Lost::Gap]);
}

#[test]
fn a_response_whose_request_comes_later_finds_it() {
    let mut kernel = of_server();
    kernel.rx(&get(1, "/1")).rx(&get(3, "/3")).tx(&ok(3, END_STREAM)).tx(&ok(1, END_STREAM)).gone();
    for (from, to) in [(GREETING + 1, GREETING + 2), (GREETING + 1, GREETING + 3)] {
        let mut records = kernel.records.clone();
        let late = records.remove(from);
        records.insert(to, late);
        let (out, _) = assemble(Limits::default(), &records);
        let mut told = told(&out.finished);
        told.sort_unstable();
        assert_eq!((told, out.lost.len()), (vec![("/1", 200), ("/3", 200)], 0), "{from} {to}");
    }
    // One that never comes is counted.
    let mut kernel = of_server();
    kernel.rx(&get(1, "/1")).tx(&ok(3, END_STREAM)).tx(&ok(1, END_STREAM));
    assert_eq!(lost(&kernel), [Lost::NoRequest]);
}

/// Of a turn no more than 256 KiB are copied, and content that is longer is followed by the lengths of frames.
#[test]
fn content_that_is_not_copied_is_followed_by_lengths() {
    let mut kernel = of_server();
    kernel.rx(&get(1, "/1")).tx(&ok(1, 0));
    let long = data(1, 0, 400_000);
    kernel.tx(&long).tx(&data(1, END_STREAM, 100));
    kernel.rx(&get(3, "/3")).tx(&ok(3, END_STREAM));
    let exchanges = all(&kernel);
    assert_eq!(told(&exchanges), [("/1", 200), ("/3", 200)]);
    assert_eq!(http(&exchanges[0]).response_content_len, 400_100);
}

#[test]
fn frames_that_are_hidden_cost_what_was_open_and_no_more() {
    let mut kernel = of_server();
    kernel.rx(&get(1, "/1")).tx(&ok(1, 0));
    let many: Vec<u8> = (0..40).flat_map(|_| data(1, 0, 10_000)).collect();
    kernel.tx(&many).tx(&data(1, END_STREAM, 10));
    kernel.rx(&get(3, "/3")).tx(&ok(3, END_STREAM));
    let (out, _) = assemble(Limits::default(), &kernel.records);
    assert_eq!(told(&out.finished), [("/3", 200)]);
    assert_eq!(out.lost.iter().map(|lost| lost.1).collect::<Vec<_>>(), [Lost::PipelineCut]);
}

/// As long as it is not known where frames begin, answers go by unseen.
#[test]
fn what_is_answered_before_frames_are_found_again_is_lost_too() {
    let mut kernel = of_server();
    kernel.rx(&get(1, "/1")).tx(&ok(1, 0));
    let many: Vec<u8> = (0..40).flat_map(|_| data(1, 0, 10_000)).collect();
    kernel.tx(&many).rx(&get(3, "/3"));
    kernel.tx(&[&[b'x'; 20][..], &ok(3, END_STREAM)].concat());
    kernel.rx(&get(5, "/5")).tx(&ok(5, END_STREAM)).gone();
    let (out, _) = assemble(Limits::default(), &kernel.records);
    assert_eq!(told(&out.finished), [("/5", 200)]);
    assert_eq!(out.lost.iter().map(|lost| lost.1).collect::<Vec<_>>(), [Lost::PipelineCut; 2]);
}

#[test]
fn streams_beyond_the_limit_are_counted() {
    let mut kernel = of_server();
    for nth in 0..4100 {
        kernel.rx(&get(1 + 2 * nth, "/"));
    }
    let (out, _) = run(Limits::default(), &kernel.records);
    let too_many = out.lost.iter().filter(|lost| lost.1 == Lost::TooManyOpen).count();
    assert_eq!((out.started.len(), too_many), (4096, 4));
}

#[test]
fn what_breaks_the_rules_again_and_again_is_left() {
    let mut kernel = of_server();
    kernel.rx(&get(1, "/1"));
    for _ in 0..4 {
        kernel.tx(&framed(1, 4, 1, &[0x80]));
    }
    let (out, _) = assemble(Limits::default(), &kernel.records);
    assert_eq!(out.captures, [(7, policy::FRAMES + HTTP2_ROW), (7, policy::COUNT)]);
    assert_eq!(out.lost.len(), 1);
}

/// To copy short content costs less than to walk over frames, and much of it would hide others.
#[test]
fn frames_are_walked_over_where_content_is_long() {
    let (walked, whole) = (policy::FRAMES + HTTP2_ROW, policy::ALL);
    let mut kernel = of_server();
    let mut next = 1;
    let mut ask = |kernel: &mut Kernel, count: u32, len: usize| {
        for _ in 0..count {
            kernel.rx(&get(next, "/1")).tx(&[ok(next, 0), data(next, END_STREAM, len)].concat());
            next += 2;
        }
    };
    let captures = |kernel: &Kernel| assemble(Limits::default(), &kernel.records).0.captures;
    ask(&mut kernel, 99, 100);
    assert_eq!(captures(&kernel), [(7, walked)]);
    ask(&mut kernel, 100, 1000);
    assert_eq!(captures(&kernel), [(7, walked), (7, whole)]);
    ask(&mut kernel, 1, 5000);
    ask(&mut kernel, 300, 100);
    assert_eq!(captures(&kernel), [(7, walked), (7, whole), (7, walked)]);
}

/// As [`policy::FRAMES`] has it: of DATA the first bytes, of what means nothing none, and a record for what follows.
fn walked(kernel: &mut Kernel, direction: Direction, frames: &[Vec<u8>]) {
    kernel.capture = policy::FRAMES + 2;
    let mut first = true;
    for frame in frames {
        let copied = match frame[3] {
            0 => frame.len().min(14),
            6 | 8 => 0,
            _ => frame.len(),
        };
        let begins = if copied > 0 { FRAME } else { 0 };
        let more = if first { 0 } else { data_flag::CONTINUED };
        kernel.record(direction, frame, copied, begins | more);
        first = false;
    }
}

/// Received bytes of which the kernel side does not know the frames.
fn unwalked(kernel: &mut Kernel, bytes: &[u8], copied: usize) {
    kernel.capture = policy::ALL;
    kernel.record(Direction::Rx, bytes, copied, 0);
}

/// What the kernel side leaves out because it knows the frames costs nothing.
#[test]
fn frames_that_the_kernel_side_steps_over_are_no_loss() {
    let window = || framed(8, 0, 0, &[0, 0, 1, 0]);
    let mut kernel = of_server();
    let post = headers(1, 0, &[(":method", "POST"), (":path", "/1"), ("user-agent", "me")]);
    walked(&mut kernel, Direction::Rx, &[window(), post, data(1, 0, 5000), window()]);
    walked(&mut kernel, Direction::Rx, &[data(1, 0, 100_000), window(), data(1, END_STREAM, 7)]);
    walked(&mut kernel, Direction::Tx, &[window(), ok(1, 0), data(1, 0, 300_000), data(1, 0, 3)]);
    walked(&mut kernel, Direction::Tx, &[framed(6, 0, 0, &[0; 8]), data(1, END_STREAM, 0)]);
    walked(&mut kernel, Direction::Rx, &[window(), get(3, "/3")]);
    walked(&mut kernel, Direction::Tx, &[ok(3, END_STREAM)]);
    let exchanges = all(&kernel);
    assert_eq!(told(&exchanges), [("/1", 200), ("/3", 200)]);
    let http = clean(&exchanges[0]);
    assert_eq!((http.request_content_len, http.response_content_len), (105_007, 300_003));
}

/// Behind frames that were stepped over a record may come of which the kernel side does not know the frames.
#[test]
fn behind_what_was_stepped_over_frames_are_found_without_the_kernel_side() {
    let mut kernel = of_server();
    walked(&mut kernel, Direction::Rx, &[get(1, "/1"), framed(8, 0, 0, &[0, 0, 1, 0])]);
    walked(&mut kernel, Direction::Tx, &[ok(1, END_STREAM)]);
    unwalked(&mut kernel, &get(3, "/3"), get(3, "/3").len());
    walked(&mut kernel, Direction::Tx, &[ok(3, END_STREAM)]);
    assert_eq!(told(&all(&kernel)), [("/1", 200), ("/3", 200)]);
    walked(&mut kernel, Direction::Rx, &[get(5, "/5"), framed(8, 0, 0, &[0, 0, 1, 0])]);
    walked(&mut kernel, Direction::Tx, &[ok(5, END_STREAM)]);
    unwalked(&mut kernel, b"in the middle of something", 26);
    walked(&mut kernel, Direction::Rx, &[get(11, "/11")]);
    walked(&mut kernel, Direction::Tx, &[ok(11, END_STREAM)]);
    let (out, _) = assemble(Limits::default(), &kernel.records);
    assert_eq!(told(&out.finished), [("/1", 200), ("/3", 200), ("/5", 200), ("/11", 200)]);
    assert_eq!(out.lost, [(0, Lost::Gap), (0, Lost::Gap)]);
}

/// Where a call has too many frames its rest is copied whole, in pieces of which the first begins with one.
#[test]
fn behind_what_was_stepped_over_the_rest_of_a_call_may_be_copied_whole() {
    let mut kernel = of_server();
    walked(&mut kernel, Direction::Rx, &[get(1, "/1"), get(3, "/3")]);
    walked(&mut kernel, Direction::Tx, &[ok(1, 0), data(1, 0, 5000)]);
    kernel.capture = policy::ALL;
    let rest = [data(1, END_STREAM, 3000), ok(3, 0), data(3, END_STREAM, 9)].concat();
    let (first, second) = rest.split_at(2000);
    kernel.record(Direction::Tx, first, first.len(), data_flag::CONTINUED | FRAME);
    kernel.record(Direction::Tx, second, second.len(), data_flag::CONTINUED);
    let exchanges = all(&kernel);
    assert_eq!(told(&exchanges), [("/1", 200), ("/3", 200)]);
    assert_eq!(clean(&exchanges[0]).response_content_len, 8000);
}

/// Where it has lost them itself, or records are missing, a record that begins with a frame goes on.
#[test]
fn behind_a_loss_a_record_that_begins_a_frame_goes_on() {
    let mut kernel = of_server();
    walked(&mut kernel, Direction::Rx, &[get(1, "/1")]);
    walked(&mut kernel, Direction::Tx, &[ok(1, 0), data(1, END_STREAM, 5000)]);
    unwalked(&mut kernel, &get(3, "/3"), 0);
    walked(&mut kernel, Direction::Rx, &[get(5, "/5")]);
    walked(&mut kernel, Direction::Tx, &[ok(5, END_STREAM)]);
    let (out, _) = assemble(Limits::default(), &kernel.records);
    assert_eq!(told(&out.finished), [("/1", 200), ("/5", 200)]);
    assert_eq!(out.lost, [(0, Lost::Gap)]);
}

fn conversation() -> impl Strategy<Value = Kernel> {
    let step = (0_u32..5, 0_usize..5, 0_usize..300);
    (vec(step, 1..20), any::<bool>()).prop_map(|(steps, ends)| {
        let mut kernel = of_server();
        let mut next = 1;
        for (back, what, len) in steps {
            let id = next.max(1 + 2 * back) - 2 * back;
            match what {
                0 | 1 => {
                    kernel.rx(&get(next, &format!("/{next}")));
                    next += 2;
                }
                2 => {
                    kernel.tx(&ok(id, 0));
                }
                3 => {
                    kernel.tx(&data(id, (len % 2) as u8, len));
                }
                _ => {
                    kernel.tx(&ok(id, END_STREAM));
                }
            }
        }
        if ends {
            kernel.gone();
        }
        kernel
    })
}

proptest! {
    #![proptest_config(crate::properties::config(300))]

    /// Whatever is lost, doubled or swapped: every exchange that is told has the path of its own stream.
    #[test]
    fn no_loss_pairs_wrongly(
        kernel in conversation(),
        drops in vec(any::<Index>(), 0..4),
        doubles in vec(any::<Index>(), 0..3),
        swaps in vec(any::<Index>(), 0..3),
    ) {
        let mut records = kernel.records.clone();
        for index in doubles {
            let at = index.index(records.len());
            records.insert(at, records[at].clone());
        }
        for index in drops {
            if records.len() > GREETING + 1 {
                records.remove(GREETING + index.index(records.len() - GREETING));
            }
        }
        for index in swaps {
            if records.len() > GREETING + 2 {
                let at = GREETING + index.index(records.len() - GREETING - 1);
                records.swap(at, at + 1);
            }
        }
        let (whole, _) = run(Limits::default(), &kernel.records);
        let (out, _) = run(Limits::default(), &records);
        for exchange in &out.finished {
            let known = |other: &&Exchange| http(other).target == http(exchange).target;
            let same = whole.finished.iter().find(known);
            let status = http(exchange).status;
            prop_assert!(status == 0 || status == 200);
            prop_assert!(same.is_some() || whole.started.len() >= out.started.len());
        }
    }

    /// And a recording of it gives the same.
    #[test]
    fn a_recording_gives_the_same(kernel in conversation(), role in any::<bool>()) {
        let mut records = kernel.records.clone();
        if role {
            records.remove(0);
        }
        assemble(Limits::default(), &records);
    }
}

#[test]
fn the_role_of_the_connection_is_that_of_its_first_request() {
    let mut kernel = http2::greeted(Kernel::opened(Role::Unknown, 0), Direction::Tx);
    kernel.tx(&get(1, "/")).rx(&ok(1, END_STREAM));
    assert_eq!(one(&kernel).role, exchange::Role::Client);
}
