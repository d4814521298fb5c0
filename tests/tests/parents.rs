//! Whose child is a request that a service makes while it serves others? Right or not at all.
//!
//! The oracle is the target: a service that is asked for `/order/7` asks another one for `/first/7` and
//! `/second/7`.

use std::{
    collections::BTreeMap,
    path::Path,
    process::{Command, Stdio},
    thread,
};

use remora_tests::{
    agent::{Agent, Done},
    backend,
    client::Connection,
    process::Running,
    skip,
    spans::{CLIENT, SERVER, Span},
};

const CLIENTS: usize = 16;
const EACH: usize = 24;
const ORDERS: usize = CLIENTS * EACH;

/// 16 clients at once, each with a new connection for every 6 requests; `fields` of an order go along.
fn traffic(port: u16, fields: fn(usize) -> String) {
    thread::scope(|scope| {
        for client in 0..CLIENTS {
            scope.spawn(move || {
                let mut connection = None;
                for order in client * EACH..(client + 1) * EACH {
                    if order % 6 == 0 {
                        connection = None;
                    }
                    let connection =
                        connection.get_or_insert_with(|| Connection::open(port).unwrap());
                    let answer =
                        connection.get(&format!("/order/{order}"), &fields(order)).unwrap();
                    assert_eq!((answer.status, answer.body.as_str()), (200, "done"));
                }
            });
        }
    });
}

/// Runs `program` with `file` of `targets/` under the agent and the traffic.
fn watch(program: &str, file: &str, fields: fn(usize) -> String) -> Done {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("targets").join(file);
    let mut service = Command::new(program);
    service.arg(path).arg(backend::start().to_string()).stdin(Stdio::piped());
    let mut service = Running::start(&mut service);
    let port = service.line().parse().unwrap();
    let agent = Agent::on(&[service.pid()], &["--ring-size", "32MiB"]);
    traffic(port, fields);
    drop(service);
    agent.stop()
}

fn nothing(_: usize) -> String {
    String::new()
}

/// `7` of `/first/7`.
fn order(span: &Span) -> usize {
    let line = span.line();
    let path = line.split(' ').nth(1).unwrap();
    path.rsplit('/').next().unwrap().parse().unwrap()
}

fn servers(done: &Done) -> BTreeMap<&str, &Span> {
    let servers = done.spans.iter().filter(|span| span.kind == SERVER);
    servers.map(|span| (&*span.span_id, span)).collect()
}

fn clients(done: &Done) -> impl Iterator<Item = &Span> {
    done.spans.iter().filter(|span| span.kind == CLIENT)
}

/// No CLIENT span lies under another order's span, and one without a parent says whether one could
/// have been meant. Returns how many have a parent, are ambiguous, and are roots.
fn none_is_wrong(done: &Done) -> [usize; 3] {
    let servers = servers(done);
    let all = (ORDERS * 3) as u64;
    assert_eq!(done.requests(), [all, all, 0, 0], "{}", done.log);
    assert_eq!((servers.len(), clients(done).count()), (ORDERS, ORDERS * 2));
    let mut counts = [0; 3];
    for span in clients(done) {
        let mark = span.text("remora.parent");
        let Some(parent) = &span.parent else {
            counts[match mark {
                "ambiguous" => 1,
                "none" => 2,
                _ => panic!("a span without a parent is marked {mark:?}"),
            }] += 1;
            continue;
        };
        let parent = servers[&**parent];
        assert_eq!(order(span), order(parent), "wrong parent: {parent:?}\nof {span:?}");
        assert_eq!(span.trace_id, parent.trace_id);
        assert_eq!(mark, "context");
        counts[0] += 1;
    }
    counts
}

#[test]
fn threaded_service_has_every_client_span_under_its_own_server_span() {
    if skip::without_root() || skip::without(&["python3"]) {
        return;
    }
    let done = watch("python3", "threads.py", nothing);
    assert_eq!(none_is_wrong(&done), [ORDERS * 2, 0, 0], "{}", done.log);
}

#[test]
fn python_event_loop_has_no_wrong_parent() {
    if skip::without_root() || skip::without(&["python3"]) {
        return;
    }
    let [parent, ambiguous, none] = none_is_wrong(&watch("python3", "event_loop.py", nothing));
    println!("asyncio: {parent} with their parent, {ambiguous} ambiguous, {none} roots");
    assert!(ambiguous > 0);
}

#[test]
fn node_event_loop_has_no_wrong_parent() {
    if skip::without_root() || skip::without(&["node"]) {
        return;
    }
    let [parent, ambiguous, none] = none_is_wrong(&watch("node", "event_loop.js", nothing));
    println!("node: {parent} with their parent, {ambiguous} ambiguous, {none} roots");
    assert!(ambiguous > 0);
}

/// Two thirds of the orders come with a trace, half of these unsampled.
fn trace(order: usize) -> String {
    match order % 3 {
        0 => String::new(),
        sampled => {
            format!("traceparent: 00-{}-{}-0{}\r\n", trace_id(order), caller(order), sampled % 2)
        }
    }
}

fn trace_id(order: usize) -> String {
    format!("{:032x}", order + 0xabc_0000)
}

fn caller(order: usize) -> String {
    format!("{:016x}", order + 0xdef_0000)
}

#[test]
fn incoming_trace_passes_to_the_server_span_and_its_children() {
    if skip::without_root() || skip::without(&["python3"]) {
        return;
    }
    let done = watch("python3", "threads.py", trace);
    let (all, unsampled) = ((ORDERS * 3) as u64, ORDERS as u64);
    assert_eq!(done.requests(), [all, all - unsampled, unsampled, 0], "{}", done.log);
    let servers = servers(&done);
    assert_eq!((servers.len(), clients(&done).count()), (ORDERS / 3 * 2, ORDERS / 3 * 4));
    for span in servers.values() {
        let order = order(span);
        match order % 3 {
            0 => assert_eq!((&span.parent, span.text("remora.parent")), (&None, "none")),
            1 => {
                assert_eq!(span.trace_id, trace_id(order));
                assert_eq!(span.parent, Some(caller(order)));
                assert_eq!(span.text("remora.parent"), "header");
            }
            _ => panic!("was not to be sampled: {span:?}"),
        }
    }
    for span in clients(&done) {
        let parent = servers[span.parent.as_deref().expect("a parent")];
        assert_eq!(order(span), order(parent));
        assert_eq!(span.trace_id, parent.trace_id);
        assert_eq!(span.text("remora.parent"), "context");
    }
}
