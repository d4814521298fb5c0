//! What of a Go program is probed to follow its goroutines (`ebpf/src/context/go.rs` says why).
//!
//! | function | where |
//! |---|---|
//! | `runtime.newproc.func1` | at its call of `runtime.runqput`, with the new goroutine |
//! | `runtime.goexit0` | behind the check of the stack, if it has one |
//! | those of [`CALLS`] | behind the check of the stack, if the program has them |
//! | `(*http2Server).operateHeaders` of grpc-go | there, and at each return |
//!
//! A call is emulated by the kernel, as is the `push` behind the check of the stack (from Go 1.21 on).

use std::fs::File;

use iced_x86::{Code, Decoder, DecoderOptions};
use object::{Architecture, read::ReadCache};
use remora_common::context::Go;

use super::{NotGo, Program, code, functions::Function};
use crate::{attach::runtime::Followed, bpf::Probe};

const STARTS: &str = "runtime.newproc.func1";
const RUNNABLE: &str = "runtime.runqput";
const ENDS: &str = "runtime.goexit0";

/// `net/http` has the package `http2` in it, with other names.
const CALLS: [(Probe, &str); 8] = [
    (Probe::GoRoundTrip, "net/http.(*persistConn).roundTrip"),
    (Probe::GoH2Handles, "net/http.(*http2serverConn).runHandler"),
    (Probe::GoH2Handles, "golang.org/x/net/http2.(*serverConn).runHandler"),
    (Probe::GoH2Asks, "net/http.(*http2clientStream).doRequest"),
    (Probe::GoH2Asks, "golang.org/x/net/http2.(*clientStream).doRequest"),
    (Probe::GoGrpcHandles, "google.golang.org/grpc.(*Server).handleStream"),
    (Probe::GoGrpcPuts, "google.golang.org/grpc/internal/transport.(*controlBuffer).executeAndPut"),
    (Probe::GoGrpcWrites, "google.golang.org/grpc/internal/transport.(*loopyWriter).headerHandler"),
];
const GRPC_READS: &str = "google.golang.org/grpc/internal/transport.(*http2Server).operateHeaders";

/// Whether the program in `file` is one of Go, of any release.
pub fn is_here(file: &File) -> bool {
    let cache = ReadCache::new(file);
    Program::open(file, &cache).is_ok_and(|program| program.is_go())
}

/// How the goroutines of the program in `file` are followed.
///
/// # Errors
/// [`NotGo`] says what is missing.
pub fn recognise(file: &File) -> Result<Followed, NotGo> {
    let cache = ReadCache::new(file);
    let program = Program::open(file, &cache)?;
    // The table of functions is large: all are looked for at once.
    let mut names = [STARTS, RUNNABLE, ENDS, GRPC_READS].to_vec();
    names.extend(CALLS.map(|(_, name)| name));
    let names: [&str; 4 + CALLS.len()] = names.try_into().expect("as many");
    let [starts, runnable, ends, grpc_reads, calls @ ..] = program.find(names)?;
    let version = program.version()?;
    let runtime = minor(&version).and_then(Go::runtime);
    let runtime = runtime.ok_or_else(|| NotGo::Version(version.clone()))?;
    let starts = starts.ok_or(NotGo::NoFunction(STARTS))?;
    let runnable = runnable.ok_or(NotGo::NoFunction(RUNNABLE))?;

    let (behind_check, call_of): (fn(&[u8]) -> _, CallOf) = match program.architecture() {
        Architecture::X86_64 => (code::x86_64, call_x86_64),
        Architecture::Aarch64 => (code::aarch64, call_aarch64),
        other => return Err(NotGo::Architecture(other)),
    };
    let (at, bytes) = program.code(&starts, STARTS)?;
    let call = call_of(&bytes, starts.start, runnable.start).ok_or(NotGo::Code(STARTS))?;
    let places = |function: Function, name| {
        let (at, bytes) = program.code(&function, name)?;
        let mut points = behind_check(&bytes).ok_or(NotGo::Code(name))?;
        points.entry += at;
        points.returns.iter_mut().for_each(|place| *place += at);
        Ok::<_, NotGo>(points)
    };
    let ends = ends.ok_or(NotGo::NoFunction(ENDS))?;
    let mut points = vec![(Probe::GoStarts, at + call), (Probe::GoEnds, places(ends, ENDS)?.entry)];
    for ((probe, name), function) in CALLS.into_iter().zip(calls) {
        if let Some(function) = function {
            points.push((probe, places(function, name)?.entry));
        }
    }
    if let Some(function) = grpc_reads {
        let places = places(function, GRPC_READS)?;
        points.extend(places.returns.iter().map(|place| (Probe::GoGrpcHasRead, *place)));
        points.push((Probe::GoGrpcReads, places.entry));
    }
    Ok(Followed { runtime, version, points, tokio: None })
}

/// `26` of `go1.26.1`, `go1.26rc2`, `devel go1.26-0123abc`.
fn minor(version: &str) -> Option<u32> {
    let rest = version.split_once("go1.")?.1;
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest[..end].parse().ok()
}

/// Offset of the only call of the function at the third argument in the code of the one at the second.
type CallOf = fn(&[u8], u64, u64) -> Option<u64>;

fn call_x86_64(code: &[u8], start: u64, target: u64) -> Option<u64> {
    let decoder = Decoder::with_ip(64, code, start, DecoderOptions::NONE);
    let calls = decoder.into_iter().filter(|instruction| {
        instruction.code() == Code::Call_rel32_64 && instruction.near_branch_target() == target
    });
    only(calls.map(|instruction| instruction.ip() - start))
}

fn call_aarch64(code: &[u8], start: u64, target: u64) -> Option<u64> {
    /// `bl`, with its distance masked.
    const BL: (u32, u32) = (0xfc00_0000, 0x9400_0000);
    let words = (0u64..).step_by(4).zip(code.chunks_exact(4));
    only(words.filter_map(|(at, bytes)| {
        let word = u32::from_le_bytes(bytes.try_into().ok()?);
        // 26 bits, signed, in words.
        let distance = i64::from((word << 6).cast_signed() >> 6) * 4;
        let leads = (start + at).wrapping_add_signed(distance) == target;
        (word & BL.0 == BL.1 && leads).then_some(at)
    }))
}

fn only(mut calls: impl Iterator<Item = u64>) -> Option<u64> {
    calls.next().filter(|_| calls.next().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minor_version_is_told_of_every_kind_of_release() {
        for (version, expected) in [
            ("go1.26.1", Some(26)),
            ("go1.19", Some(19)),
            ("go1.21rc2", Some(21)),
            ("devel go1.27-0123abc Mon Jan 1", Some(27)),
            ("go1.25.3 X:nocoverageredesign", Some(25)),
            ("go2.1", None),
            ("", None),
        ] {
            assert_eq!(minor(version), expected, "{version}");
        }
    }

    #[test]
    fn releases_whose_layout_is_not_known_are_refused() {
        assert_eq!(Go::runtime(18), None);
        assert_eq!(Go::runtime(27), None);
        for minor in 19..=26 {
            let runtime = Go::runtime(minor).unwrap();
            assert!((1..=Go::ALL.len()).contains(&usize::from(runtime)), "1.{minor}");
        }
    }

    #[test]
    fn call_is_found_by_where_it_leads() {
        // nop; call +0x10; call +0x20; ret
        let code = [0x90, 0xe8, 0x10, 0, 0, 0, 0xe8, 0x20, 0, 0, 0, 0xc3];
        assert_eq!(call_x86_64(&code, 0x1000, 0x102b), Some(6));
        assert_eq!(call_x86_64(&code, 0x1000, 0x1016), Some(1));
        assert_eq!(call_x86_64(&code, 0x1000, 0x1017), None);
        // bl +8; bl -4; ret
        let code: Vec<u8> = [0x9400_0002u32, 0x97ff_ffff, 0xd65f_03c0]
            .iter()
            .flat_map(|word| word.to_le_bytes())
            .collect();
        assert_eq!(call_aarch64(&code, 0x1000, 0x1008), Some(0));
        assert_eq!(call_aarch64(&code, 0x1000, 0x1000), Some(4));
        assert_eq!(call_aarch64(&code, 0x1000, 0x100c), None);
    }

    #[test]
    fn call_that_is_made_twice_is_refused() {
        // call +5; call +0: both to 0x100a
        let code = [0xe8, 5, 0, 0, 0, 0xe8, 0, 0, 0, 0];
        assert_eq!(call_x86_64(&code, 0x1000, 0x100a), None);
    }

    #[test]
    fn own_executable_is_no_go_program() {
        let own = File::open("/proc/self/exe").unwrap();
        assert!(matches!(recognise(&own), Err(NotGo::NoTable)));
    }
}
