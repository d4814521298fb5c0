//! What a recording consists of: a header, then blocks, each with a checksum and compressed or not, of
//! sections, each with a type and a length. Numbers are little-endian, as are the kernel's records on
//! every machine that Remora runs on.

use std::collections::BTreeMap;

use remora_common::record::{Close, Data, Listen, Open, Process, Stream};
use serde::{Deserialize, Serialize};

use crate::{assemble, attribute::Value, resource::Resource};

/// The first bytes. One that is no ASCII, and line ends that a transfer as text would spoil.
pub const MAGIC: [u8; 8] = *b"\x89RMR\r\n\x1a\n";
/// Raised when an older reader could misunderstand a file; sections that it does not know it skips.
pub const VERSION: u32 = 1;
/// Magic, version, four bytes of zero.
pub const HEADER_LEN: usize = 16;

/// The first bytes of a block.
pub const BLOCK: [u8; 4] = *b"BLCK";
/// [`BLOCK`], stored length, length of the sections, codec in four bytes, checksum of what is stored,
/// checksum of the 20 bytes before it.
pub const BLOCK_HEADER_LEN: usize = 24;
/// Longest block, stored or not: what a reader has to have room for.
pub const MAX_BLOCK_LEN: usize = 16 << 20;

/// How a block is stored: as it is, or by Zstandard.
pub const CODEC_NONE: u32 = 0;
pub const CODEC_ZSTD: u32 = 1;

/// Type in two bytes, two of zero, length in four. What follows is filled up to a multiple of 8, so
/// that records are aligned.
pub const SECTION_HEADER_LEN: usize = 8;

/// Types of sections. Numbers are never given a new meaning.
pub mod section {
    /// [`Facts`](super::Facts) as JSON; the first of all.
    pub const FACTS: u16 = 1;
    /// A record as the kernel wrote it; its content is masked.
    pub const RECORD: u16 = 2;
    /// A sample that was no record, without its bytes.
    pub const UNDECODABLE: u16 = 3;
    /// Time passed in reassembly: monotonic nanoseconds.
    pub const TICK: u16 = 4;
    /// Nanoseconds from the monotonic to the realtime clock, signed, from here on.
    pub const CLOCK: u16 = 5;
    /// [`Target`](super::Target) as JSON: a process is watched.
    pub const TARGET: u16 = 6;
    /// Process id: it is not watched any more.
    pub const GONE: u16 = 7;
    /// How many records are missing here: the disk was too slow.
    pub const LOST: u16 = 8;
    /// [`End`](super::End) as JSON; the last of all.
    pub const END: u16 = 9;
    /// The end of a connection that went unseen with its process: a struct as in a record.
    pub const ORPHAN: u16 = 10;
    /// Correlation forgot what is old: monotonic nanoseconds.
    pub const FORGOT: u16 = 11;
}

/// Lengths of the structs in [`section::RECORD`]. Members are only ever added at the end: a reader
/// with longer structs takes zeros for what is missing, one with shorter structs ignores the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layout {
    pub data: usize,
    pub open: usize,
    pub close: usize,
    pub process: usize,
    pub listen: usize,
    /// Recordings of earlier versions have none.
    #[serde(default = "stream_len")]
    pub stream: usize,
}

impl Layout {
    /// Of this version.
    pub const HERE: Self = Self {
        data: size_of::<Data>(),
        open: size_of::<Open>(),
        close: size_of::<Close>(),
        process: size_of::<Process>(),
        listen: size_of::<Listen>(),
        stream: stream_len(),
    };
}

const fn stream_len() -> usize {
    size_of::<Stream>()
}

/// Bounds of reassembly that decide what becomes of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    pub max_connections: usize,
    pub max_head_len: usize,
}

impl Limits {
    #[must_use]
    pub fn of(limits: &assemble::Limits) -> Self {
        let assemble::Limits { max_connections, max_head_len, .. } = *limits;
        Self { max_connections, max_head_len }
    }

    #[must_use]
    pub fn of_assembler(self) -> assemble::Limits {
        let Self { max_connections, max_head_len } = self;
        assemble::Limits { max_connections, max_head_len, ..assemble::Limits::default() }
    }
}

/// What holds for the whole recording.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    /// Version of the agent.
    pub agent: String,
    pub layout: Layout,
    pub limits: Limits,
    /// Ids of traces and spans begin here, and come in the same order again.
    pub seed: [u64; 4],
    pub start_mono_ns: u64,
    /// Nanoseconds from the monotonic to the realtime clock at the beginning.
    pub offset_ns: i64,
    /// Resource attributes of the host.
    pub host: BTreeMap<String, serde_json::Value>,
    /// How system calls were seen, and of what.
    pub door: String,
    pub selection: String,
    /// Names of query parameters that were configured to be hidden: those that hide what a replay,
    /// which cannot see it any more, has to call hidden too.
    pub query_keys: Vec<String>,
}

/// A process that is watched.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Target {
    pub tgid: u32,
    /// Position of the selector that took it.
    pub selector: usize,
    pub resource: BTreeMap<String, serde_json::Value>,
    /// Whether it is not a service instance by itself.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub shared: bool,
}

/// What is known at the end.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct End {
    pub mono_ns: u64,
    /// What the kernel side gave up on, by reason.
    pub drops: Vec<(String, u64)>,
    /// Processes whose TLS was not seen, by library.
    pub tls_blind_spots: BTreeMap<String, u64>,
}

/// Attributes as JSON: texts, numbers (whole ones are integers), truth values, lists of texts.
#[must_use]
pub fn attributes<'a>(
    attributes: impl IntoIterator<Item = (&'a str, &'a Value)>,
) -> BTreeMap<String, serde_json::Value> {
    let json = |value: &Value| match value {
        Value::Str(text) => serde_json::Value::from(&**text),
        Value::Int(number) => (*number).into(),
        Value::Bool(truth) => (*truth).into(),
        Value::Double(number) => (*number).into(),
        Value::Strs(texts) => texts.iter().map(|text| &**text).collect::<Vec<_>>().into(),
    };
    attributes.into_iter().map(|(key, value)| (key.to_owned(), json(value))).collect()
}

/// The reverse; what is none of these is left out.
#[must_use]
pub fn resource(attributes: &BTreeMap<String, serde_json::Value>) -> Resource {
    use serde_json::Value as Json;
    let value = |json: &Json| match json {
        Json::String(text) => Some(Value::from(text.as_str())),
        Json::Bool(truth) => Some(Value::Bool(*truth)),
        Json::Number(number) => match number.as_i64() {
            Some(number) => Some(Value::Int(number)),
            None => number.as_f64().map(Value::Double),
        },
        Json::Array(texts) => {
            let texts = texts.iter().map(|text| text.as_str().map(Into::into));
            texts.collect::<Option<_>>().map(Value::Strs)
        }
        Json::Null | Json::Object(_) => None,
    };
    Resource::new(
        attributes.iter().filter_map(|(key, json)| Some((key.as_str().into(), value(json)?))),
    )
}

/// CRC-32 as in gzip.
#[must_use]
pub fn checksum(bytes: &[u8]) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    crc.sum()
}
