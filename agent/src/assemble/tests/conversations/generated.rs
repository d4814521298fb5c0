//! Conversations that are made up: messages of all shapes, and the calls that move them.

use proptest::{collection::vec, prelude::*};
use remora_common::record::{Direction, Role};

use super::*;

/// How a message's content is framed, with its length.
#[derive(Clone, Copy, Debug)]
pub(super) enum Content {
    None,
    Length(usize),
    /// Chunks of at most 700 bytes; with a trailer section.
    Chunked(usize, bool),
    UntilClose(usize),
}

#[derive(Clone, Debug)]
pub(super) struct Turn {
    pub(super) method: &'static str,
    pub(super) status: u16,
    pub(super) request: Content,
    pub(super) response: Content,
    pub(super) interim: bool,
    pub(super) head_fill: usize,
    pub(super) bare_lf: bool,
    pub(super) absolute: bool,
}

/// Turns that are sent in one go before any is answered: more than one is pipelining.
pub(super) type Batch = Vec<Turn>;

pub(super) fn content() -> impl Strategy<Value = Content> {
    let len = prop_oneof![0_usize..20, 20_usize..3000, 3000_usize..40_000];
    prop_oneof![
        2 => Just(Content::None),
        3 => len.clone().prop_map(Content::Length),
        2 => (len, any::<bool>()).prop_map(|(len, trailer)| Content::Chunked(len, trailer)),
    ]
}

pub(super) fn turn() -> impl Strategy<Value = Turn> {
    let method = prop_oneof![
        4 => Just("GET"), 2 => Just("POST"), 1 => Just("HEAD"), 1 => Just("OPTIONS"), 1 => Just("BREW"),
    ];
    let status = prop_oneof![
        5 => Just(200_u16), 1 => Just(204), 1 => Just(304), 1 => Just(404), 1 => Just(500),
    ];
    let fill = prop_oneof![6 => Just(0_usize), 2 => 0_usize..3000, 1 => 3000_usize..50_000];
    (method, status, content(), content(), any::<(bool, bool, bool)>(), fill).prop_map(
        |(method, status, request, response, (interim, bare_lf, absolute), head_fill)| Turn {
            method,
            status,
            request,
            response,
            interim,
            head_fill,
            bare_lf,
            absolute,
        },
    )
}

/// Few bytes, so that all of a pipelined burst is within what the kernel copies.
pub(super) fn small_turn() -> impl Strategy<Value = Turn> {
    (turn(), 0_usize..20, 0_usize..20).prop_map(|(turn, request, response)| {
        let small = |content, len| match content {
            Content::None | Content::UntilClose(_) => Content::None,
            Content::Length(_) => Content::Length(len),
            Content::Chunked(_, trailer) => Content::Chunked(len, trailer),
        };
        Turn {
            request: small(turn.request, request),
            response: small(turn.response, response),
            interim: false,
            head_fill: 0,
            ..turn
        }
    })
}

pub(super) fn batches() -> impl Strategy<Value = Vec<Batch>> {
    let batch = prop_oneof![3 => vec(turn(), 1..2), 1 => vec(small_turn(), 2..4)];
    vec(batch, 1..6)
}

pub(super) fn end(turn: &Turn) -> &'static str {
    if turn.bare_lf { "\n" } else { "\r\n" }
}

/// The fields that announce content, and its bytes. Content never holds what looks like a head.
pub(super) fn framed(content: Content, end: &str) -> (String, Vec<u8>) {
    match content {
        Content::None => (String::new(), Vec::new()),
        Content::UntilClose(len) => (String::new(), vec![b'u'; len]),
        Content::Length(len) => (format!("Content-Length: {len}{end}"), vec![b'l'; len]),
        Content::Chunked(len, trailer) => {
            let mut bytes = Vec::new();
            for chunk in vec![b'c'; len].chunks(700) {
                bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                bytes.extend_from_slice(chunk);
                bytes.extend_from_slice(b"\r\n");
            }
            bytes.extend_from_slice(if trailer { b"0\r\nT: r\r\n\r\n" } else { b"0\r\n\r\n" });
            (format!("Transfer-Encoding: chunked{end}"), bytes)
        }
    }
}

pub(super) fn request_bytes(turn: &Turn, id: usize) -> Vec<u8> {
    let end = end(turn);
    let (fields, content) = framed(turn.request, end);
    let origin = if turn.absolute { "http://host" } else { "" };
    let fill = "f".repeat(turn.head_fill);
    let head = format!("{} {origin}/{id} HTTP/1.1{end}X: {fill}{end}{fields}{end}", turn.method);
    [head.into_bytes(), content].concat()
}

pub(super) const INTERIM: &[u8] = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";

/// The final response carries its id as the length of its head, which is how the tests know it again.
pub(super) fn response_bytes(turn: &Turn, id: usize) -> Vec<u8> {
    let end = end(turn);
    let fields_allowed = framed(turn.response, end);
    let no_content = turn.method == "HEAD" || turn.status == 204 || turn.status == 304;
    let (fields, content) = match (no_content, turn.response) {
        (true, _) => (fields_allowed.0, Vec::new()),
        (false, Content::None) => (format!("Content-Length: 0{end}"), Vec::new()),
        (false, _) => fields_allowed,
    };
    let start = format!("HTTP/1.1 {} X{end}{fields}", turn.status);
    let fill = "i".repeat(response_head_len(id) - start.len() - 3 - 2 * end.len());
    [format!("{start}I: {fill}{end}{end}").into_bytes(), content].concat()
}

pub(super) fn response_head_len(id: usize) -> usize {
    120 + id
}

pub(super) fn has_no_content(turn: &Turn) -> bool {
    turn.method == "HEAD" || matches!(turn.status, 204 | 304)
}

/// Moves `bytes` in calls as long as `cuts` says. The first one of a message that follows another in
/// the same turn is long enough to be recognised.
pub(super) fn in_pieces<'a>(
    kernel: &mut Kernel,
    direction: Direction,
    bytes: &[u8],
    cuts: &mut impl Iterator<Item = &'a usize>,
    follows: bool,
) {
    let mut rest = bytes;
    let mut least = if follows { 7 } else { 1 };
    while !rest.is_empty() {
        let len = rest.len().min(*cuts.next().unwrap()).max(rest.len().min(least));
        kernel.moved(direction, &rest[..len]);
        rest = &rest[len..];
        least = 1;
    }
}

/// Plays the batches through the kernel; calls are as long as `cuts` says, over and over.
pub(super) fn play(kernel: &mut Kernel, requests: Direction, batches: &[Batch], cuts: &[usize]) {
    let mut cuts = cuts.iter().cycle();
    let mut send = |kernel: &mut Kernel, direction, bytes: &[u8], follows| {
        in_pieces(kernel, direction, bytes, &mut cuts, follows);
    };
    let mut id = 0;
    for batch in batches {
        if batch.len() > 1 {
            // As the agent has it done at the second request that is open.
            kernel.capture = policy::ALL;
        }
        for (at, turn) in batch.iter().enumerate() {
            send(kernel, requests, &request_bytes(turn, id + at), at > 0);
        }
        for (at, turn) in batch.iter().enumerate() {
            if turn.interim {
                send(kernel, requests.flip(), INTERIM, at > 0);
            }
            send(kernel, requests.flip(), &response_bytes(turn, id + at), at > 0 || turn.interim);
        }
        id += batch.len();
    }
}

/// An exchange's id by its request and by its response.
pub(super) fn ids(exchange: &Exchange) -> (usize, Option<usize>) {
    let http = http(exchange);
    let request = http.target.rsplit('/').next().unwrap().parse().unwrap();
    let answered = http.status != 0;
    let response = || (http.response_head_len as usize).checked_sub(120).expect("a whole head");
    (request, answered.then(response))
}

pub(super) fn assert_no_wrong_pair(out: &Collector, turns: &[&Turn]) {
    let mut seen = Vec::new();
    for exchange in &out.finished {
        let (request, response) = ids(exchange);
        assert!(response.is_none_or(|response| response == request), "{:?}", ids(exchange));
        assert!(request < turns.len() && !seen.contains(&request));
        if response.is_some() {
            assert_eq!(http(exchange).status, turns[request].status);
        }
        seen.push(request);
    }
}

pub(super) fn role(requests: Direction) -> Role {
    if requests == Direction::Rx { Role::Server } else { Role::Client }
}

pub(super) fn direction() -> impl Strategy<Value = Direction> {
    prop_oneof![Just(Direction::Rx), Just(Direction::Tx)]
}

/// Calls of a few bytes while heads move, or of all sizes.
pub(super) fn cuts() -> impl Strategy<Value = Vec<usize>> {
    prop_oneof![vec(1_usize..2000, 1..20), vec(1_usize..20, 1..5), vec(2000_usize..70_000, 1..5),]
}
