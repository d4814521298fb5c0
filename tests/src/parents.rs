//! Whose child is a request that a service makes while it serves others? The oracle is a service that is asked for `/turn/7` and asks
//! another one for `/first/7` and `/second/7`: a parent is right if it has the same number.

use std::{
    collections::BTreeMap,
    io::{Read as _, Write as _},
    net::TcpStream,
    thread,
};

use crate::{
    agent::Done,
    client::Connection,
    spans::{CLIENT, SERVER, Span},
};

/// So many clients ask for so many orders each, in a row, over one connection.
#[derive(Clone, Copy, Debug)]
pub struct Traffic {
    pub clients: usize,
    pub each: usize,
}

impl Traffic {
    #[must_use]
    pub const fn orders(self) -> usize {
        self.clients * self.each
    }

    /// # Panics
    /// If one is not answered.
    pub fn ask(self, port: u16, how: &str) {
        thread::scope(|scope| {
            for client in 0..self.clients {
                scope.spawn(move || self.one_after_the_other(port, how, client * self.each));
            }
        });
    }

    /// What one client asks for: from order `first` on.
    ///
    /// # Panics
    /// If one is not answered.
    pub fn one_after_the_other(self, port: u16, how: &str, first: usize) {
        let mut connection = Connection::open(port).unwrap();
        for order in first..first + self.each {
            let answer = connection.get(&format!("/{how}/{order}"), "").unwrap();
            assert_eq!((answer.status, answer.body.as_str()), (200, "done"));
        }
    }
}

impl Traffic {
    /// Each client asks for two orders before it reads the first answer, now in one piece, now in two.
    ///
    /// # Panics
    /// If one is not answered.
    pub fn ask_two_at_a_time(self, port: u16, how: &str) {
        thread::scope(|scope| {
            for client in 0..self.clients {
                scope.spawn(move || {
                    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
                    for pair in 0..self.each / 2 {
                        let first = client * self.each + pair * 2;
                        let request =
                            |order| format!("GET /{how}/{order} HTTP/1.1\r\nhost: t\r\n\r\n");
                        stream.write_all(request(first).as_bytes()).unwrap();
                        if pair % 2 == 0 {
                            thread::yield_now();
                        }
                        stream.write_all(request(first + 1).as_bytes()).unwrap();
                        let mut bytes = Vec::new();
                        while bytes.windows(8).filter(|it| it == b"\r\n\r\ndone").count() < 2 {
                            let mut more = [0; 1024];
                            let len = stream.read(&mut more).unwrap();
                            assert!(len > 0, "it hung up");
                            bytes.extend_from_slice(&more[..len]);
                        }
                    }
                });
            }
        });
    }
}

/// Each connection asks for `each` orders from `from` on by `/once/N`, one after the other, all connections at once.
///
/// # Panics
/// If an answer is not 200.
pub fn ask_on(connections: &mut [Connection], each: usize, from: usize) {
    thread::scope(|scope| {
        for (client, connection) in connections.iter_mut().enumerate() {
            scope.spawn(move || {
                for order in 0..each {
                    let order = from + client * each + order;
                    let answer = connection.get(&format!("/once/{order}"), "").unwrap();
                    assert_eq!(answer.status, 200);
                }
            });
        }
    });
}

/// `7` of `/first/7`.
///
/// # Panics
/// If it asks for something else.
#[must_use]
pub fn order(span: &Span) -> usize {
    let line = span.line();
    let method = span.text("rpc.method");
    let path = if method.is_empty() { line.split(' ').nth(1).expect("a path") } else { method };
    path.rsplit('/').next().and_then(|number| number.parse().ok()).expect("a number")
}

/// No CLIENT span lies under another order's span. Returns how many of those asked for by this name have a parent, and how many
/// there are.
///
/// # Panics
/// If one does.
#[must_use]
pub fn none_is_wrong(done: &Done, name: &str) -> (usize, usize) {
    let servers = done.spans.iter().filter(|span| span.kind == SERVER);
    let servers: BTreeMap<&str, &Span> = servers.map(|span| (&*span.span_id, span)).collect();
    let clients = done.spans.iter().filter(|span| span.kind == CLIENT);
    let is_called = |span: &&Span| {
        span.line().contains(&format!("/{name}/"))
            || span.text("rpc.method").starts_with(&format!("{name}/"))
    };
    let clients = clients.filter(is_called);
    let (mut with, mut all, mut wrong) = (0, 0, Vec::new());
    for span in clients {
        all += 1;
        let Some(parent) = &span.parent else { continue };
        let parent = servers[&**parent];
        if order(span) != order(parent) {
            wrong.push((span, parent));
            continue;
        }
        assert_eq!(span.trace_id, parent.trace_id);
        assert_eq!(span.text("remora.parent"), "context");
        with += 1;
    }
    println!("/{name}: {with} of {all} with their parent, {} wrong", wrong.len());
    if let Some((span, parent)) = wrong.first() {
        panic!("{} wrong parents, the first: {parent:?}\nof {span:?}", wrong.len());
    }
    (with, all)
}
