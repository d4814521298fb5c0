//! Which server request a thread (goroutine, task) is handling right now, or that one cannot tell.
//!
//! A thread that has two server requests open at once is an event loop: what it does next may be for
//! either. That never changes, so such a context is remembered, within bounds, and infers nothing
//! any more, not even when only one request is open. A goroutine that has two open pipelines: what it handles is not what it
//! has read last. More signs are taken: a server request that
//! begins while a client request of the same thread is unanswered (a blocking thread would sit in
//! that client request), a response moved by another thread than its request (the whole process hands
//! work over between threads), and requests too many to be remembered.

use hashbrown::{HashMap, HashSet};
use remora_common::context;

use super::pools::Thread;
use crate::exchange::Role;

/// What runs: a thread, or, with a context beyond the thread, a unit of it ([`remora_common::context`]). Then the thread does
/// not matter: goroutines and tasks move between threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Unit {
    tgid: u32,
    tid: u32,
    unit: u32,
}

impl Unit {
    const fn is_thread(self) -> bool {
        self.unit == 0
    }
}

/// Where something ran, and for which of the requests that the unit serves one after the other; a thread does not say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Context {
    unit: Unit,
    work: u32,
}

impl Context {
    pub(super) const fn of(tgid: u32, tid: u32, context: u64) -> Self {
        let (unit, work) = (context::unit(context), context::work(context));
        Self { unit: Unit { tgid, tid: if unit == 0 { tid } else { 0 }, unit }, work }
    }

    /// The thread, where nothing is known beyond it.
    pub(super) fn thread(self) -> Option<Thread> {
        let Unit { tgid, tid, .. } = self.unit;
        self.unit.is_thread().then_some(Thread { tgid, tid })
    }

    /// Another unit's of the same process.
    pub(super) const fn of_same_process(self, context: u64) -> Self {
        Self::of(self.unit.tgid, self.unit.tid, context)
    }
}

/// What a context is handling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Handling {
    /// No server request is open on it.
    Nothing,
    /// Exactly this one.
    One(u64),
    /// Some are, and which one is not known.
    CannotTell,
}

/// An open exchange.
#[derive(Clone, Copy, Debug)]
struct Open {
    serial: u64,
    work: u32,
}

/// A unit with something open.
#[derive(Debug, Default)]
struct Busy {
    /// Open exchanges, rarely more than one each.
    servers: Vec<Open>,
    clients: Vec<Open>,
    /// A server request of this context was lost and may still be worked on.
    lost_server: bool,
    /// `servers` began after that.
    uncertain: bool,
}

impl Busy {
    fn is_idle(&self) -> bool {
        self.servers.is_empty() && self.clients.is_empty() && !self.lost_server
    }
}

#[derive(Debug)]
pub(super) struct Threads {
    busy: HashMap<Unit, Busy, foldhash::fast::RandomState>,
    /// The work of the latest server request of each unit beyond the thread: the next one has another, or its first bytes were read
    /// while that one was open, and what was begun for the one cannot be told from what is for the other.
    latest: HashMap<Unit, u32, foldhash::fast::RandomState>,
    /// Units that served several requests at once.
    multiplexing: HashSet<Unit, foldhash::fast::RandomState>,
    /// Processes whose threads mean nothing: they hand work over, or have more such threads than can
    /// be remembered one by one.
    processes: HashSet<u32, foldhash::fast::RandomState>,
    /// Processes with more such units beyond the thread than can be remembered one by one.
    units_of: HashSet<u32, foldhash::fast::RandomState>,
    /// There are even more of those: nothing is inferred any more.
    everything: bool,
    max_contexts: usize,
    /// Contexts that something coarser took the place of.
    pub(super) not_remembered: u64,
}

impl Threads {
    pub(super) fn new(max_contexts: usize) -> Self {
        Self {
            busy: HashMap::default(),
            latest: HashMap::default(),
            multiplexing: HashSet::default(),
            processes: HashSet::default(),
            units_of: HashSet::default(),
            everything: false,
            max_contexts,
            not_remembered: 0,
        }
    }

    pub(super) fn server_started(&mut self, context: Context, serial: u64) {
        let Context { unit, work } = context;
        let busy = self.busy.entry(unit).or_default();
        let asks = busy.clients.iter().any(|client| client.work == work);
        let event_loop = !busy.servers.is_empty() || asks;
        if busy.servers.is_empty() {
            busy.uncertain = std::mem::take(&mut busy.lost_server);
        }
        busy.servers.push(Open { serial, work });
        // What is forgotten here is long idle, or there are more units than can be busy.
        if self.latest.len() >= self.max_contexts {
            self.latest.clear();
        }
        let again = work != 0 && self.latest.insert(unit, work) == Some(work);
        // Only while it is open: what is read behind it has a work of its own.
        busy.uncertain |= again;
        if event_loop {
            self.distrust(context);
        }
    }

    pub(super) fn client_started(&mut self, context: Context, serial: u64) {
        let Context { unit, work } = context;
        self.busy.entry(unit).or_default().clients.push(Open { serial, work });
    }

    /// An exchange of this role is not open any more; it may have ended before.
    pub(super) fn ended(&mut self, role: Role, context: Context, serial: u64) {
        if let Some(busy) = self.busy.get_mut(&context.unit) {
            let list = match role {
                Role::Server => &mut busy.servers,
                Role::Client => &mut busy.clients,
            };
            list.retain(|open| open.serial != serial);
            if busy.is_idle() {
                self.busy.remove(&context.unit);
            }
        }
    }

    /// Client requests that are open on the unit of this context.
    pub(super) fn clients(&self, context: Context) -> Vec<u64> {
        let clients = self.busy.get(&context.unit).map(|busy| &*busy.clients).unwrap_or_default();
        clients.iter().map(|open| open.serial).collect()
    }

    pub(super) fn handling(&self, context: Context) -> Handling {
        let Context { unit, work } = context;
        let Some(busy) = self.busy.get(&unit) else { return Handling::Nothing };
        match *busy.servers {
            [] => Handling::Nothing,
            _ if busy.uncertain || self.is_multiplexing(unit) => Handling::CannotTell,
            [open] if open.work == work => Handling::One(open.serial),
            // For a request that is over: somebody has begun this then, and goes on.
            [_] => Handling::Nothing,
            _ => Handling::CannotTell,
        }
    }

    /// Whether this thread has served several requests at once.
    pub(super) fn has_multiplexed(&self, thread: Thread) -> bool {
        let Thread { tgid, tid } = thread;
        self.everything || self.multiplexing.contains(&Unit { tgid, tid, unit: 0 })
    }

    /// Whether what was inferred on this context may stand.
    pub(super) fn trusts(&self, context: Context) -> bool {
        !self.is_multiplexing(context.unit)
    }

    /// This process moves requests between threads: only contexts beyond them mean something.
    pub(super) fn distrust_threads_of(&mut self, tgid: u32) {
        if self.everything || self.processes.contains(&tgid) {
            return;
        }
        if self.processes.len() < self.max_contexts {
            self.processes.insert(tgid);
            self.multiplexing.retain(|other| other.tgid != tgid || !other.is_thread());
        } else {
            self.everything = true;
            self.not_remembered += 1;
        }
    }

    fn is_multiplexing(&self, unit: Unit) -> bool {
        let processes = if unit.is_thread() { &self.processes } else { &self.units_of };
        self.everything || self.multiplexing.contains(&unit) || processes.contains(&unit.tgid)
    }

    /// Nothing is inferred from this context any more.
    pub(super) fn distrust(&mut self, context: Context) {
        let unit = context.unit;
        if self.is_multiplexing(unit) {
            return;
        }
        if self.multiplexing.len() < self.max_contexts {
            self.multiplexing.insert(unit);
            return;
        }
        self.not_remembered += 1;
        if unit.is_thread() {
            self.distrust_threads_of(unit.tgid);
        } else if self.units_of.len() < self.max_contexts {
            self.units_of.insert(unit.tgid);
            self.multiplexing.retain(|other| other.tgid != unit.tgid || other.is_thread());
        } else {
            self.everything = true;
        }
    }

    /// A server request of this context was lost: the next one is not to be trusted.
    pub(super) fn server_lost(&mut self, context: Context) {
        // Bounded like the other table; a context that cannot be remembered is an event loop.
        if self.busy.contains_key(&context.unit) || self.busy.len() < self.max_contexts {
            self.busy.entry(context.unit).or_default().lost_server = true;
        } else {
            self.distrust(context);
        }
    }

    pub(super) fn process_gone(&mut self, tgid: u32) {
        self.busy.retain(|unit, _| unit.tgid != tgid);
        self.latest.retain(|unit, _| unit.tgid != tgid);
        self.multiplexing.retain(|unit| unit.tgid != tgid);
        self.processes.remove(&tgid);
        self.units_of.remove(&tgid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: Context = Context::of(1, 2, 0);

    #[test]
    fn handles_one_request_from_its_start_to_its_end() {
        let mut threads = Threads::new(8);
        assert_eq!(threads.handling(T), Handling::Nothing);
        threads.server_started(T, 7);
        assert_eq!(threads.handling(T), Handling::One(7));
        assert_eq!(threads.handling(Context::of(1, 3, 0)), Handling::Nothing);
        threads.ended(Role::Server, T, 7);
        assert_eq!(threads.handling(T), Handling::Nothing);
        assert!(threads.busy.is_empty());
    }

    /// Of process 1, on thread 2.
    const fn goroutine(unit: u64, work: u32) -> Context {
        Context::of(1, 2, context::context(unit, work))
    }

    #[test]
    fn context_beyond_the_thread_is_found_on_any_thread() {
        let mut threads = Threads::new(8);
        let key = context::context(99, 1);
        threads.server_started(Context::of(1, 2, key), 7);
        assert_eq!(threads.handling(Context::of(1, 3, key)), Handling::One(7));
        assert_eq!(threads.handling(goroutine(98, 1)), Handling::Nothing);
        assert_eq!(threads.handling(Context::of(1, 2, 0)), Handling::Nothing);
        assert_eq!(threads.handling(Context::of(2, 2, key)), Handling::Nothing);
    }

    #[test]
    fn what_was_begun_for_an_earlier_request_is_not_for_the_next_one_of_the_same_goroutine() {
        let mut threads = Threads::new(8);
        threads.server_started(goroutine(9, 1), 1);
        threads.client_started(goroutine(9, 1), 2);
        threads.ended(Role::Server, goroutine(9, 1), 1);
        threads.server_started(goroutine(9, 2), 3);
        assert_eq!(threads.handling(goroutine(9, 1)), Handling::Nothing, "begun for the first");
        assert_eq!(threads.handling(goroutine(9, 2)), Handling::One(3));
    }

    #[test]
    fn goroutine_with_two_open_requests_is_never_trusted_again() {
        let mut threads = Threads::new(8);
        threads.server_started(goroutine(9, 1), 1);
        threads.server_started(goroutine(9, 2), 2);
        assert_eq!(threads.handling(goroutine(9, 1)), Handling::CannotTell);
        threads.ended(Role::Server, goroutine(9, 1), 1);
        assert_eq!(threads.handling(goroutine(9, 2)), Handling::CannotTell);
        assert!(!threads.trusts(goroutine(9, 1)), "what was inferred before is taken back");
    }

    #[test]
    fn request_that_was_read_with_the_one_before_is_not_told_from_it() {
        let mut threads = Threads::new(8);
        threads.server_started(goroutine(9, 1), 1);
        threads.ended(Role::Server, goroutine(9, 1), 1);
        threads.server_started(goroutine(9, 1), 2);
        assert_eq!(threads.handling(goroutine(9, 1)), Handling::CannotTell);
    }

    #[test]
    fn full_table_of_goroutines_distrusts_those_of_one_process() {
        let mut threads = Threads::new(2);
        for unit in 1..=3 {
            threads.distrust(goroutine(unit, 1));
        }
        threads.server_started(goroutine(4, 1), 1);
        assert_eq!(threads.handling(goroutine(4, 1)), Handling::CannotTell);
        let other = Context::of(2, 2, context::context(4, 1));
        threads.server_started(other, 2);
        assert_eq!(threads.handling(other), Handling::One(2));
        threads.server_started(T, 3);
        assert_eq!(threads.handling(T), Handling::One(3), "its threads are as they were");
        threads.process_gone(1);
        threads.server_started(goroutine(5, 1), 4);
        assert_eq!(threads.handling(goroutine(5, 1)), Handling::One(4));
    }

    #[test]
    fn event_loop_is_never_trusted_again() {
        let mut threads = Threads::new(8);
        threads.server_started(T, 1);
        threads.server_started(T, 2);
        assert_eq!(threads.handling(T), Handling::CannotTell);
        threads.ended(Role::Server, T, 1);
        assert_eq!(threads.handling(T), Handling::CannotTell);
        threads.ended(Role::Server, T, 2);
        threads.server_started(T, 3);
        assert_eq!(threads.handling(T), Handling::CannotTell);
        threads.process_gone(T.unit.tgid);
        threads.server_started(T, 4);
        assert_eq!(threads.handling(T), Handling::One(4));
    }

    #[test]
    fn process_that_hands_work_over_is_trusted_by_context_only() {
        let mut threads = Threads::new(8);
        threads.distrust_threads_of(1);
        threads.server_started(T, 1);
        assert_eq!(threads.handling(T), Handling::CannotTell);
        threads.server_started(goroutine(99, 1), 2);
        assert_eq!(threads.handling(goroutine(99, 1)), Handling::One(2));
    }

    #[test]
    fn serving_while_a_client_request_is_unanswered_is_an_event_loop() {
        let mut threads = Threads::new(8);
        threads.client_started(T, 1);
        threads.server_started(T, 2);
        assert_eq!(threads.handling(T), Handling::CannotTell);
    }

    #[test]
    fn request_after_a_lost_one_is_not_trusted_and_the_next_is() {
        let mut threads = Threads::new(8);
        threads.server_lost(T);
        threads.server_started(T, 2);
        assert_eq!(threads.handling(T), Handling::CannotTell);
        threads.ended(Role::Server, T, 2);
        threads.server_started(T, 3);
        assert_eq!(threads.handling(T), Handling::One(3));
    }

    #[test]
    fn full_table_of_event_loops_distrusts_processes_then_everything() {
        let mut threads = Threads::new(2);
        let context = |tgid, tid| Context::of(tgid, tid, 0);
        for tid in 1..=3 {
            threads.distrust(context(1, tid));
        }
        threads.server_started(context(1, 9), 1);
        assert_eq!(threads.handling(context(1, 9)), Handling::CannotTell);
        threads.server_started(context(5, 9), 2);
        assert_eq!(threads.handling(context(5, 9)), Handling::One(2));
        for tgid in 2..=6 {
            threads.distrust(context(tgid, 1));
            threads.distrust(context(tgid, 2));
        }
        assert!(threads.everything);
        assert_eq!(threads.handling(context(5, 9)), Handling::CannotTell);
        assert!(threads.multiplexing.len() <= 2 && threads.processes.len() <= 2);
    }

    #[test]
    fn ended_process_leaves_nothing() {
        let mut threads = Threads::new(8);
        threads.server_started(T, 1);
        threads.server_started(T, 2);
        threads.process_gone(1);
        threads.ended(Role::Server, T, 1);
        threads.server_started(T, 3);
        assert_eq!(threads.handling(T), Handling::One(3));
    }
}
