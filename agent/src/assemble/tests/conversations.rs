//! Properties over generated conversations: however calls cut the bytes, the same exchanges come
//! out; whatever records are missing, doubled or out of order, no request gets another's response.

use proptest::{collection::vec, prelude::*, sample::Index};
use remora_common::{
    policy,
    record::{CloseCause, Direction, Role},
};

use super::*;

mod generated;

use generated::*;

proptest! {
    #![proptest_config(crate::properties::config(400))]

    #[test]
    fn any_split_gives_the_same_exchanges(
        requests in direction(),
        batches in batches(),
        cuts in cuts(),
        last in proptest::option::of(1_usize..5000),
    ) {
        let mut batches = batches;
        if let Some(len) = last {
            batches.push(vec![Turn {
                method: "GET", status: 200, request: Content::None, response: Content::UntilClose(len),
                interim: false, head_fill: 0, bare_lf: false, absolute: false,
            }]);
        }
        let mut kernel = Kernel::opened(role(requests), 0);
        play(&mut kernel, requests, &batches, &cuts);
        if last.is_some() && requests == Direction::Tx {
            kernel.close(CloseCause::EndOfFile, 0);
        }
        kernel.gone();
        let (out, stats) = assemble(Limits::default(), &kernel.records);
        let turns: Vec<&Turn> = batches.iter().flatten().collect();
        prop_assert_eq!(&out.lost, &[]);
        prop_assert_eq!(out.finished.len(), turns.len());
        prop_assert_eq!((stats.gaps, stats.records_skipped, stats.records_duplicate), (0, 0, 0));
        assert_no_wrong_pair(&out, &turns);
        for (id, (exchange, turn)) in out.finished.iter().zip(&turns).enumerate() {
            prop_assert_eq!(ids(exchange), (id, Some(id)));
            prop_assert_eq!(exchange.failure, None);
            let told = http(exchange);
            prop_assert_eq!(&*told.method, turn.method);
            if exchange.marks.request_head_cut {
                // One record's worth is all there is of a long head on a connection that pipelines.
                prop_assert!(turn.head_fill > 10_000 && turns.len() > batches.len());
                continue;
            }
            if let Content::Length(len) = turn.request {
                prop_assert_eq!(told.request_content_len, len as u64);
            }
            match turn.response {
                _ if has_no_content(turn) => prop_assert_eq!(told.response_content_len, 0),
                Content::Length(len) | Content::UntilClose(len) => {
                    prop_assert_eq!(told.response_content_len, len as u64);
                }
                Content::Chunked(len, _) => prop_assert!(told.response_content_len >= len as u64),
                Content::None => {}
            }
        }
    }

    #[test]
    fn times_are_those_of_the_first_and_last_byte(
        requests in direction(),
        batches in vec(vec(turn(), 1..2), 1..5),
        cuts in cuts(),
    ) {
        let mut kernel = Kernel::opened(role(requests), 0);
        let mut expected = Vec::new();
        for (id, batch) in batches.iter().enumerate() {
            let begin_ns = kernel.now_ns + if requests == Direction::Tx { 600 } else { 1000 };
            let mut at = Kernel::opened(role(requests), 0);
            std::mem::swap(&mut at, &mut kernel);
            let mut cuts = cuts.iter().cycle();
            let interim = if batch[0].interim { INTERIM } else { b"" };
            for (direction, bytes) in [
                (requests, request_bytes(&batch[0], id)),
                (requests.flip(), interim.to_vec()),
                (requests.flip(), response_bytes(&batch[0], id)),
            ] {
                in_pieces(&mut at, direction, &bytes, &mut cuts, batch[0].interim);
            }
            kernel = at;
            expected.push((begin_ns, kernel.now_ns));
            kernel.now_ns += 50_000_000;
        }
        kernel.gone();
        let (out, _) = assemble(Limits::default(), &kernel.records);
        let told: Vec<_> =
            out.finished.iter().map(|e| (e.start_mono_ns, e.end_mono_ns)).collect();
        prop_assert_eq!(told, expected);
    }

    #[test]
    fn dropped_records_never_give_a_wrong_pair(
        requests in direction(),
        batches in batches(),
        cuts in cuts(),
        drops in vec(any::<Index>(), 1..6),
        burst in 1_usize..4,
    ) {
        let mut kernel = Kernel::opened(role(requests), 0);
        let pipelined = batches.iter().any(|batch| batch.len() > 1);
        let mut batches = batches;
        let mut keep = 1;
        if pipelined {
            // A connection is taken to take turns until it was seen to pipeline.
            let first: Batch = (0..2).map(|_| Turn {
                method: "GET", status: 200, request: Content::None, response: Content::None,
                interim: false, head_fill: 0, bare_lf: false, absolute: false,
            }).collect();
            batches.insert(0, first);
            let mut probe = Kernel::opened(role(requests), 0);
            play(&mut probe, requests, &batches[..1], &cuts);
            keep = probe.records.len();
        }
        play(&mut kernel, requests, &batches, &cuts);
        kernel.gone();
        let mut records = kernel.records;
        for drop in drops {
            for _ in 0..burst {
                let droppable = records.len() - keep;
                if droppable > 0 {
                    records.remove(keep + drop.index(droppable));
                }
            }
        }
        let (out, _) = assemble(Limits::default(), &records);
        let turns: Vec<&Turn> = batches.iter().flatten().collect();
        assert_no_wrong_pair(&out, &turns);
        // A failure told of a connection that only lost records would be an invention.
        let gone = records.iter().any(|owned| matches!(owned, Owned::Close(..)));
        for exchange in &out.finished {
            prop_assert!(exchange.failure.is_none() || !gone, "{:?} {:?}", ids(exchange), exchange.failure);
        }
    }

    #[test]
    fn a_hole_costs_what_it_touches_and_its_neighbours(
        requests in direction(),
        turns in vec(small_turn(), 10..40),
        holes in vec((any::<Index>(), 1_usize..8), 1..5),
    ) {
        let mut kernel = Kernel::opened(role(requests), 0);
        let batches: Vec<Batch> = turns.iter().map(|turn| vec![turn.clone()]).collect();
        play(&mut kernel, requests, &batches, &[2000]);
        kernel.gone();
        // Each message is one record here, between those of the connection itself.
        prop_assert_eq!(kernel.records.len(), 2 * turns.len() + 2);
        let mut dropped = vec![false; kernel.records.len()];
        for (at, len) in &holes {
            let at = 1 + at.index(kernel.records.len() - 2);
            let end = (at + len).min(kernel.records.len() - 1);
            dropped[at..end].fill(true);
        }
        let touched = (0..turns.len())
            .filter(|turn| dropped[1 + 2 * turn] || dropped[2 + 2 * turn])
            .count();
        let mut at = 0;
        kernel.records.retain(|_| { at += 1; !dropped[at - 1] });
        let (out, _) = assemble(Limits::default(), &kernel.records);
        let told: Vec<&Turn> = turns.iter().collect();
        assert_no_wrong_pair(&out, &told);
        let least = turns.len().saturating_sub(touched + 2 * holes.len());
        prop_assert!(
            out.finished.len() >= least,
            "{} of {} told, {touched} touched by {} holes", out.finished.len(), turns.len(), holes.len()
        );
    }

    #[test]
    fn doubled_records_change_nothing(
        requests in direction(),
        batches in batches(),
        cuts in cuts(),
        doubles in vec(any::<Index>(), 1..6),
    ) {
        let mut kernel = Kernel::opened(role(requests), 0);
        play(&mut kernel, requests, &batches, &cuts);
        kernel.gone();
        let (expected, _) = assemble(Limits::default(), &kernel.records);
        let mut records = kernel.records;
        for double in doubles {
            let at = double.index(records.len() - 1);
            records.insert(at + 1, records[at].clone());
        }
        let (out, _) = assemble(Limits::default(), &records);
        prop_assert_eq!(out.finished, expected.finished);
        prop_assert_eq!(out.lost, expected.lost);
    }

    #[test]
    fn swapped_records_never_give_a_wrong_pair(
        requests in direction(),
        batches in vec(vec(turn(), 1..2), 1..6),
        cuts in cuts(),
        swaps in vec((any::<Index>(), 1_usize..4), 1..6),
    ) {
        let mut kernel = Kernel::opened(role(requests), 0);
        play(&mut kernel, requests, &batches, &cuts);
        kernel.gone();
        let mut records = kernel.records;
        for (at, distance) in swaps {
            let at = at.index(records.len());
            let other = (at + distance).min(records.len() - 1);
            records.swap(at, other);
        }
        let (out, _) = assemble(Limits::default(), &records);
        let turns: Vec<&Turn> = batches.iter().flatten().collect();
        assert_no_wrong_pair(&out, &turns);
    }

    #[test]
    fn arbitrary_bytes_settle_everything(
        calls in vec((direction(), prop_oneof![
            vec(any::<u8>(), 0..60),
            "(GET|POST|HTTP/1\\.1 200|[A-Z]{1,3}) ?(/|OK)? ?(HTTP/1\\.1)?\r?\n(Content-Length: [0-9]{1,2}|Transfer-Encoding: chunked)?\r\n\r\n(3\r\nabc\r\n)?(0\r\n\r\n)?"
                .prop_map(String::into_bytes),
        ], any::<u8>()), 1..40),
    ) {
        let mut kernel = Kernel::opened(Role::Unknown, 0);
        for (direction, bytes, what) in &calls {
            match what {
                0..=5 => { kernel.in_kernel(*direction, usize::from(*what)); }
                6 => { kernel.close(CloseCause::EndOfFile, 0); }
                7 => { kernel.close(CloseCause::Error, libc::EPIPE); }
                8 => { kernel.now_ns += 2_000_000_000; }
                9 => { kernel.gone(); }
                10..=60 => { kernel.capture = policy::ALL; }
                _ => { kernel.moved(*direction, bytes); }
            }
        }
        assemble(Limits { max_open_per_connection: 4, max_head_len: 100, ..Limits::default() }, &kernel.records);
    }
}

/// Plays conversations with a server, one turn after the other, and exchanges records by index.
fn swapped(turns: &[Turn], cuts: &[usize], swaps: &[(usize, usize)]) -> Collector {
    let mut kernel = Kernel::opened(Role::Server, 0);
    let batches: Vec<Batch> = turns.iter().map(|turn| vec![turn.clone()]).collect();
    play(&mut kernel, Direction::Rx, &batches, cuts);
    kernel.gone();
    let mut records = kernel.records;
    for &(one, other) in swaps {
        records.swap(one, other);
    }
    let (out, _) = assemble(Limits::default(), &records);
    assert_no_wrong_pair(&out, &turns.iter().collect::<Vec<_>>());
    out
}

const PLAIN: Turn = Turn {
    method: "GET",
    status: 200,
    request: Content::None,
    response: Content::None,
    interim: false,
    head_fill: 0,
    bare_lf: false,
    absolute: false,
};

#[test]
fn a_response_that_comes_before_its_request_is_nobody_elses() {
    // The hole before the second response is exactly the rest of the first one.
    let turns = [
        Turn { response: Content::Length(13_877), ..PLAIN },
        Turn { status: 204, ..PLAIN },
        Turn { response: Content::Length(902), ..PLAIN },
    ];
    let out = swapped(&turns, &[9332], &[(4, 6)]);
    assert_eq!(out.finished.iter().map(ids).collect::<Vec<_>>(), [(0, Some(0)), (2, Some(2))]);
}

#[test]
fn pieces_that_may_be_a_command_are_judged_alike_in_a_recording() {
    swapped(&[Turn { interim: true, ..PLAIN }], &[12, 5, 19, 12], &[(0, 2), (2, 5)]);
}
