//! Threads that are started for a request, and end with it: what they ask for is for that request.
//!
//! A thread that goes on may be one of a pool, which was started when there was more to do: it works for others, too. So what a
//! thread has asked for waits until the thread has ended: at most [`PATIENCE_NS`] behind the answer to what it has asked for last. One that
//! ends later may have waited for something else to do.
//!
//! Ruby has its threads run on those of the kernel one after the other: there a thread that ends has served anybody ([`Helpers::none`]).

use std::sync::Arc;

use hashbrown::HashMap;

use super::{Server, Verdict};

/// A thread that was started for a request ends soon after it has got what it has asked for.
const PATIENCE_NS: u64 = 100_000_000;
/// Threads of one process whose beginning is remembered.
const MAX: usize = 4096;
/// Threads start threads, and so on.
const MAX_DEPTH: usize = 4;

/// A thread.
#[derive(Clone, Copy, Debug)]
struct Helper {
    /// Who has started it.
    by: u32,
    start_ns: u64,
    /// When it has ended; 0: it has not.
    end_ns: u64,
}

/// What a thread that goes on has asked for.
#[derive(Debug)]
struct Held {
    thread: u32,
    until_ns: u64,
    calls: Vec<u64>,
    server: Arc<Server>,
}

/// The threads of a process, by number.
#[derive(Debug, Default)]
pub(super) struct Helpers {
    threads: HashMap<u32, Helper, super::Random>,
    held: Vec<Held>,
    none: bool,
}

impl Helpers {
    /// No thread of the process works for one request.
    pub(super) fn none() -> Self {
        Self { none: true, ..Self::default() }
    }

    pub(super) fn started(&mut self, thread: u32, by: u32, start_ns: u64) {
        if self.threads.len() < MAX && !self.none {
            self.threads.insert(thread, Helper { by, start_ns, end_ns: 0 });
        }
    }

    /// A thread has ended; `waits`: something that it has asked for is not decided.
    pub(super) fn ended(&mut self, thread: u32, waits: bool, now_ns: u64, verdict: &mut Verdict) {
        if waits && let Some(helper) = self.threads.get_mut(&thread) {
            helper.end_ns = now_ns;
        } else {
            self.threads.remove(&thread);
        }
        self.held.retain_mut(|held| {
            if held.thread != thread || held.until_ns < now_ns {
                return true;
            }
            let children = held.calls.drain(..).map(|call| (call, Arc::clone(&held.server)));
            verdict.children.extend(children);
            false
        });
    }

    /// The threads that `worker` has started since `since_ns`, those that these have started, and so on.
    pub(super) fn of(&self, worker: u32, since_ns: u64) -> Vec<u32> {
        let mut found = Vec::new();
        if self.threads.is_empty() {
            return found;
        }
        let mut parents = vec![worker];
        for _ in 0..MAX_DEPTH {
            let is_child = |(_, helper): &(&u32, &Helper)| {
                helper.start_ns >= since_ns && parents.contains(&helper.by)
            };
            let children: Vec<u32> = self.threads.iter().filter(is_child).map(|it| *it.0).collect();
            if children.is_empty() {
                break;
            }
            found.extend(&children);
            parents = children;
        }
        found
    }

    /// Whether this thread, which has got what it has asked for last at `got_ns`, has ended soon; `None`: it has not ended. One that has is
    /// forgotten.
    pub(super) fn take_ended(&mut self, thread: u32, got_ns: u64) -> Option<bool> {
        let end_ns = self.threads.get(&thread)?.end_ns;
        if end_ns == 0 {
            return None;
        }
        self.threads.remove(&thread);
        Some(end_ns <= got_ns.saturating_add(PATIENCE_NS))
    }

    /// What `thread` has asked for is for `server`, if it ends soon after `got_ns`.
    pub(super) fn hold(&mut self, thread: u32, calls: Vec<u64>, server: Arc<Server>, got_ns: u64) {
        self.held.push(Held {
            thread,
            until_ns: got_ns.saturating_add(PATIENCE_NS),
            calls,
            server,
        });
    }

    /// Gives up what has waited long enough. Whether something waits still.
    pub(super) fn expire(&mut self, now_ns: u64, verdict: &mut Verdict) -> bool {
        self.held.retain_mut(|held| {
            let waits = held.until_ns >= now_ns;
            if !waits {
                verdict.unknown.append(&mut held.calls);
            }
            waits
        });
        !self.held.is_empty()
    }
}
