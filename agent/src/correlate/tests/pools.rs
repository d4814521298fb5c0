//! Requests that one thread reads and another one handles.

use super::*;

/// The thread that reads.
const READER: u32 = 1;

impl Scene {
    /// The thread `by` answers.
    fn answer(&mut self, serial: u64, by: u32) {
        self.end_with(serial, |exchange| {
            (exchange.answer_tid, exchange.response_tid) = (by, by);
        });
    }

    /// A worker serves one request, for which it asks twice, while nothing else is open. So the process is known to hand over.
    fn served_alone(&mut self, serials: [u64; 3], worker: u32) {
        let [server, clients @ ..] = serials;
        self.server(server, READER);
        clients.into_iter().for_each(|client| self.run(Role::Client, client, worker));
        self.answer(server, worker);
    }

    /// Two workers serve two requests at once, each of which asks once.
    fn served_at_once(&mut self, first: u64) {
        let [a, b, of_a, of_b] = [first, first + 1, first + 2, first + 3];
        self.server(a, READER);
        self.server(b, READER);
        self.client(of_a, 2);
        self.client(of_b, 3);
        [of_a, of_b].into_iter().for_each(|client| self.end(client));
        self.answer(a, 2);
        self.answer(b, 3);
    }

    fn thread(&mut self, tid: u32, by: u32) {
        self.now += 1_000_000;
        self.correlator.thread_started(TGID, by, tid, self.now);
    }

    fn thread_ends(&mut self, tid: u32) {
        self.now += 1_000_000;
        self.correlator.thread_ended(TGID, tid, self.now);
    }

    /// The workers have had nothing to do for a while.
    fn rest(&mut self) {
        self.now += 100_000_000;
    }

    /// Brings all spans to their traces; those that would still wait.
    fn settle(&mut self) -> Vec<u64> {
        self.correlator.decide_by_time(self.now);
        let correlator = &self.correlator;
        let waits =
            |(serial, span): (&u64, &mut Span)| correlator.settle(span).is_err().then_some(*serial);
        let mut waiting: Vec<u64> = self.spans.iter_mut().filter_map(waits).collect();
        waiting.sort_unstable();
        waiting
    }

    #[track_caller]
    fn settled(&mut self) {
        assert_eq!(self.settle(), [0; 0]);
    }
}

#[test]
fn what_a_worker_asks_for_is_for_the_request_that_it_answers() {
    let mut scene = Scene::new();
    scene.served_alone([1, 2, 3], 2);
    scene.served_alone([4, 5, 6], 3);
    scene.settled();
    [(2, 1), (3, 1), (5, 4), (6, 4)]
        .into_iter()
        .for_each(|(client, server)| scene.child(client, server));
    assert!(!scene.correlator.pools.is_waiting());
}

#[test]
fn it_waits_until_the_worker_answers() {
    let mut scene = Scene::new();
    scene.server(1, READER);
    scene.run(Role::Client, 2, 2);
    assert_eq!(scene.settle(), [2]);
    scene.answer(1, 2);
    scene.settled();
    scene.child(2, 1);
}

#[test]
fn requests_that_were_handled_beside_others_wait_for_a_proof() {
    let mut scene = Scene::new();
    scene.served_at_once(10);
    assert_eq!(scene.settle(), [12, 13]);
    scene.rest();
    scene.settled();
    // Nothing has come for a while.
    [12, 13].into_iter().for_each(|serial| scene.alone(serial, ParentFrom::Root));
    scene.served_at_once(20);
    assert_eq!(scene.settle(), [22, 23]);
    scene.rest();
    scene.settled();
    [(22, 20), (23, 21)].into_iter().for_each(|(client, server)| scene.child(client, server));
}

#[test]
fn proof_comes_while_others_wait() {
    let mut scene = Scene::new();
    scene.server(1, READER);
    scene.served_at_once(10);
    scene.rest();
    assert_eq!(scene.settle(), [12, 13]);
    scene.served_at_once(20);
    scene.settled();
    let children = [(12, 10), (13, 11), (22, 20), (23, 21)];
    children.into_iter().for_each(|(client, server)| scene.child(client, server));
}

#[test]
fn workers_that_wait_for_events_are_none() {
    let mut scene = Scene::new();
    scene.served_at_once(10);
    scene.served_at_once(20);
    let on_trial: Vec<_> = scene.correlator.on_trial().collect();
    assert_eq!(on_trial, [(TGID, 2), (TGID, 3)]);
    scene.correlator.moves_work(TGID, scene.now);
    scene.settled();
    [12, 13, 22, 23].into_iter().for_each(|serial| scene.alone(serial, ParentFrom::Root));
    assert_eq!(scene.correlator.on_trial().count(), 0);
}

/// After it, nothing is inferred in the process.
fn mixes(show: impl FnOnce(&mut Scene)) {
    let mut scene = Scene::new();
    scene.served_alone([1, 2, 3], 2);
    scene.served_alone([4, 5, 6], 3);
    show(&mut scene);
    scene.served_alone([91, 92, 93], 2);
    scene.settled();
    [92, 93].into_iter().for_each(|serial| scene.alone(serial, ParentFrom::Root));
}

#[test]
fn a_response_that_another_thread_reads_shows_an_event_loop() {
    mixes(|scene| {
        scene.server(11, READER);
        scene.client(12, 2);
        scene.end_with(12, |exchange| exchange.response_tid = 3);
        scene.answer(11, 2);
        scene.settled();
        scene.alone(12, ParentFrom::Root);
    });
}

#[test]
fn a_thread_that_asks_twice_at_once_is_an_event_loop() {
    mixes(|scene| {
        scene.server(11, READER);
        let at = |port: u16| {
            let client = ([127, 0, 0, 1], port).into();
            Some(At { client, server: ([127, 0, 0, 1], 80).into(), netns: 1, request: 0 })
        };
        for (serial, port) in [(12, 1000), (13, 1001)] {
            scene.begin(Role::Client, serial, 2, |started| started.at = at(port));
        }
        [12, 13].into_iter().for_each(|serial| scene.end(serial));
        scene.answer(11, 2);
        scene.settled();
        [12, 13].into_iter().for_each(|serial| scene.alone(serial, ParentFrom::Root));
    });
}

#[test]
fn commands_of_one_pipeline_are_no_event_loop() {
    let mut scene = Scene::new();
    scene.server(1, READER);
    [2, 3, 4].into_iter().for_each(|serial| scene.client(serial, 2));
    [2, 3, 4].into_iter().for_each(|serial| scene.end(serial));
    scene.answer(1, 2);
    scene.settled();
    [2, 3, 4].into_iter().for_each(|serial| scene.child(serial, 1));
}

#[test]
fn a_thread_that_answers_while_it_asks_is_an_event_loop() {
    mixes(|scene| {
        scene.server(11, READER);
        scene.client(12, 2);
        scene.answer(11, 2);
        scene.end(12);
        scene.settled();
        scene.alone(12, ParentFrom::Root);
    });
}

#[test]
fn a_worker_that_asks_for_nobody_is_not_believed() {
    mixes(|scene| scene.run(Role::Client, 11, 2));
}

#[test]
fn a_worker_that_asks_before_its_request_has_come_is_not_believed() {
    mixes(|scene| {
        scene.server(11, READER);
        // Behind its last answer, while another one is at work.
        scene.run(Role::Client, 12, 2);
        scene.server(13, READER);
        scene.answer(13, 2);
        scene.answer(11, 3);
        scene.settled();
        scene.alone(12, ParentFrom::Root);
    });
}

#[test]
fn what_is_asked_for_a_request_that_nobody_answers_is_nobodys() {
    let mut scene = Scene::new();
    scene.served_alone([1, 2, 3], 2);
    scene.server(11, READER);
    scene.run(Role::Client, 12, 2);
    scene.server(13, READER);
    // Its client has gone. The worker does not know, goes on, and serves the next one.
    scene.answer(11, 0);
    scene.run(Role::Client, 14, 2);
    scene.run(Role::Client, 15, 2);
    scene.answer(13, 2);
    scene.settled();
    [12, 14, 15].into_iter().for_each(|serial| scene.alone(serial, ParentFrom::Root));
    scene.served_alone([21, 22, 23], 2);
    scene.settled();
    scene.child(22, 21);
}

#[test]
fn a_thread_that_reads_for_others_asks_for_nobody() {
    let mut scene = Scene::new();
    scene.served_alone([1, 2, 3], 2);
    scene.server(11, READER);
    scene.run(Role::Client, 12, READER);
    scene.answer(11, 2);
    scene.server(13, READER);
    scene.run(Role::Client, 14, READER);
    scene.answer(13, READER);
    scene.settled();
    [12, 14].into_iter().for_each(|serial| scene.alone(serial, ParentFrom::Ambiguous));
}

#[test]
fn what_was_asked_before_an_unseen_request_was_answered_may_be_for_that() {
    let mut scene = Scene::new();
    scene.served_alone([1, 2, 3], 2);
    scene.server(11, READER);
    scene.run(Role::Client, 12, 2);
    scene.correlator.answered_unseen(TGID, 2, scene.now);
    scene.run(Role::Client, 13, 2);
    scene.answer(11, 2);
    scene.settled();
    // The second one may be for it, too, behind the answer.
    [12, 13].into_iter().for_each(|serial| scene.alone(serial, ParentFrom::Root));
}

#[test]
fn a_helper_thread_waits_no_longer_than_the_requests_that_it_may_be_for() {
    let mut scene = Scene::new();
    scene.server(1, 2);
    scene.run(Role::Client, 2, 7);
    scene.server(3, 3);
    assert_eq!(scene.settle(), [2]);
    scene.end(1);
    scene.settled();
    scene.alone(2, ParentFrom::Root);
}

#[test]
fn threads_of_a_runtime_that_moves_work_say_nothing() {
    let mut scene = Scene::new();
    scene.correlator.moves_work(TGID, 0);
    scene.served_alone([1, 2, 3], 2);
    scene.server(4, 5);
    scene.run(Role::Client, 5, 5);
    scene.end(4);
    scene.settled();
    [2, 3].into_iter().for_each(|serial| scene.alone(serial, ParentFrom::Root));
    scene.alone(5, ParentFrom::Ambiguous);
    scene.correlator.process_gone(TGID);
    scene.server(6, 5);
    scene.run(Role::Client, 7, 5);
    scene.end(6);
    scene.child(7, 6);
}

#[test]
fn what_a_worker_asks_behind_its_answer_is_not_for_the_next_request() {
    let mut scene = Scene::new();
    scene.server(1, READER);
    scene.server(2, READER);
    scene.server(3, READER);
    scene.answer(1, 2);
    scene.run(Role::Client, 12, 2);
    scene.answer(2, 2);
    scene.run(Role::Client, 13, 2);
    scene.answer(3, 2);
    scene.settled();
    [12, 13].into_iter().for_each(|serial| scene.alone(serial, ParentFrom::Root));
}

#[test]
fn a_worker_that_has_answered_without_asking_is_believed_when_it_has_rested() {
    let mut scene = Scene::new();
    scene.server(1, READER);
    scene.answer(1, 2);
    scene.served_alone([11, 12, 13], 2);
    scene.rest();
    scene.served_alone([21, 22, 23], 2);
    scene.served_alone([31, 32, 33], 2);
    scene.settled();
    [12, 13].into_iter().for_each(|serial| scene.alone(serial, ParentFrom::Root));
    scene.child(22, 21);
    scene.child(33, 31);
}

#[test]
fn a_worker_that_has_read_its_request_itself_asks_for_that() {
    let mut scene = Scene::new();
    scene.server(1, READER);
    scene.answer(1, 2);
    scene.server(2, 2);
    scene.run(Role::Client, 3, 2);
    scene.answer(2, 2);
    scene.served_alone([11, 12, 13], 2);
    scene.settled();
    scene.child(12, 11);
}

#[test]
fn a_process_whose_workers_ask_first_is_believed() {
    let mut scene = Scene::new();
    for first in (100..180).step_by(10) {
        scene.rest();
        scene.served_alone([first, first + 1, first + 2], 2);
    }
    scene.server(1, READER);
    scene.answer(1, 2);
    scene.served_alone([11, 12, 13], 2);
    scene.settled();
    scene.child(13, 11);
}

#[test]
fn threads_that_are_started_for_a_request_and_end_with_it_ask_for_it() {
    let mut scene = Scene::new();
    // A thread for each request, and a pool: the same.
    for (first, reader) in [(10, 2), (20, READER)] {
        let [server, a, b, c] = [first, first + 1, first + 2, first + 3];
        scene.server(server, reader);
        scene.thread(51, 2);
        scene.thread(52, 2);
        scene.thread(53, 52);
        scene.client(a, 51);
        scene.client(b, 52);
        scene.client(c, 53);
        [a, b, c].into_iter().for_each(|client| scene.end(client));
        [51, 53].into_iter().for_each(|tid| scene.thread_ends(tid));
        scene.answer(server, 2);
        // One is behind.
        scene.thread_ends(52);
        scene.settled();
        [a, b, c].into_iter().for_each(|client| scene.child(client, server));
        scene.rest();
    }
    assert!(!scene.correlator.pools.is_waiting());
}

#[test]
fn threads_that_go_on_may_work_for_others() {
    let mut scene = Scene::new();
    scene.server(1, 2);
    scene.thread(51, 2);
    scene.run(Role::Client, 11, 51);
    scene.answer(1, 2);
    assert_eq!(scene.settle(), [11]);
    scene.now += 200_000_000;
    scene.settled();
    scene.thread_ends(51);
    scene.settled();
    scene.alone(11, ParentFrom::Root);
}

#[test]
fn threads_that_were_started_before_the_request_are_none_of_its() {
    let mut scene = Scene::new();
    scene.server(1, 3);
    scene.thread(51, 2);
    scene.server(2, 2);
    scene.run(Role::Client, 11, 51);
    scene.thread_ends(51);
    scene.answer(2, 2);
    scene.answer(1, 3);
    scene.settled();
    scene.alone(11, ParentFrom::Root);
}

#[test]
fn a_helper_whose_request_is_unanswered_says_nothing_of_others() {
    let mut scene = Scene::new();
    scene.server(1, READER);
    scene.thread(51, 2);
    scene.client(11, 51);
    scene.run(Role::Client, 12, 2);
    scene.answer(1, 2);
    scene.end(11);
    scene.settled();
    scene.child(12, 1);
    scene.alone(11, ParentFrom::Root);
}

#[test]
fn a_thread_that_never_answers_does_not_fill_what_waits() {
    let mut scene = Scene::new();
    // A stream of events, say.
    scene.server(1, 2);
    (100..3000).for_each(|serial| scene.run(Role::Client, serial, 7));
    assert_eq!(scene.settle().len(), 256);
    (3000..6000).for_each(|serial| scene.run(Role::Client, serial, 8 + serial as u32 % 20));
    assert_eq!(scene.settle().len(), 2048);
    scene.end(1);
    scene.settled();
}

#[test]
fn threads_that_end_later_may_have_waited_for_something_else_to_do() {
    let mut scene = Scene::new();
    scene.server(1, 2);
    scene.thread(51, 2);
    scene.run(Role::Client, 11, 51);
    scene.now += 200_000_000;
    scene.thread_ends(51);
    scene.answer(1, 2);
    scene.settled();
    scene.alone(11, ParentFrom::Root);
}

#[test]
fn threads_of_the_kernel_that_a_program_shares_are_no_helpers() {
    let mut scene = Scene::new();
    scene.correlator.seen_since(TGID, 0, false);
    scene.server(1, 2);
    scene.thread(51, 2);
    scene.run(Role::Client, 11, 51);
    scene.thread_ends(51);
    scene.answer(1, 2);
    scene.settled();
    scene.alone(11, ParentFrom::Root);
}

#[test]
fn threads_that_read_their_requests_themselves_are_believed_whoever_was_not_answered() {
    let mut scene = Scene::new();
    scene.server(1, 2);
    scene.run(Role::Client, 11, 51);
    scene.answer(1, 0);
    // A thread for each connection.
    scene.thread(3, READER);
    scene.server(2, 3);
    scene.thread(52, 3);
    scene.run(Role::Client, 12, 52);
    scene.thread_ends(52);
    scene.answer(2, 3);
    scene.settled();
    scene.child(12, 2);
    // And one that was there before.
    scene.server(3, 4);
    scene.thread(53, 4);
    scene.run(Role::Client, 13, 53);
    scene.thread_ends(53);
    scene.answer(3, 4);
    scene.settled();
    scene.child(13, 3);
}
