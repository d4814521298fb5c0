//! From records to exchanges: which request met which response, when, and how sure that is.
//!
//! [`Assembler`] finds the record's connection and keeps time; `connection` is the transport with its positions,
//! holes and ends; `conversation` is the protocol that is spoken on it, one file or folder each; `undecided` finds out
//! which; `pending` is what all protocols know of an exchange that is not over. Where records were lost, positions
//! decide: what can still be told for certain is told and marked, everything else is counted as lost with a reason.

use std::sync::Arc;

use hashbrown::{HashMap, hash_map::Entry};
use remora_common::record::{Close, CloseCause, Direction, Open, Role, Source, Stream, open_flag};

use crate::{
    accounting::Lost,
    decode::{Data, Record},
    exchange::{self, Endpoint, Sink},
};

mod asked;
mod connection;
mod conversation;
mod dialogue;
mod endpoint;
mod http;
mod http1;
mod http2;
mod kept;
mod limits;
mod pending;
mod postgres;
mod redis;
mod shared;
mod statement;
mod stats;
#[cfg(test)]
mod tests;
mod undecided;
mod wire;

use connection::Connection;
pub use http::{KeptHeader, KeptHeaders};
#[cfg(any(test, fuzzing))]
pub(crate) use http1::HeadMask;
pub use kept::Kept;
use kept::Place;
pub use limits::Limits;
use shared::{Cx, Shared};
pub use stats::Stats;

/// How often connections are looked through for time-outs, nanoseconds.
const SWEEP_NS: u64 = 1_000_000_000;

/// Reassembles any number of connections on one thread.
#[derive(Debug)]
pub struct Assembler {
    /// Ids are the kernel side's own, so nobody can choose them to collide; without a random seed what
    /// a sweep finds comes in the same order whenever a recording is replayed.
    connections: HashMap<u64, Box<Connection>, foldhash::fast::FixedState>,
    shared: Shared,
    swept_ns: u64,
}

impl Assembler {
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { connections: HashMap::default(), shared: Shared::new(limits), swept_ns: 0 }
    }

    /// Keeps these header fields of messages from now on, and puts together heads up to this length.
    pub fn keep_of_heads(&mut self, headers: KeptHeaders, max_head_len: usize) {
        self.shared.headers = headers;
        self.shared.limits.max_head_len = max_head_len;
    }

    /// From now on notes what a recording may keep of each record; to be called before the first one.
    pub fn keep(&mut self) {
        self.shared.kept = Some(Kept::default());
    }

    /// What may be kept of the last record, if it was a [`Record::Data`].
    #[must_use]
    pub fn kept(&self) -> Option<&Kept> {
        self.shared.kept.as_ref()
    }

    #[must_use]
    pub fn stats(&self) -> &Stats {
        &self.shared.stats
    }

    /// Connections followed at the moment.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.connections.len()
    }

    /// Takes one record. Records of a connection have to come in the order of the ring.
    pub fn record(&mut self, record: &Record<'_>, out: &mut impl Sink) {
        match record {
            Record::Data(data) => self.data(data, out),
            Record::Open { role, open } => self.open(*role, open, out),
            Record::Close { cause, close } => {
                let Entry::Occupied(mut entry) = self.connections.entry(close.conn_id) else {
                    self.shared.stats.records_elsewhere += 1;
                    return;
                };
                self.shared.stats.parsed += 1;
                if entry.get_mut().close(*cause, close, &mut self.shared, out) {
                    entry.remove();
                }
            }
            Record::Stream(stream) => self.stream(stream, out),
            Record::Process { .. } | Record::Listen(_) => {
                self.shared.stats.records_elsewhere += 1;
            }
        }
    }

    /// Whether [`Self::tick`] would do anything at `mono_ns`.
    #[must_use]
    pub fn is_due(&self, mono_ns: u64) -> bool {
        self.shared.due.front().is_some_and(|&(when_ns, _)| when_ns <= mono_ns)
            || mono_ns.saturating_sub(self.swept_ns) >= SWEEP_NS
    }

    /// Takes the end of a connection that no record tells of.
    pub fn gone(&mut self, close: &Close, out: &mut impl Sink) {
        if let Entry::Occupied(mut entry) = self.connections.entry(close.conn_id)
            && entry.get_mut().close(CloseCause::Gone, close, &mut self.shared, out)
        {
            entry.remove();
        }
    }

    /// Lets time pass: ends that were waited with, time-outs, idle connections. To be called every
    /// few milliseconds with `CLOCK_MONOTONIC`, not before the records up to then were taken.
    pub fn tick(&mut self, mono_ns: u64, out: &mut impl Sink) {
        let shared = &mut self.shared;
        while let Some(&(when_ns, conn_id)) = shared.due.front() {
            if when_ns > mono_ns {
                break;
            }
            shared.due.pop_front();
            if let Some(connection) = self.connections.get_mut(&conn_id) {
                connection.due(mono_ns, shared, out);
            }
        }
        if mono_ns.saturating_sub(self.swept_ns) >= SWEEP_NS {
            self.swept_ns = mono_ns;
            // Counted anew: what was dropped with its connection was not handed back.
            shared.heads_len = 0;
            self.connections.retain(|_, connection| {
                connection.sweep(mono_ns, shared, out);
                shared.heads_len += connection.heads_len();
                let keep = !connection.is_idle(mono_ns, &shared.limits);
                if !keep {
                    connection.give_up(mono_ns, shared, out);
                    shared.stats.connections_evicted += 1;
                    shared.stats.connections_idle += 1;
                }
                keep
            });
        }
    }

    /// Ends everything because the agent stops: what is known to be over is finished, what is not is
    /// lost with [`Lost::Stopped`].
    pub fn finish(&mut self, mono_ns: u64, out: &mut impl Sink) {
        self.tick(mono_ns, out);
        for (_, mut connection) in self.connections.drain() {
            connection.stop(mono_ns, &mut self.shared, out);
            self.shared.stats.connections_evicted += 1;
        }
        self.shared.due.clear();
    }

    fn data(&mut self, data: &Data<'_>, out: &mut impl Sink) {
        let full = self.connections.len() >= self.shared.limits.max_connections;
        let shared = &mut self.shared;
        shared.stats.bytes += u64::from(data.header.total_len);
        shared.stats.bytes_captured += u64::from(data.header.head_len);
        shared.keep(|kept| kept.begin(data));
        match self.connections.entry(data.header.conn_id) {
            Entry::Occupied(entry) => entry.into_mut().data(data, shared, out),
            Entry::Vacant(_) if full => {
                shared.stats.records_refused += 1;
                if undecided::begins_request(data.head) {
                    shared.keep(|kept| kept.start_line(Place::Head(0), data.head));
                    shared.stats.lost += 1;
                    out.lost(0, Lost::ConnectionsFull);
                }
            }
            Entry::Vacant(entry) => {
                shared.stats.connections += 1;
                let before = data.header.pos.saturating_add(data.header.other_pos);
                shared.stats.gaps += u64::from(before > 0);
                shared.stats.gap_bytes = shared.stats.gap_bytes.saturating_add(before);
                entry.insert(Box::new(unannounced(data))).data(data, shared, out);
            }
        }
    }

    fn stream<S: Sink>(&mut self, stream: &Stream, out: &mut S) {
        if stream.conn_id == 0 {
            self.shared.asked.note(stream);
        } else if let Some(serial) =
            self.connections.get(&stream.conn_id).and_then(|it| it.serial_of(stream.stream))
        {
            out.handled(serial, stream.context);
        } else {
            self.shared.stats.records_elsewhere += 1;
            return;
        }
        self.shared.stats.parsed += 1;
    }

    fn open<S: Sink>(&mut self, role: Role, open: &Open, out: &mut S) {
        let full = self.connections.len() >= self.shared.limits.max_connections;
        let stats = &mut self.shared.stats;
        match self.connections.entry(open.conn_id) {
            Entry::Occupied(mut entry) => {
                stats.parsed += 1;
                entry.get_mut().announced(role, open);
            }
            Entry::Vacant(_) if full => stats.records_refused += 1,
            Entry::Vacant(entry) => {
                stats.parsed += 1;
                stats.connections += 1;
                let joined = open.flags & open_flag::JOINED != 0;
                let info = endpoint::describe(open, Source::Socket, joined);
                if role == Role::Client
                    && let Some((client, server)) = info.addresses(exchange::Role::Client)
                {
                    self.shared.has_clients = true;
                    out.opened(client, server);
                }
                entry.insert(Box::new(Connection::new(Arc::new(info), role, open.mono_ns)));
            }
        }
    }
}

/// A connection whose [`Open`] was lost: nothing is known but what the record says.
fn unannounced(data: &Data<'_>) -> Connection {
    let info = exchange::Connection {
        id: data.header.conn_id,
        tgid: data.header.tgid,
        local: Endpoint::Unknown,
        remote: Endpoint::Unknown,
        source: data.source,
        netns: 0,
        joined: true,
    };
    let mut connection = Connection::new(Arc::new(info), Role::Unknown, data.header.mono_ns);
    connection.begin_at(data.direction, data.header.pos, data.header.other_pos);
    connection
}

/// Index of a direction's half.
const fn index(direction: Direction) -> usize {
    direction as usize
}

/// The role of a process that sees requests go in `requests`.
const fn role_of(requests: Direction) -> exchange::Role {
    match requests {
        Direction::Rx => exchange::Role::Server,
        Direction::Tx => exchange::Role::Client,
    }
}
