//! What is probed in Go programs, stripped or not: from an ELF file to file offsets. Here that is where the plaintext of
//! `crypto/tls` passes.
//!
//! - [`contexts`]: what is probed to follow goroutines.
//! - [`program`]: the program's file.
//! - [`functions`]: where functions begin and end, by name, from the table that the runtime unwinds stacks with.
//! - [`code`]: at which of a function's instructions to probe.

mod code;
pub mod contexts;
mod functions;
mod program;

use std::{fs::File, io};

use object::{Architecture, read::ReadCache};

use self::program::{Program, TABLE_LIMIT};
use super::plan::{Library, Plan, Via};
use crate::bpf::Probe;

/// The functions that are probed.
const READ: &str = "crypto/tls.(*Conn).Read";
const WRITE: &str = "crypto/tls.(*Conn).Write";

/// Why a file is not probed.
#[derive(Debug, thiserror::Error)]
pub enum NotGo {
    #[error("not a 64-bit ELF file: {0}")]
    Elf(object::Error),
    #[error("no table of Go functions")]
    NoTable,
    #[error("its table of Go functions has {found} bytes, at most {TABLE_LIMIT} are read")]
    TableSize { found: u64 },
    #[error("its table of Go functions is not understood: {0}")]
    Table(#[from] functions::Malformed),
    #[error("no function {0}")]
    NoFunction(&'static str),
    #[error("the code of {0} is not understood")]
    Code(&'static str),
    #[error("built by {0:?}, expected Go 1.19 to 1.26")]
    Version(String),
    #[error("functions of {0:?} are not read, only those of x86-64 and AArch64")]
    Architecture(Architecture),
    #[error(transparent)]
    Read(#[from] io::Error),
}

/// What to attach to the Go program in `file`.
///
/// # Errors
/// [`NotGo`] says what is missing.
pub fn plan(file: &File) -> Result<Plan, NotGo> {
    let cache = ReadCache::new(file);
    let program = Program::open(file, &cache)?;
    let [read, write] = program.find([READ, WRITE])?;
    let (read_at, read_code) = program.code(&read.ok_or(NotGo::NoFunction(READ))?, READ)?;
    let (write_at, write_code) = program.code(&write.ok_or(NotGo::NoFunction(WRITE))?, WRITE)?;
    let points = match program.architecture() {
        Architecture::X86_64 => code::x86_64 as fn(&[u8]) -> Option<code::Points>,
        Architecture::Aarch64 => code::aarch64,
        other => return Err(NotGo::Architecture(other)),
    };
    let reads = points(&read_code).ok_or(NotGo::Code(READ))?;
    let writes = points(&write_code).ok_or(NotGo::Code(WRITE))?;
    let returns = reads.returns.iter().map(|at| (Probe::GoTlsReadReturn, read_at + at));
    let mut points: Vec<_> = returns.collect();
    points.push((Probe::GoTlsRead, read_at + reads.entry));
    points.push((Probe::GoTlsWrite, write_at + writes.entry));
    Ok(Plan { library: Library::GoCryptoTls, version: String::new(), via: Via::Internal, points })
}
