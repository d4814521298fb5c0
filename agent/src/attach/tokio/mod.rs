//! What of a Rust program is probed to follow the tasks of its tokio (`ebpf/src/context/tokio.rs` says why).
//!
//! | function | where |
//! |---|---|
//! | `tokio::runtime::task::list::OwnedTasks::bind_inner`, `tokio::runtime::blocking::pool::Spawner::spawn_task` | entry, with the new task |
//! | `Schedule::release` of the schedulers, `tokio::runtime::task::raw::drop_join_handle_slow` of each kind of future | entry, with the task that has ended |
//! | `tokio::sync::mpsc::list::Tx::push`, or `find_block` where that is part of its callers | entry, of the copies that hyper's client calls |
//! | `tokio::sync::mpsc::chan::Rx::recv` | entry, of the copies that connections of hyper's client call |
//!
//! They begin with `push` or `jmp`, which the kernel emulates. Nothing is probed where tasks are polled: which task it is, a variable of the thread says,
//! whose place is read from the code that sets it ([`code`]). Functions are found by their symbols: a stripped program is not followed.

mod code;
mod symbols;

use std::{collections::BTreeSet, fs::File, io};

use object::{
    Architecture, Object as _, ObjectSymbol as _, SymbolKind,
    elf::PT_TLS,
    read::{ReadCache, elf::ProgramHeader as _},
};
use remora_common::context::Tokio;

use self::symbols::Kind;
use super::{
    crates,
    runtime::Followed,
    segments::{Elf, file_offset, read},
};
use crate::bpf::Probe;

/// Longest function that is decoded. What calls hyper's channels is a whole future in some builds.
const CODE_LIMIT: u64 = 256 << 10;

/// Minor versions of tokio 1 whose tasks are known to have the places in [`Tokio`].
const MINORS: std::ops::RangeInclusive<u32> = 30..=54;
/// From this one on the id of a task is not 0, so that no flag stands before it where there may be none.
const NOT_ZERO: u32 = 40;

/// Why the tasks of a program are not followed.
#[derive(Debug, thiserror::Error)]
pub enum NotTokio {
    #[error("no tokio")]
    None,
    #[error("not a 64-bit ELF file: {0}")]
    Elf(object::Error),
    #[error("tokio {0}, whose tasks are not known, expected 1.{first} to 1.{last}", first = MINORS.start(), last = MINORS.end())]
    Version(String),
    #[error("more than one tokio: {0}")]
    Versions(String),
    #[error("tokio {0} without symbols of what starts and ends tasks")]
    NoSymbols(String),
    #[error("tokio {version}, in which the code of {function} is not as it is known")]
    Code { version: String, function: &'static str },
    #[error("functions of {0:?} are not read, only those of x86-64")]
    Architecture(Architecture),
    #[error(transparent)]
    Read(#[from] io::Error),
}

impl NotTokio {
    /// Whether the program has tokio in it, of any version, as far as its constants tell.
    pub(super) const fn is_of_tokio(&self) -> bool {
        !matches!(self, Self::None | Self::Elf(_) | Self::Read(_))
    }
}

/// A function of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Function {
    kind: Kind,
    address: u64,
    size: u64,
}

/// How the tasks of the program in `file` are followed.
///
/// # Errors
/// [`NotTokio`] says what is missing.
pub fn recognise(file: &File) -> Result<Followed, NotTokio> {
    let cache = ReadCache::new(file);
    let elf = Elf::parse(&cache).map_err(NotTokio::Elf)?;
    // A program without tokio is not searched for its functions, which are many.
    if thread_variables(&elf) == 0 {
        return Err(NotTokio::None);
    }
    let (version, minor) = version(crates::versions(file, &elf, "/tokio-")?)?;
    if elf.elf_symbol_table().is_empty() {
        return Err(NotTokio::NoSymbols(version));
    }
    if elf.architecture() != Architecture::X86_64 {
        return Err(NotTokio::Architecture(elf.architecture()));
    }
    let functions = functions(&elf);
    let program = Program { file, elf: &elf, cache: &cache, functions: &functions };
    let wrong = |function| NotTokio::Code { version: version.clone(), function };

    let flagged = minor < NOT_ZERO;
    let current = program.current(flagged)?.ok_or_else(|| wrong("TaskIdGuard"))?;
    let mut points = program.points(Kind::Starts, Probe::TokioStarts)?;
    let ends = program.points(Kind::Ends, Probe::TokioEnds)?;
    if points.is_empty() || ends.is_empty() {
        return Err(NotTokio::NoSymbols(version));
    }
    points.extend(ends);
    points.extend(program.points(Kind::Joins, Probe::TokioJoins)?);
    points.extend(program.points(Kind::StartsBlocking, Probe::TokioStarts)?);
    let mut sender = 0;
    if let Some(channels) = program.channels()? {
        sender = channels.sender;
        points.extend(channels.points);
    }
    points.sort_by_key(|(probe, at)| (probe.name(), *at));
    // Identical functions may have been made one.
    points.dedup();
    let tokio = Tokio { current, flagged: flagged.into(), sender: sender.into() };
    Ok(Followed {
        runtime: Tokio::RUNTIME,
        version: format!("tokio {version}"),
        points,
        tokio: Some(tokio),
    })
}

/// The version, and its second number.
fn version(found: Vec<String>) -> Result<(String, u32), NotTokio> {
    let [one] = &found[..] else {
        return Err(if found.is_empty() {
            NotTokio::None
        } else {
            NotTokio::Versions(found.join(", "))
        });
    };
    let minor = one.strip_prefix("1.").and_then(|rest| rest.split('.').next()?.parse().ok());
    match minor {
        Some(minor) if MINORS.contains(&minor) => Ok((one.clone(), minor)),
        _ => Err(NotTokio::Version(one.clone())),
    }
}

/// The functions that matter, each once.
fn functions(elf: &Elf<'_>) -> Vec<Function> {
    let mut found: BTreeSet<Function> = BTreeSet::new();
    for symbol in elf.symbols().filter(|symbol| symbol.kind() == SymbolKind::Text) {
        let (address, size) = (symbol.address(), symbol.size());
        if size > 0
            && symbol.is_definition()
            && let Some(kind) = symbol.name().ok().and_then(Kind::of)
        {
            found.insert(Function { kind, address, size });
        }
    }
    found.into_iter().collect()
}

/// How the channels of hyper's client are probed.
struct Channels {
    points: Vec<(Probe, u64)>,
    /// As [`Tokio::sender`].
    sender: u32,
}

struct Program<'a> {
    file: &'a File,
    elf: &'a Elf<'a>,
    cache: &'a ReadCache<&'a File>,
    functions: &'a [Function],
}

impl Program<'_> {
    fn of(&self, kind: Kind) -> impl Iterator<Item = &Function> {
        self.functions.iter().filter(move |function| function.kind == kind)
    }

    fn offset(&self, address: u64) -> Option<u64> {
        file_offset(self.elf, self.cache, address)
    }

    fn code(&self, function: &Function) -> Result<Vec<u8>, NotTokio> {
        let Some(at) = self.offset(function.address) else { return Ok(Vec::new()) };
        Ok(read(self.file, at, function.size.min(CODE_LIMIT))?)
    }

    /// The entries of the functions of a kind.
    fn points(&self, kind: Kind, probe: Probe) -> Result<Vec<(Probe, u64)>, NotTokio> {
        let entries = self.of(kind).filter_map(|function| self.offset(function.address));
        Ok(entries.map(|at| (probe, at)).collect())
    }

    /// As [`Tokio::current`]; `None` if the code that sets the variable is not understood, or does not agree.
    fn current(&self, behind_a_flag: bool) -> Result<Option<u64>, NotTokio> {
        let mut found = BTreeSet::new();
        for function in self.functions {
            // A flag is set, too, where there may be no task. Where one function calls the other, one of them stores nothing.
            if function.kind == Kind::SetsCurrent
                || function.kind == Kind::Restores && !behind_a_flag
            {
                found.extend(code::thread_variables(&self.code(function)?));
            }
        }
        let found = if found.len() == 1 { found.first().copied() } else { None };
        // Variables of an executable lie below the thread's pointer.
        let size = thread_variables(self.elf).cast_signed();
        Ok(found.filter(|place| (-size..0).contains(place)).map(i64::cast_unsigned))
    }

    /// `None` if the program has no client of hyper, or one whose code is not understood.
    fn channels(&self) -> Result<Option<Channels>, NotTokio> {
        let mut receivers = BTreeSet::new();
        let (mut pushes, mut rest) = (BTreeSet::new(), BTreeSet::new());
        let mut senders = BTreeSet::new();
        for function in self.of(Kind::Hyper) {
            let code = self.code(function)?;
            for (at, target) in code::calls(&code, function.address) {
                let found = match self.kind(target) {
                    Some(Kind::Receives) => &mut receivers,
                    Some(Kind::Pushes) => &mut pushes,
                    Some(Kind::FindsBlock) => &mut rest,
                    _ => continue,
                };
                found.insert(target);
                if self.kind(target) != Some(Kind::Receives) {
                    senders.extend(code::member_in_first_argument(&code, function.address, at));
                }
            }
        }
        // One is part of the other where both are there.
        let pushes = if pushes.is_empty() { rest } else { pushes };
        let (Some(&sender), 1) = (senders.first(), senders.len()) else { return Ok(None) };
        if receivers.is_empty() || pushes.is_empty() {
            return Ok(None);
        }
        let at = |probe, addresses: BTreeSet<u64>| {
            addresses.into_iter().filter_map(move |address| Some((probe, self.offset(address)?)))
        };
        let points = at(Probe::HyperTakes, receivers).chain(at(Probe::HyperAsks, pushes)).collect();
        Ok(Some(Channels { points, sender }))
    }

    /// Of the function at `address`.
    fn kind(&self, address: u64) -> Option<Kind> {
        let mut found = self.functions.iter().filter(|function| function.address == address);
        found.next().map(|function| function.kind)
    }
}

/// Bytes that a thread has for the variables of the program.
fn thread_variables(elf: &Elf<'_>) -> u64 {
    let endian = elf.endian();
    let headers = elf.elf_program_headers().iter();
    headers
        .filter(|header| header.p_type(endian) == PT_TLS)
        .map(|header| header.p_memsz(endian).next_multiple_of(header.p_align(endian).max(1)))
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_that_are_not_known_are_refused() {
        let of = |versions: &[&str]| version(versions.iter().map(|it| (*it).to_owned()).collect());
        assert_eq!(of(&["1.54.1"]).unwrap(), ("1.54.1".to_owned(), 54));
        assert_eq!(of(&["1.30.0"]).unwrap(), ("1.30.0".to_owned(), 30));
        for unknown in ["1.29.1", "1.55.0", "0.2.25", "2.0.0", "1.x"] {
            assert!(matches!(of(&[unknown]), Err(NotTokio::Version(_))), "{unknown}");
        }
        assert!(matches!(of(&[]), Err(NotTokio::None)));
        assert!(matches!(of(&["1.40.0", "1.54.1"]), Err(NotTokio::Versions(_))));
    }

    #[test]
    fn program_without_tokio_is_refused() {
        let shell = File::open("/bin/sh").unwrap();
        assert!(matches!(recognise(&shell), Err(NotTokio::None)));
    }
}
