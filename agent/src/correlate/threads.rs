//! Which server request a thread (goroutine, task) is handling right now, or that one cannot tell.
//!
//! A thread that has two server requests open at once is an event loop: what it does next may be for
//! either. That never changes, so such a context is remembered, within bounds, and infers nothing
//! any more, not even when only one request is open. More signs are taken: a server request that
//! begins while a client request of the same thread is unanswered (a blocking thread would sit in
//! that client request), a response moved by another thread than its request (the whole process hands
//! work over between threads), and requests too many to be remembered.

use hashbrown::{HashMap, HashSet};

use crate::exchange::Role;

/// Where something ran. With a context beyond the thread the thread does not matter: goroutines and
/// tasks move between threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Context {
    tgid: u32,
    tid: u32,
    context: u64,
}

impl Context {
    pub(super) const fn of(tgid: u32, tid: u32, context: u64) -> Self {
        Self { tgid, tid: if context == 0 { tid } else { 0 }, context }
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

/// A context with something open.
#[derive(Debug, Default)]
struct Busy {
    /// Serials of open exchanges, rarely more than one each.
    servers: Vec<u64>,
    clients: Vec<u64>,
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
    busy: HashMap<Context, Busy, foldhash::fast::RandomState>,
    /// Contexts that served several requests at once.
    multiplexing: HashSet<Context, foldhash::fast::RandomState>,
    /// Processes whose threads mean nothing: they hand work over, or have more such threads than can
    /// be remembered one by one.
    processes: HashSet<u32, foldhash::fast::RandomState>,
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
            multiplexing: HashSet::default(),
            processes: HashSet::default(),
            everything: false,
            max_contexts,
            not_remembered: 0,
        }
    }

    pub(super) fn server_started(&mut self, context: Context, serial: u64) {
        let busy = self.busy.entry(context).or_default();
        let event_loop = !busy.servers.is_empty() || !busy.clients.is_empty();
        if busy.servers.is_empty() {
            busy.uncertain = std::mem::take(&mut busy.lost_server);
        }
        busy.servers.push(serial);
        if event_loop {
            self.distrust(context);
        }
    }

    pub(super) fn client_started(&mut self, context: Context, serial: u64) {
        self.busy.entry(context).or_default().clients.push(serial);
    }

    /// An exchange of this role is not open any more; it may have ended before.
    pub(super) fn ended(&mut self, role: Role, context: Context, serial: u64) {
        if let Some(busy) = self.busy.get_mut(&context) {
            let list = match role {
                Role::Server => &mut busy.servers,
                Role::Client => &mut busy.clients,
            };
            list.retain(|&open| open != serial);
            if busy.is_idle() {
                self.busy.remove(&context);
            }
        }
    }

    /// Client requests that are open on this context.
    pub(super) fn clients(&self, context: Context) -> Vec<u64> {
        self.busy.get(&context).map(|busy| busy.clients.clone()).unwrap_or_default()
    }

    pub(super) fn handling(&self, context: Context) -> Handling {
        let Some(busy) = self.busy.get(&context) else { return Handling::Nothing };
        match *busy.servers {
            [] => Handling::Nothing,
            [serial] if !busy.uncertain && !self.is_multiplexing(context) => Handling::One(serial),
            _ => Handling::CannotTell,
        }
    }

    /// Whether what was inferred on this context may stand.
    pub(super) fn trusts(&self, context: Context) -> bool {
        !self.is_multiplexing(context)
    }

    /// This process moves requests between threads: only contexts beyond them mean something.
    pub(super) fn distrust_threads_of(&mut self, tgid: u32) {
        if self.everything || self.processes.contains(&tgid) {
            return;
        }
        if self.processes.len() < self.max_contexts {
            self.processes.insert(tgid);
            self.multiplexing.retain(|other| other.tgid != tgid || other.context != 0);
        } else {
            self.everything = true;
            self.not_remembered += 1;
        }
    }

    fn is_multiplexing(&self, context: Context) -> bool {
        self.everything
            || self.multiplexing.contains(&context)
            || (context.context == 0 && self.processes.contains(&context.tgid))
    }

    /// Nothing is inferred from this context any more.
    pub(super) fn distrust(&mut self, context: Context) {
        if self.is_multiplexing(context) {
            return;
        }
        if self.multiplexing.len() < self.max_contexts {
            self.multiplexing.insert(context);
            return;
        }
        self.not_remembered += 1;
        if context.context == 0 {
            self.distrust_threads_of(context.tgid);
        } else {
            self.everything = true;
        }
    }

    /// A server request of this context was lost: the next one is not to be trusted.
    pub(super) fn server_lost(&mut self, context: Context) {
        // Bounded like the other table; a context that cannot be remembered is an event loop.
        if self.busy.contains_key(&context) || self.busy.len() < self.max_contexts {
            self.busy.entry(context).or_default().lost_server = true;
        } else {
            self.distrust(context);
        }
    }

    pub(super) fn process_gone(&mut self, tgid: u32) {
        self.busy.retain(|context, _| context.tgid != tgid);
        self.multiplexing.retain(|context| context.tgid != tgid);
        self.processes.remove(&tgid);
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

    #[test]
    fn context_beyond_the_thread_is_found_on_any_thread() {
        let mut threads = Threads::new(8);
        threads.server_started(Context::of(1, 2, 99), 7);
        assert_eq!(threads.handling(Context::of(1, 3, 99)), Handling::One(7));
        assert_eq!(threads.handling(Context::of(1, 2, 98)), Handling::Nothing);
        assert_eq!(threads.handling(Context::of(1, 2, 0)), Handling::Nothing);
        assert_eq!(threads.handling(Context::of(2, 2, 99)), Handling::Nothing);
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
        threads.process_gone(T.tgid);
        threads.server_started(T, 4);
        assert_eq!(threads.handling(T), Handling::One(4));
    }

    #[test]
    fn process_that_hands_work_over_is_trusted_by_context_only() {
        let mut threads = Threads::new(8);
        threads.distrust_threads_of(1);
        threads.server_started(T, 1);
        assert_eq!(threads.handling(T), Handling::CannotTell);
        threads.server_started(Context::of(1, 2, 99), 2);
        assert_eq!(threads.handling(Context::of(1, 2, 99)), Handling::One(2));
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
