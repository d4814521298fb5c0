//! One function for each reader of bytes that come from outside: targets of `fuzz/`, and of the test
//! that runs their seeds. A function may only return; what it asserts holds for any input.

use std::{fs::File, io::Write as _, path::Path};

use remora_common::record::Kind;
use zerocopy::IntoBytes;

use crate::{
    accounting::Lost,
    assemble::{Assembler, HeadMask, Limits},
    attach::{gnutls, openssl, rustls},
    config::{Config, Flags},
    decode::{self, Record},
    discover::{self, Pattern, Ports, resource_attributes},
    exchange::{Exchange, Sink, Started},
    export::otlp::{Format, response},
    protocol::{
        Parse,
        chunked::{Chunked, Progress},
        http1, http2, postgres, redis,
    },
    recording::read::{Reader, Section},
    semantics::{
        self, Target, redact,
        route::{self, Routes},
    },
    tail,
    trace_context::{TraceParent, TraceState},
};

/// A target's name and what it does with an input.
pub type FuzzTarget = (&'static str, fn(&[u8]));

/// All of them.
pub const TARGETS: &[FuzzTarget] = &[
    ("http1", http1_head),
    ("chunked", chunked),
    ("http2", http2::fuzz::reader),
    ("hpack", http2::fuzz::blocks),
    ("redis_commands", redis::fuzz::commands),
    ("redis_replies", redis::fuzz::replies),
    ("postgres_frontend", postgres::fuzz::requests),
    ("postgres_backend", postgres::fuzz::replies),
    ("sql", semantics::sql::fuzz::sql),
    ("record", record),
    ("assembler", assembler),
    ("trace_context", trace_context),
    ("config", config),
    ("environment", environment),
    ("recording", recording),
    ("mask", mask),
    ("redact", redact),
    ("target", target),
    ("patterns", patterns),
    ("elf", elf),
    ("btf", btf),
    ("otlp_response", otlp_response),
    ("procfs", procfs),
];

fn http1_head(bytes: &[u8]) {
    match http1::request(bytes) {
        Parse::Parsed { value, used } => {
            assert!(used <= bytes.len() && !value.target.is_empty());
            assert!(http1::cut_request(bytes).is_some());
            // What is parsed does not depend on what follows it.
            assert_eq!(http1::request(&bytes[..used]), Parse::Parsed { value, used });
            assert_eq!(http1::request(&bytes[..used - 1]), Parse::NeedMore);
            value.framing();
            value.fields.lines().count();
        }
        Parse::NeedMore | Parse::NotThis(_) => {}
    }
    if let Parse::Parsed { value, used } = http1::response(bytes) {
        assert!(used <= bytes.len() && (100..1000).contains(&value.status));
        assert!(http1::cut_response(bytes).is_some());
        for method in [&b"HEAD"[..], b"CONNECT", b"GET"] {
            value.framing(http1::RequestKind::of(method));
        }
    }
    http1::side(bytes);
    assert!(http1::empty_lines(bytes) <= bytes.len());
}

/// The first byte says where the content is cut, the second where bytes are not captured.
fn chunked(bytes: &[u8]) {
    let [cut, hole, bytes @ ..] = bytes else { return };
    let mut whole = Chunked::default();
    let progress = whole.feed(bytes);
    let cut = usize::from(*cut).min(bytes.len());
    let mut cuts = Chunked::default();
    let in_two = match cuts.feed(&bytes[..cut]) {
        Progress::More => match cuts.feed(&bytes[cut..]) {
            Progress::Done(used) => Progress::Done(used + cut),
            other => other,
        },
        other => other,
    };
    assert_eq!(in_two, progress);
    let mut framing = vec![0; bytes.len()];
    Chunked::default().copy_framing(bytes, &mut framing);
    assert_eq!(Chunked::default().feed(&framing), progress);
    let mut holes = Chunked::default();
    if holes.feed(&bytes[..cut]) == Progress::More && holes.skip((*hole).into()) == Progress::More {
        holes.feed(&bytes[cut..]);
    }
}

/// Bytes as an aligned sample.
fn aligned(bytes: &[u8]) -> Vec<u64> {
    let mut words = vec![0; bytes.len().div_ceil(8)];
    words.as_mut_bytes()[..bytes.len()].copy_from_slice(bytes);
    words
}

fn record(bytes: &[u8]) {
    let words = aligned(bytes);
    if let Ok(record) = Record::decode(&words.as_bytes()[..bytes.len()]) {
        record.mono_ns();
        if let Record::Data(data) = record {
            assert!(data.head.len() as u32 == data.header.head_len);
        }
    }
}

/// Counts what it is told.
#[derive(Debug, Default, PartialEq)]
struct Told {
    started: Vec<Started>,
    lost: Vec<(u64, Lost)>,
    captures: Vec<(u64, u8)>,
    /// Of an exchange what a recording keeps in any case.
    finished: Vec<(u64, u16, u64, u64, u64)>,
}

impl Sink for Told {
    fn started(&mut self, started: &Started) {
        self.started.push(started.clone());
    }

    fn finished(&mut self, exchange: Exchange) {
        let (status, request_len, response_len) =
            exchange.detail.http().map_or_else(Default::default, |http| {
                (http.status, http.request_content_len, http.response_content_len)
            });
        let (serial, end_mono_ns) = (exchange.serial, exchange.end_mono_ns);
        self.finished.push((serial, status, request_len, response_len, end_mono_ns));
    }

    fn lost(&mut self, serial: u64, reason: Lost) {
        self.lost.push((serial, reason));
    }

    fn answered(&mut self, _: u64) {}

    fn capture(&mut self, conn_id: u64, policy: u8) {
        self.captures.push((conn_id, policy));
    }
}

/// Records of any kind, each with its length before it; and again with what a recording keeps.
fn assembler(bytes: &[u8]) {
    let mut first = Assembler::new(Limits { max_connections: 3, ..Limits::default() });
    first.keep();
    let mut second = Assembler::new(Limits { max_connections: 3, ..Limits::default() });
    let (mut told, mut told_again) = (Told::default(), Told::default());
    let mut rest = bytes;
    let (mut now_ns, mut records) = (0_u64, 0_u64);
    while let [low, high, more @ ..] = rest {
        let len = usize::from(u16::from_le_bytes([*low, *high])).min(more.len());
        let (sample, after) = more.split_at(len);
        rest = after;
        let words = aligned(&arranged(sample));
        let Ok(record) = Record::decode(words.as_bytes()) else { continue };
        records += 1;
        first.record(&record, &mut told);
        match (record, first.kept()) {
            (Record::Data(data), Some(kept)) => {
                let header = remora_common::record::Data { tail: kept.tail(), ..*data.header };
                let data = decode::Data { header: &header, head: kept.head(), ..data };
                second.record(&Record::Data(data), &mut told_again);
            }
            _ => second.record(&record, &mut told_again),
        }
        now_ns = now_ns.max(record.mono_ns());
        if records % 8 == 0 {
            first.tick(now_ns, &mut told);
            second.tick(now_ns, &mut told_again);
        }
    }
    first.finish(now_ns, &mut told);
    second.finish(now_ns, &mut told_again);
    let stats = *first.stats();
    assert_eq!(stats.records(), records);
    assert_eq!(told, told_again, "a recording gives the same exchanges");
    assert_eq!(*second.stats(), stats);
    let announced = told.lost.iter().filter(|(serial, _)| *serial != 0).count();
    assert_eq!(told.started.len(), told.finished.len() + announced);
}

/// Makes a record of few bytes, so that an input of some hundred holds a conversation: two connections,
/// positions that follow one another unless a byte says otherwise.
fn arranged(sample: &[u8]) -> Vec<u8> {
    let [kind, flags, skip, other, content @ ..] = sample else { return sample.to_vec() };
    if kind % 4 == 0 {
        return sample.to_vec();
    }
    if kind % 4 == 3 {
        let close = remora_common::record::Close {
            kind: Kind::Close as u8,
            cause: flags % 4,
            errno: u32::from(*skip),
            mono_ns: u64::from(*other) << 22,
            conn_id: u64::from(flags >> 7),
            pos_rx: u64::from(*skip),
            pos_tx: u64::from(*other),
            ..remora_common::record::Close::default()
        };
        return close.as_bytes().to_vec();
    }
    let len = content.len() as u32;
    let mut tail = [0; 8];
    let end = content.len().min(8);
    tail[8 - end..].copy_from_slice(&content[content.len() - end..]);
    let header = remora_common::record::Data {
        kind: Kind::Data as u8,
        direction: flags & 1,
        flags: u32::from(flags >> 1 & 0xf),
        mono_ns: u64::from(*other) << 20,
        conn_id: u64::from(flags >> 7),
        pos: u64::from(*skip),
        other_pos: u64::from(*other),
        tgid: 1,
        total_len: len + u32::from(*skip & 7) * u32::from(kind % 4 == 2),
        head_len: len,
        tail,
        ..remora_common::record::Data::default()
    };
    [header.as_bytes(), content].concat()
}

fn trace_context(bytes: &[u8]) {
    if let Some(parent) = TraceParent::parse(bytes) {
        assert!(parent.trace_id.0 != [0; 16] && parent.span_id.0 != [0; 8]);
    }
    let values = bytes.split(|&byte| byte == b'\n');
    if let Some(state) = TraceState::parse(values) {
        tail::trace_state::fuzz(&state);
        assert_eq!(TraceState::parse([state.0.as_bytes()]), Some(state));
    }
}

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

fn config(bytes: &[u8]) {
    let Some(text) = text(bytes) else { return };
    let loaded = Config::load(&Flags::default(), |_| None, Some((Path::new("f.yaml"), text)));
    if let Err(error) = loaded {
        assert!(!error.to_string().is_empty());
    }
}

/// `NAME=value` lines.
fn environment(bytes: &[u8]) {
    let Some(text) = text(bytes) else { return };
    let lookup = |name: &str| {
        let mut lines = text.lines().filter_map(|line| line.split_once('='));
        lines.find(|(key, _)| *key == name).map(|(_, value)| value.to_owned())
    };
    if let Ok(loaded) = Config::load(&Flags::default(), lookup, None) {
        loaded.warnings.iter().for_each(|warning| assert!(!warning.to_string().is_empty()));
    }
    for line in text.lines() {
        let _ = resource_attributes::parse(line);
    }
}

fn recording(bytes: &[u8]) {
    let Ok(mut reader) = Reader::new(bytes) else { return };
    let mut sections = 0_usize;
    while let Ok(Some(section)) = reader.next() {
        if let Section::Record(sample) = section {
            let _ = Record::decode(sample);
        }
        sections += 1;
    }
    // Compression has its bounds.
    assert!(sections <= bytes.len().saturating_mul(1 << 20));
}

/// The first byte says where the head is cut.
fn mask(bytes: &[u8]) {
    let [cut, head @ ..] = bytes else { return };
    let cut = usize::from(*cut).min(head.len());
    for certain in [false, true] {
        let masked = |head: &[u8]| {
            let mut out = vec![0; head.len()];
            let mut mask = HeadMask::new();
            mask.mask(&head[..cut], certain, &mut out[..cut]);
            mask.mask(&head[cut..], certain, &mut out[cut..]);
            out
        };
        let once = masked(head);
        assert_eq!(masked(&once), once);
        let ends = |bytes: &[u8]| memchr::memchr_iter(b'\n', bytes).collect::<Vec<_>>();
        assert_eq!(ends(&once), ends(head));
        let kind = |bytes: &[u8]| match http1::request(bytes) {
            Parse::Parsed { used, .. } => Some(used),
            _ => None,
        };
        if http1::side(head) == Some(http1::Side::Request) {
            assert_eq!(kind(&once), kind(head));
        }
    }
}

fn redact(bytes: &[u8]) {
    let Some(text) = text(bytes) else { return };
    let once = redact::redact_query(text).into_owned();
    assert_eq!(redact::redact_query(&once), once.as_str());
    let once = redact::redact_path(text).into_owned();
    assert_eq!(redact::redact_path(&once), once.as_str());
    redact::is_sensitive(text);
}

fn target(bytes: &[u8]) {
    let Some(text) = text(bytes) else { return };
    for method in ["GET", "CONNECT", "OPTIONS"] {
        let target = Target::parse(method, text);
        assert!(target.path.len() <= text.len().max(1));
    }
    semantics::fuzz_addresses(text);
}

/// Patterns in the first line, what they are held against in the others.
fn patterns(bytes: &[u8]) {
    let Some(text) = text(bytes) else { return };
    let mut lines = text.lines();
    let Some(first) = lines.next() else { return };
    let glob = first.parse::<Pattern>();
    let route = route::Pattern::parse(first);
    let _ = first.parse::<Ports>();
    let config =
        route::Config { patterns: route.into_iter().collect(), ..route::Config::default() };
    let mut routes = Routes::new(config);
    for line in lines {
        if let Ok(glob) = &glob {
            glob.matches_exe(Path::new(line));
            glob.matches_comm(line);
        }
        routes.route("service", line, 200);
    }
}

fn elf(bytes: &[u8]) {
    let Ok(mut file) = tempfile() else { return };
    if file.write_all(bytes).is_ok() {
        let _ = openssl::plan(&file);
        let _ = gnutls::plan(&file);
        let _ = rustls::plan(&file);
        rustls::fuzz_functions(&file);
        let _ = crate::attach::stacks::fuzz_tls_in(&file);
    }
}

fn tempfile() -> rustix::io::Result<File> {
    rustix::fs::memfd_create("elf", rustix::fs::MemfdFlags::CLOEXEC).map(File::from)
}

fn btf(bytes: &[u8]) {
    crate::bpf::fuzz_layout(bytes);
}

fn otlp_response(bytes: &[u8]) {
    for format in [Format::Protobuf, Format::Json] {
        let answer = response::partial_success(format, bytes);
        assert!(answer.message.len() <= bytes.len().saturating_mul(3));
    }
    for content_type in ["application/json", "application/x-protobuf", "text/plain"] {
        response::failure_message(content_type, bytes);
    }
    response::retry_delay(bytes);
}

/// What `/proc` and control groups say.
fn procfs(bytes: &[u8]) {
    let Some(text) = text(bytes) else { return };
    discover::fuzz_texts(text);
}

#[cfg(test)]
mod tests {
    use std::{fs, path::PathBuf};

    use super::*;

    /// Seeds, and inputs that once did harm.
    #[test]
    fn every_seed_is_read_by_its_target() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/fuzz");
        for (name, run) in TARGETS {
            let seeds: Vec<PathBuf> = fs::read_dir(folder.join(name))
                .unwrap_or_else(|error| panic!("tests/data/fuzz/{name}: {error}"))
                .map(|entry| entry.unwrap().path())
                .collect();
            assert!(!seeds.is_empty(), "{name} has no seeds");
            for seed in seeds {
                run(&fs::read(&seed).unwrap());
            }
        }
    }
}
