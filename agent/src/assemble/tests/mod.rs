//! What the tests of reassembly share: a sink that remembers, and the rules that hold for whatever
//! was put in.

use remora_common::record::Role;

use super::*;
use crate::exchange::{Exchange, HttpExchange, Started};

mod content;
mod conversations;
mod disturbed;
mod ends;
mod http2;
mod http2_disturbed;
mod kept;
mod kernel;
mod postgres;
mod redis;
mod wire;

use kernel::{Kernel, Owned};

/// Remembers everything.
#[derive(Debug, Default)]
struct Collector {
    started: Vec<Started>,
    answered: Vec<u64>,
    finished: Vec<Exchange>,
    lost: Vec<(u64, Lost)>,
    captures: Vec<(u64, u8)>,
}

impl Sink for Collector {
    fn started(&mut self, started: &Started) {
        self.started.push(started.clone());
    }

    fn answered(&mut self, serial: u64) {
        self.answered.push(serial);
    }

    fn finished(&mut self, exchange: Exchange) {
        self.finished.push(exchange);
    }

    fn lost(&mut self, serial: u64, reason: Lost) {
        self.lost.push((serial, reason));
    }

    fn capture(&mut self, conn_id: u64, policy: u8) {
        self.captures.push((conn_id, policy));
    }
}

impl Collector {
    /// Every announced exchange was settled once, nothing else was finished, times are in order.
    fn assert_settled(&self, stats: &Stats) {
        let mut open: Vec<u64> = self.started.iter().map(|started| started.serial).collect();
        open.sort_unstable();
        assert!(open.windows(2).all(|pair| pair[0] < pair[1]), "serials are unique");
        let announced = self.lost.iter().map(|lost| lost.0).filter(|&serial| serial != 0);
        let mut settled: Vec<u64> =
            self.finished.iter().map(|exchange| exchange.serial).chain(announced).collect();
        settled.sort_unstable();
        assert_eq!(open, settled, "each announced exchange is settled once");
        for exchange in &self.finished {
            assert!(exchange.start_mono_ns <= exchange.end_mono_ns);
            assert!(exchange.first_byte_mono_ns <= exchange.end_mono_ns);
        }
        assert_eq!(stats.started, self.started.len() as u64);
        assert_eq!(stats.finished, self.finished.len() as u64);
        assert_eq!(stats.lost, self.lost.len() as u64);
    }
}

/// Runs records through an assembler to its end, and again as a recording keeps them: that must not
/// make a difference.
fn assemble(limits: Limits, records: &[Owned]) -> (Collector, Stats) {
    let (out, stats) = run(limits, records);
    let (replayed, replayed_stats) = run(limits, &kept::as_kept(limits, records));
    let redacted = |out: &Collector| out.finished.iter().map(kept::redacted).collect::<Vec<_>>();
    assert_eq!(redacted(&replayed), redacted(&out));
    assert_eq!(replayed.started, out.started);
    assert_eq!((&replayed.lost, &replayed.captures), (&out.lost, &out.captures));
    assert_eq!(replayed_stats, stats);
    (out, stats)
}

fn run(limits: Limits, records: &[Owned]) -> (Collector, Stats) {
    let mut assembler = Assembler::new(limits);
    let mut out = Collector::default();
    let mut last_ns = 0;
    for owned in records {
        last_ns = last_ns.max(owned.mono_ns());
        assembler.record(&owned.record(), &mut out);
    }
    assembler.tick(last_ns + limits.end_grace_ns, &mut out);
    assembler.finish(last_ns + limits.end_grace_ns, &mut out);
    assert_eq!(assembler.connections(), 0);
    let stats = *assembler.stats();
    out.assert_settled(&stats);
    assert_eq!(stats.records(), records.len() as u64, "every record is in one column");
    (out, stats)
}

fn http(exchange: &Exchange) -> &HttpExchange {
    exchange.detail.http().expect("the exchange is HTTP's")
}

const GET: &[u8] = b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n";
const OK_2: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn server() -> Kernel {
    Kernel::opened(Role::Server, 0)
}

fn client() -> Kernel {
    Kernel::opened(Role::Client, 0)
}

fn get(target: &str) -> Vec<u8> {
    format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n").into_bytes()
}

fn answer(status: u16, content: &str) -> Vec<u8> {
    let len = content.len();
    format!("HTTP/1.1 {status} X\r\nContent-Length: {len}\r\n\r\n{content}").into_bytes()
}

/// Everything is told and nothing lost.
fn all(kernel: &Kernel) -> Vec<Exchange> {
    let (out, _) = assemble(Limits::default(), &kernel.records);
    assert_eq!(out.lost, []);
    out.finished
}

fn one(kernel: &Kernel) -> Exchange {
    let mut exchanges = all(kernel);
    assert_eq!(exchanges.len(), 1, "{exchanges:?}");
    exchanges.remove(0)
}

fn clean(exchange: &Exchange) -> &HttpExchange {
    assert_eq!((exchange.failure, exchange.marks), (None, Default::default()));
    http(exchange)
}

fn told(exchanges: &[Exchange]) -> Vec<(&str, u16)> {
    exchanges.iter().map(|exchange| (&*http(exchange).target, http(exchange).status)).collect()
}

fn lost(kernel: &Kernel) -> Vec<Lost> {
    let (out, _) = assemble(Limits::default(), &kernel.records);
    out.lost.iter().map(|lost| lost.1).collect()
}

fn chunk(len: usize) -> Vec<u8> {
    [format!("{len:x}\r\n").into_bytes(), vec![b'c'; len], b"\r\n".to_vec()].concat()
}

const CHUNKED: &[u8] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
