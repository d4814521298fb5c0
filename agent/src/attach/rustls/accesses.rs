//! What the code of a function does to memory that it is given places of.

use iced_x86::{
    Code, Decoder, DecoderOptions, Instruction, MemorySize, Mnemonic, OpKind, Register,
};

/// Of a function with the arguments `(result, self, message, ..)`.
pub(super) struct Accesses {
    all: Vec<Access>,
    /// Registers that have held the place of the message.
    message: Vec<Register>,
    /// The first word of the message is handed to another function as its first argument.
    pub(super) hands_on_first_word: bool,
}

impl Accesses {
    pub(super) fn of(code: &[u8]) -> Self {
        let mut found =
            Self { all: Vec::new(), message: vec![Register::RDX], hands_on_first_word: false };
        for next in &mut Decoder::with_ip(64, code, 0, DecoderOptions::NONE) {
            let copies = next.code() == Code::Mov_r64_rm64 || next.code() == Code::Mov_rm64_r64;
            if copies
                && next.op0_kind() == OpKind::Register
                && next.op1_kind() == OpKind::Register
                && found.message.contains(&next.op1_register())
                && !found.message.contains(&next.op0_register())
            {
                found.message.push(next.op0_register());
            }
            if let Some(access) = Access::of(&next) {
                found.hands_on_first_word |= next.code() == Code::Mov_r64_rm64
                    && next.op0_register() == Register::RDI
                    && found.message.contains(&access.base)
                    && access.is_read(0, 8);
                found.all.push(access);
            }
        }
        found
    }

    /// Whether so many bytes are read that stand at `at` of the message.
    pub(super) fn takes(&self, at: u64, size: usize) -> bool {
        self.all.iter().any(|read| self.message.contains(&read.base) && read.is_read(at, size))
    }

    /// Whether there is a place to which all of `writes` are done, places in it and sizes, and `number` in its first bytes, so many.
    pub(super) fn gives(
        &self,
        (size, number): (usize, Option<u64>),
        writes: &[(u64, usize)],
    ) -> bool {
        self.all.iter().any(|first| {
            let is_first = match number {
                Some(number) => first.is_number(0, size, number),
                None => first.is_write(0, size),
            };
            let also = |(at, size): &(u64, usize)| {
                self.all.iter().any(|other| other.base == first.base && other.is_write(*at, *size))
            };
            is_first && writes.iter().all(also)
        })
    }

    /// The numbers that are written, so many bytes, to the beginning of a place.
    pub(super) fn first_numbers(&self, size: usize) -> impl Iterator<Item = u64> {
        self.all.iter().filter_map(move |access| match access.what {
            What::Number(number) if (access.at, access.size) == (0, size) => Some(number),
            _ => None,
        })
    }
}

/// What is done to memory that a register points to, except for the stack's.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Access {
    base: Register,
    at: u64,
    size: usize,
    what: What,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    Read,
    Write,
    Number(u64),
}

impl Access {
    fn of(instruction: &Instruction) -> Option<Self> {
        let base = instruction.memory_base();
        if matches!(base, Register::RSP | Register::RIP | Register::EIP | Register::None)
            || instruction.memory_index() != Register::None
        {
            return None;
        }
        let memory = (0..instruction.op_count())
            .find(|operand| instruction.op_kind(*operand) == OpKind::Memory)?;
        let what = match (instruction.mnemonic(), memory) {
            (Mnemonic::Lea | Mnemonic::Nop, _) => return None,
            (Mnemonic::Mov, 0) if instruction.op1_kind() != OpKind::Register => {
                What::Number(instruction.immediate(1))
            }
            (Mnemonic::Mov | Mnemonic::Movups | Mnemonic::Movdqu, 0) => What::Write,
            (_, _) => What::Read,
        };
        let size = match instruction.memory_size() {
            MemorySize::UInt8 | MemorySize::Int8 => 1,
            MemorySize::UInt16 | MemorySize::Int16 => 2,
            MemorySize::UInt64 | MemorySize::Int64 => 8,
            // None is asked for.
            _ => 0,
        };
        Some(Self { base, at: instruction.memory_displacement64(), size, what })
    }

    fn is_write(&self, at: u64, size: usize) -> bool {
        self.what != What::Read && (self.at, self.size) == (at, size)
    }

    fn is_read(&self, at: u64, size: usize) -> bool {
        self.what == What::Read && (self.at, self.size) == (at, size)
    }

    fn is_number(&self, at: u64, size: usize, number: u64) -> bool {
        self.what == What::Number(number) && (self.at, self.size) == (at, size)
    }
}
