//! How much of the stack a chain of functions takes. A kernel refuses a program with a chain that takes more than 512
//! bytes, but some programs cannot be loaded on the machine that tests them: their kind is refused there.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Context as _, Result, ensure};
use object::{
    Object as _, ObjectSection as _, ObjectSymbol as _, RelocationTarget, SectionIndex, SymbolKind,
};

/// `MAX_BPF_STACK` of the kernel, bytes.
pub const LIMIT: u32 = 512;
/// The verifier counts a function's stack in such units, and at least one.
const UNIT: u32 = 32;

const INSTRUCTION: usize = 8;
/// `MOV` and `ADD` of 64 bits, with a register and with a constant.
const MOVE: u8 = 0xbf;
const ADD: u8 = 0x07;
const CALL: u8 = 0x85;
/// A `CALL` of a function in the object, by its source register.
const PSEUDO_CALL: u8 = 1;
const FRAME_POINTER: u8 = 10;

/// Section and offset.
type Place = (usize, u64);

struct Function {
    name: String,
    stack: u32,
    calls: Vec<Place>,
}

/// A chain of functions, each with the bytes that it takes.
#[derive(Clone, Debug, Default)]
pub struct Chain {
    /// As the verifier counts it.
    pub total: u32,
    pub functions: Vec<(String, u32)>,
}

/// The chain of functions that takes most, of all programs in `object`.
///
/// # Errors
/// It is no object of kernel programs.
pub fn deepest(object: &[u8]) -> Result<Chain> {
    let object = object::File::parse(object)?;
    let functions = functions(&object)?;
    ensure!(!functions.is_empty(), "no functions");
    let mut known = HashMap::new();
    let chains = functions.keys().map(|place| chain(*place, &functions, &mut known));
    chains.max_by_key(|chain| chain.total).context("no functions")
}

fn chain(
    place: Place,
    functions: &BTreeMap<Place, Function>,
    known: &mut HashMap<Place, Chain>,
) -> Chain {
    if let Some(known) = known.get(&place) {
        return known.clone();
    }
    let Some(function) = functions.get(&place) else { return Chain::default() };
    let below = function.calls.iter().map(|call| chain(*call, functions, known));
    let below = below.max_by_key(|chain| chain.total).unwrap_or_default();
    let mut all = vec![(function.name.clone(), function.stack)];
    all.extend(below.functions);
    let own = function.stack.max(1).next_multiple_of(UNIT);
    let found = Chain { total: own + below.total, functions: all };
    known.insert(place, found.clone());
    found
}

fn functions(object: &object::File<'_>) -> Result<BTreeMap<Place, Function>> {
    let mut functions = BTreeMap::new();
    for symbol in object.symbols() {
        let Some(section) = symbol.section_index() else { continue };
        if symbol.kind() != SymbolKind::Text || symbol.size() == 0 {
            continue;
        }
        let from = symbol.address() as usize;
        let code = object.section_by_index(section)?;
        let code = code.data()?.get(from..from + symbol.size() as usize);
        let code =
            code.with_context(|| format!("{:?} is outside of its section", symbol.name()))?;
        let calls = calls(object, section, symbol.address(), code)?;
        let name = symbol.name()?.to_owned();
        functions
            .insert((section.0, symbol.address()), Function { name, stack: stack(code), calls });
    }
    Ok(functions)
}

/// The lowest byte below the frame pointer that is read, written, or pointed to.
fn stack(code: &[u8]) -> u32 {
    let mut lowest = 0;
    let mut copied = None;
    for instruction in code.chunks_exact(INSTRUCTION) {
        let (operation, target, source) =
            (instruction[0], instruction[1] & 0xf, instruction[1] >> 4);
        let offset = i32::from(i16::from_le_bytes([instruction[2], instruction[3]]));
        let accesses = match operation & 7 {
            1 => source == FRAME_POINTER,     // load
            2 | 3 => target == FRAME_POINTER, // store
            _ => false,
        };
        if accesses {
            lowest = lowest.min(offset);
        }
        if operation == ADD && copied == Some(target) {
            lowest = lowest.min(constant(instruction));
        }
        copied = (operation == MOVE && source == FRAME_POINTER).then_some(target);
    }
    lowest.unsigned_abs()
}

fn constant(instruction: &[u8]) -> i32 {
    i32::from_le_bytes([instruction[4], instruction[5], instruction[6], instruction[7]])
}

/// The functions that `code` calls, which begins at `from` in its section.
fn calls(
    object: &object::File<'_>,
    section: SectionIndex,
    from: u64,
    code: &[u8],
) -> Result<Vec<Place>> {
    let relocations: HashMap<u64, RelocationTarget> = object
        .section_by_index(section)?
        .relocations()
        .map(|(at, relocation)| (at, relocation.target()))
        .collect();
    let mut calls = Vec::new();
    for (instruction, at) in code.chunks_exact(INSTRUCTION).zip((from..).step_by(INSTRUCTION)) {
        if instruction[0] != CALL || instruction[1] >> 4 != PSEUDO_CALL {
            continue;
        }
        let behind = (i64::from(constant(instruction)) + 1) * INSTRUCTION as i64;
        let called = match relocations.get(&at) {
            None => (section.0, at.wrapping_add_signed(behind)),
            Some(RelocationTarget::Symbol(symbol)) => {
                let symbol = object.symbol_by_index(*symbol)?;
                let section = symbol.section_index().context("a call of what is not here")?;
                let is_section = symbol.kind() == SymbolKind::Section;
                (section.0, if is_section { behind as u64 } else { symbol.address() })
            }
            Some(other) => anyhow::bail!("a call by {other:?}"),
        };
        calls.push(called);
    }
    Ok(calls)
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;
    use crate::object::ARCHITECTURES;

    #[test]
    fn no_program_takes_more_of_the_stack_than_a_kernel_has() {
        for architecture in ARCHITECTURES {
            let name = format!("../prebuilt/remora-{architecture}.bpf.o");
            let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
            let chain = deepest(&fs::read(file).unwrap()).unwrap();
            println!("{architecture}: {chain:?}");
            // Less than this would be a sign that calls are not found.
            assert!(chain.functions.len() >= 3 && chain.total > 256, "{chain:?}");
            assert!(chain.total <= LIMIT, "{chain:?}");
        }
    }
}
