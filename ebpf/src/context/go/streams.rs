//! Streams of HTTP/2: one goroutine reads the frames of a connection, and others handle or make the requests.
//!
//! - `net/http` and `golang.org/x/net/http2` as server: a goroutine for each request begins with `runHandler`, which is given the stream.
//! - As client: `doRequest` is a goroutine for each request, which `RoundTrip` starts, and writes the request itself.
//! - grpc-go as server: the goroutine that reads the frames starts one for each request while it works on its headers
//!   (`operateHeaders`), and that one calls `handleStream`. Goroutines that serve one request after the other are not told of.
//! - As client: `NewStream` hands the headers (`controlBuffer.executeAndPut`) to the goroutine that writes for all (`headerHandler` of
//!   `loopyWriter`), which has chosen the stream by then.

use aya_ebpf::{
    macros::{map, uprobe},
    maps::LruHashMap,
    programs::ProbeContext,
};
use remora_common::{
    context::{self, Go},
    record::{Kind, Stream},
};

use super::super::work::{self, Unit};
use crate::{
    connection, emit,
    golang::{fourth, registers, socket_below},
    maps::selection,
    tls::own_stack,
    user::read_user,
};

/// A stream of a server's connection.
#[repr(C)]
#[derive(Clone, Copy)]
struct Request {
    conn_id: u64,
    stream: u64,
}

/// By goroutine: the stream whose headers it works on, or whose it was started to handle.
#[map]
static GO_STREAMS: LruHashMap<Unit, Request> = LruHashMap::with_max_entries(1024, 0);

/// Contexts that have handed over headers which were not written yet, by the headers' address.
#[map]
static GO_HEADERS: LruHashMap<Unit, u64> = LruHashMap::with_max_entries(1024, 0);

/// The goroutine that calls, whose `runtime.g` is at `g`; `None` if it cannot be told.
#[inline(always)]
fn goroutine(g: u64) -> Option<Unit> {
    let tgid = emit::current().0;
    let id = super::goroutine(selection(tgid), g);
    (id != 0).then_some(Unit::new(id, tgid))
}

/// `goroutine` handles the request.
#[inline(always)]
fn handles(goroutine: &Unit, request: &Request) {
    let context = work::handles(goroutine, request.conn_id);
    tell(goroutine, request, context, 0);
}

#[inline(always)]
fn tell(goroutine: &Unit, request: &Request, context: u64, unit: u32) {
    emit::record(&Stream {
        kind: Kind::Stream as u8,
        reserved: [0; 3],
        stream: request.stream as u32,
        mono_ns: emit::now(),
        conn_id: request.conn_id,
        context,
        tgid: goroutine.tgid as u32,
        unit,
    });
}

/// `(*serverConn).runHandler(writer, ..)` of `http2`.
#[uprobe]
pub fn go_h2_handles(ctx: ProbeContext) -> u32 {
    own_stack(&ctx);
    let [server, writer, _, g] = registers(&ctx);
    let Some(goroutine) = goroutine(g) else { return 0 };
    let stream = || {
        let stream = read_user::<u64>(read_user::<u64>(writer)?)?;
        read_user::<u32>(stream.wrapping_add(Go::STREAM_ID))
    };
    // An interface: its type, its value.
    let value = read_user::<u64>(server.wrapping_add(Go::SERVER_CONN + 8));
    if let Some(stream) = stream()
        && let Some((_, socket)) = value.and_then(socket_below)
    {
        let conn_id = connection::id_of(&socket);
        if conn_id != 0 {
            handles(&goroutine, &Request { conn_id, stream: stream.into() });
        }
    }
    0
}

/// `(*clientStream).doRequest` of `http2`.
#[uprobe]
pub fn go_h2_asks(ctx: ProbeContext) -> u32 {
    own_stack(&ctx);
    if let Some(goroutine) = goroutine(registers(&ctx)[3]) {
        work::writes_for_starter(&goroutine);
    }
    0
}

/// `(*http2Server).operateHeaders(frame, ..)` or `(context, frame, ..)` of grpc-go's transport.
#[uprobe]
pub fn go_grpc_reads(ctx: ProbeContext) -> u32 {
    own_stack(&ctx);
    let [_, second, _, g] = registers(&ctx);
    let Some(reader) = goroutine(g) else { return 0 };
    let Some(conn_id) = work::of(&reader).map(|work| work.conn_id) else { return 0 };
    let stream = match stream_of(second) {
        0 => stream_of(fourth(&ctx)),
        stream => stream,
    };
    if stream != 0 {
        let _ = GO_STREAMS.insert(reader, Request { conn_id, stream: stream.into() }, 0);
    }
    0
}

/// The stream of the `MetaHeadersFrame` at `frame`; 0 if that is none. It begins with its `HeadersFrame`, and that with its header: whether
/// that is valid, the frame's type, its flags and length, and the stream.
#[inline(always)]
fn stream_of(frame: u64) -> u32 {
    /// Whether the header is valid, which it is not any more, and the frame's type.
    const HEADERS: u64 = 0x0100;
    let header = || read_user::<[u64; 2]>(read_user::<u64>(frame)?);
    match header() {
        Some([first, second]) if first & 0xfffe == HEADERS => second as u32,
        _ => 0,
    }
}

/// Each return of it.
#[uprobe]
pub fn go_grpc_has_read(ctx: ProbeContext) -> u32 {
    own_stack(&ctx);
    if let Some(reader) = goroutine(registers(&ctx)[3]) {
        let _ = GO_STREAMS.remove(reader);
    }
    0
}

/// `parent` starts another goroutine.
#[inline(always)]
pub fn starts(parent: &Unit, child: impl Fn() -> Unit) {
    // SAFETY: the value is copied at once.
    if let Some(request) = unsafe { GO_STREAMS.get(parent) }.copied() {
        let _ = GO_STREAMS.insert(child(), request, 0);
    }
}

/// `(*Server).handleStream` of grpc-go.
#[uprobe]
pub fn go_grpc_handles(ctx: ProbeContext) -> u32 {
    own_stack(&ctx);
    let Some(goroutine) = goroutine(registers(&ctx)[3]) else { return 0 };
    // SAFETY: the value is copied at once.
    let Some(request) = unsafe { GO_STREAMS.get(goroutine) }.copied() else { return 0 };
    let _ = GO_STREAMS.remove(goroutine);
    handles(&goroutine, &request);
    0
}

/// `(*controlBuffer).executeAndPut(function, item)` of grpc-go's transport.
#[uprobe]
pub fn go_grpc_puts(ctx: ProbeContext) -> u32 {
    own_stack(&ctx);
    let Some(goroutine) = goroutine(registers(&ctx)[3]) else { return 0 };
    // An interface: its type, its value. Also if it works for nothing: what was there before is not for this request.
    let _ = GO_HEADERS.insert(
        Unit { id: fourth(&ctx), tgid: goroutine.tgid },
        work::asks(&goroutine),
        0,
    );
    0
}

/// `(*loopyWriter).headerHandler(headers)` of grpc-go's transport.
#[uprobe]
pub fn go_grpc_writes(ctx: ProbeContext) -> u32 {
    own_stack(&ctx);
    let [_, headers, _, g] = registers(&ctx);
    let Some(writer) = goroutine(g) else { return 0 };
    let key = Unit { id: headers, tgid: writer.tgid };
    // SAFETY: the value is copied at once.
    let Some(asked) = unsafe { GO_HEADERS.get(key) }.copied() else { return 0 };
    let _ = GO_HEADERS.remove(key);
    // Those of an answer have none, and whoever works for nothing is not told of.
    let is_request = read_user::<u64>(headers.wrapping_add(Go::INIT_STREAM)).unwrap_or(0) != 0;
    let Some(stream) = read_user::<u32>(headers) else { return 0 };
    if is_request && context::work(asked) != 0 {
        tell(&writer, &Request { conn_id: 0, stream: stream.into() }, asked, writer.id as u32);
    }
    0
}
