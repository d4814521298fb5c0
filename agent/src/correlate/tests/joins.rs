//! Requests whose both ends are watched.

use super::*;

/// The request that begins at byte `request` of a connection from port `port`.
fn at(port: u16, request: u64) -> Option<At> {
    let address = |port: u16| ([127, 0, 0, 1], port).into();
    Some(At { client: address(port), server: address(80), netns: 1, request })
}

impl Scene {
    /// The connection of `at` was seen from its beginning by the process that opened it.
    fn one_end(&mut self, role: Role, serial: u64, tid: u32, at: Option<At>) {
        if let (Role::Client, Some(at)) = (role, at) {
            self.correlator.opened(at.client, at.server);
        }
        self.begin(role, serial, tid, |started| (started.at, started.netns) = (at, 1));
    }

    #[track_caller]
    fn other_end(&mut self, server: u64, client: u64) {
        let correlator = &self.correlator;
        self.spans.values_mut().for_each(|span| assert_eq!(correlator.settle(span), Ok(())));
        let (server, client) = (&self.spans[&server], &self.spans[&client]);
        assert_eq!(server.parent_span_id, Some(client.span_id));
        assert_eq!(server.trace_id, client.trace_id);
        assert_eq!(server.parent_from, ParentFrom::Connection);
    }
}

#[test]
fn a_request_that_is_received_is_a_child_of_the_one_that_was_sent() {
    let mut scene = Scene::new();
    // A service on thread 1 asks another one, on thread 2, which asks a third, on thread 3.
    scene.server(1, 1);
    scene.one_end(Role::Client, 2, 1, at(1000, 0));
    scene.one_end(Role::Server, 3, 2, at(1000, 0));
    scene.one_end(Role::Client, 4, 2, at(2000, 512));
    scene.one_end(Role::Server, 5, 3, at(2000, 512));
    [5, 4, 3, 2, 1].into_iter().for_each(|serial| scene.end(serial));
    scene.child(2, 1);
    scene.other_end(3, 2);
    scene.child(4, 3);
    scene.other_end(5, 4);
    assert!(scene.correlator.joins.is_empty());
}

#[test]
fn what_is_told_first_by_the_receiver_is_joined_as_well() {
    let mut scene = Scene::new();
    let at = at(1000, 0);
    scene.server(2, 1);
    scene.correlator.opened(at.unwrap().client, at.unwrap().server);
    scene.one_end(Role::Server, 3, 2, at);
    // It has asked and has answered before.
    scene.run(Role::Client, 5, 2);
    scene.end(3);
    for serial in [3, 5] {
        let span = scene.spans.get_mut(&serial).unwrap();
        assert!(scene.correlator.settle(span).is_err(), "{serial} waits");
    }
    scene.one_end(Role::Client, 4, 1, at);
    [4, 2].into_iter().for_each(|serial| scene.end(serial));
    scene.other_end(3, 4);
    scene.child(4, 2);
    scene.child(5, 3);
    assert!(scene.correlator.joins.is_empty());
}

#[test]
fn traces_move_one_into_the_other() {
    let mut scene = Scene::new();
    // The end of a chain is told of first.
    let (one, two) = (at(1000, 0), at(2000, 0));
    for at in [one, two] {
        scene.correlator.opened(at.unwrap().client, at.unwrap().server);
    }
    scene.one_end(Role::Server, 5, 3, two);
    scene.end(5);
    scene.one_end(Role::Server, 3, 2, one);
    scene.one_end(Role::Client, 4, 2, two);
    scene.end(4);
    scene.end(3);
    scene.one_end(Role::Client, 2, 1, one);
    scene.end(2);
    scene.other_end(5, 4);
    scene.child(4, 3);
    scene.other_end(3, 2);
}

#[test]
fn whose_sender_does_not_come_stays_what_it_is() {
    let mut scene = Scene::new();
    let at = at(1000, 0);
    scene.correlator.opened(at.unwrap().client, at.unwrap().server);
    scene.one_end(Role::Server, 1, 1, at);
    scene.end(1);
    let trace_id = scene.spans[&1].trace_id;
    scene.correlator.decide_by_time(scene.now);
    assert_eq!(scene.correlator.take_decided(), []);
    assert_eq!(scene.correlator.settle(scene.spans.get_mut(&1).unwrap()), Err(trace_id));
    scene.correlator.decide_by_time(scene.now + 1_000_000_000);
    assert_eq!(scene.correlator.take_decided(), [trace_id]);
    assert_eq!(scene.correlator.settle(scene.spans.get_mut(&1).unwrap()), Ok(()));
    scene.alone(1, ParentFrom::Root);
    assert!(scene.correlator.joins.is_empty());
}

#[test]
fn another_request_of_the_connection_is_another() {
    let mut scene = Scene::new();
    scene.one_end(Role::Client, 1, 1, at(1000, 0));
    scene.one_end(Role::Server, 2, 2, at(1000, 90));
    scene.one_end(Role::Server, 3, 3, at(1001, 0));
    scene.one_end(Role::Server, 4, 4, None);
    [4, 3, 2, 1].into_iter().for_each(|serial| scene.end(serial));
    (1..=4).for_each(|serial| scene.alone(serial, ParentFrom::Root));
}

#[test]
fn what_a_request_carries_counts_more() {
    let mut scene = Scene::new();
    scene.one_end(Role::Client, 1, 1, at(1000, 0));
    let carried = carried(7, 8, 1);
    scene.begin(Role::Server, 2, 2, |started| {
        (started.at, started.netns) = (at(1000, 0), 1);
        started.trace_parent = Some(carried);
    });
    scene.end(2);
    scene.end(1);
    let span = &scene.spans[&2];
    assert_eq!((span.trace_id, span.parent_span_id), (carried.trace_id, Some(carried.span_id)));
    assert_eq!(span.parent_from, ParentFrom::Header);
}

#[test]
fn addresses_that_are_used_again_mean_the_newer_connection() {
    let mut scene = Scene::new();
    scene.one_end(Role::Client, 1, 1, at(1000, 0));
    // Its end was not seen.
    scene.one_end(Role::Client, 2, 2, at(1000, 0));
    scene.one_end(Role::Server, 3, 3, at(1000, 0));
    [3, 2].into_iter().for_each(|serial| scene.end(serial));
    scene.other_end(3, 2);
    scene.now += 40_000_000_000;
    scene.one_end(Role::Client, 4, 1, at(2000, 0));
    scene.now += 40_000_000_000;
    scene.one_end(Role::Server, 5, 3, at(2000, 0));
    scene.end(5);
    scene.alone(5, ParentFrom::Root);
}

#[test]
fn addresses_of_two_namespaces_tell_nothing() {
    let mut scene = Scene::new();
    let at = at(1000, 0);
    for (serial, netns) in [(1, 1), (2, 2)] {
        scene.begin(Role::Client, serial, 1, |started| (started.at, started.netns) = (at, netns));
    }
    scene.one_end(Role::Server, 3, 3, at);
    [3, 2, 1].into_iter().for_each(|serial| scene.end(serial));
    scene.alone(3, ParentFrom::Root);
}

#[test]
fn one_whose_parent_becomes_doubtful_stays_the_parent_of_its_other_end() {
    let mut scene = Scene::new();
    scene.server(1, 1);
    scene.one_end(Role::Client, 2, 1, at(1000, 0));
    scene.one_end(Role::Server, 3, 2, at(1000, 0));
    scene.end(3);
    // Thread 1 serves two at once.
    scene.server(4, 1);
    [2, 4, 1].into_iter().for_each(|serial| scene.end(serial));
    let client = &scene.spans[&2];
    assert_eq!((client.parent_span_id, client.parent_from), (None, ParentFrom::Ambiguous));
    scene.other_end(3, 2);
}
