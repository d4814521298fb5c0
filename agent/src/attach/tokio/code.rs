//! What the x86-64 code of a program says of where it keeps things.

use std::collections::{BTreeSet, HashMap};

use iced_x86::{Code, Decoder, DecoderOptions, Instruction, Mnemonic, OpKind, Register};

fn decode(code: &[u8], address: u64) -> Decoder<'_> {
    Decoder::with_ip(64, code, address, DecoderOptions::NONE)
}

/// Each direct call, or jump out of the code, and where it leads.
pub fn calls(code: &[u8], address: u64) -> impl Iterator<Item = (u64, u64)> {
    let within = address..address + code.len() as u64;
    decode(code, address).into_iter().filter_map(move |instruction| {
        let target = instruction.near_branch_target();
        let leads = match instruction.code() {
            Code::Call_rel32_64 => true,
            Code::Jmp_rel32_64 => !within.contains(&target),
            _ => false,
        };
        leads.then_some((instruction.ip(), target))
    })
}

/// The places, counted from the thread's pointer, that a function stores words of 64 bits to.
pub fn thread_variables(code: &[u8]) -> BTreeSet<i64> {
    let mut places = Places::default();
    let mut found = BTreeSet::new();
    // What is known where a branch leads, for what stands behind a return is reached by one.
    let mut branches: HashMap<u64, Places> = HashMap::new();
    let mut goes_on = true;
    for instruction in decode(code, 0) {
        if !goes_on && let Some(known) = branches.remove(&instruction.ip()) {
            places = known;
        }
        found.extend(places.store(&instruction));
        let calls = instruction.mnemonic() == Mnemonic::Call;
        if instruction.op0_kind() == OpKind::NearBranch64 && !calls {
            let target = instruction.near_branch_target();
            branches.entry(target).or_insert_with(|| places.clone());
        } else {
            places.step(&instruction);
        }
        goes_on = !matches!(instruction.mnemonic(), Mnemonic::Jmp | Mnemonic::Ret);
    }
    found
}

/// Registers that say a place beside the thread's pointer.
#[derive(Clone, Default)]
struct Places(Vec<(Register, Known)>);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Known {
    /// Points there.
    Place(i64),
    /// The place's distance from the thread's pointer, which an operand in the segment `fs` adds.
    Distance(i64),
}

/// Registers that a function may change which is called.
const SCRATCH: [Register; 9] = [
    Register::RAX,
    Register::RCX,
    Register::RDX,
    Register::RSI,
    Register::RDI,
    Register::R8,
    Register::R9,
    Register::R10,
    Register::R11,
];

impl Places {
    fn of(&self, register: Register) -> Option<Known> {
        self.0.iter().find(|(known, _)| *known == register).map(|(_, known)| *known)
    }

    /// The place that the memory operand of an instruction is at.
    fn operand(&self, instruction: &Instruction) -> Option<i64> {
        let at = instruction.memory_displacement64().cast_signed();
        if instruction.memory_index() != Register::None {
            return None;
        }
        match (instruction.memory_segment(), instruction.memory_base()) {
            (Register::FS, Register::None) => Some(at),
            (Register::FS, base) => match self.of(base)? {
                Known::Distance(distance) => Some(distance + at),
                Known::Place(_) => None,
            },
            (_, base) => match self.of(base)? {
                Known::Place(place) => Some(place + at),
                Known::Distance(_) => None,
            },
        }
    }

    /// Where it stores a word of 64 bits.
    fn store(&self, instruction: &Instruction) -> Option<i64> {
        let stores = matches!(instruction.code(), Code::Mov_rm64_r64 | Code::Xchg_rm64_r64);
        if stores && instruction.op0_kind() == OpKind::Memory {
            self.operand(instruction)
        } else {
            None
        }
    }

    fn step(&mut self, instruction: &Instruction) {
        if instruction.mnemonic() == Mnemonic::Call {
            self.0.retain(|(register, _)| !SCRATCH.contains(register));
            return;
        }
        let reads_only =
            matches!(instruction.mnemonic(), Mnemonic::Cmp | Mnemonic::Test | Mnemonic::Push);
        let none = instruction.op_count() == 0;
        if none || reads_only || instruction.op0_kind() != OpKind::Register {
            return;
        }
        let to = instruction.op0_register();
        let place = match instruction.code() {
            // `mov reg, fs:[0]`: the thread's pointer itself.
            Code::Mov_r64_rm64 if instruction.op1_kind() == OpKind::Memory => {
                let pointer = instruction.memory_segment() == Register::FS
                    && instruction.memory_base() == Register::None
                    && instruction.memory_displacement64() == 0;
                pointer.then_some(Known::Place(0))
            }
            Code::Mov_rm64_imm32 | Code::Mov_r64_imm64 => {
                Some(Known::Distance(instruction.immediate(1).cast_signed()))
            }
            Code::Mov_r64_rm64 | Code::Mov_rm64_r64 => self.of(instruction.op1_register()),
            Code::Lea_r64_m => self.operand(instruction).map(Known::Place),
            Code::Add_rm64_imm8 | Code::Add_rm64_imm32 => {
                let more = instruction.immediate(1).cast_signed();
                self.of(to).map(|known| match known {
                    Known::Place(place) => Known::Place(place + more),
                    Known::Distance(distance) => Known::Distance(distance + more),
                })
            }
            _ => None,
        };
        match whole(to) {
            Some(whole) => self.0.retain(|(register, _)| *register != whole),
            None => self.0.clear(),
        }
        self.0.extend(place.map(|place| (to, place)));
    }
}

/// The register of 64 bits that is written with this one, if that is one of 64 or 32 bits.
fn whole(register: Register) -> Option<Register> {
    let number = register as usize;
    let (rax, r15) = (Register::RAX as usize, Register::R15 as usize);
    let (eax, r15d) = (Register::EAX as usize, Register::R15D as usize);
    match number {
        _ if (rax..=r15).contains(&number) => Some(register),
        _ if (eax..=r15d).contains(&number) => Register::try_from(number - eax + rax).ok(),
        _ => None,
    }
}

/// Where in a structure that is not known the first argument of the call at `call` points; `None` if the code does not show it.
pub fn member_in_first_argument(code: &[u8], address: u64, call: u64) -> Option<u32> {
    /// No structure that holds a channel is larger.
    const MOST: u64 = 0x1000;
    let mut member = None;
    for instruction in decode(code, address).into_iter().take_while(|at| at.ip() < call) {
        let to = instruction.op0_kind() == OpKind::Register
            && whole(instruction.op0_register()) == Some(Register::RDI);
        if !to || matches!(instruction.mnemonic(), Mnemonic::Cmp | Mnemonic::Test | Mnemonic::Push)
        {
            continue;
        }
        let at = instruction.memory_displacement64();
        let plain = instruction.code() == Code::Lea_r64_m
            && instruction.memory_index() == Register::None
            && !matches!(instruction.memory_base(), Register::RSP | Register::RIP | Register::None);
        member = if plain && at < MOST { Some(at as u32) } else { None };
    }
    member
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(code: &[u8]) -> Vec<i64> {
        thread_variables(code).into_iter().collect()
    }

    #[test]
    fn variable_is_found_by_what_is_stored() {
        // push rbx; mov rax,fs:[0]; lea rax,[rax-0x148]; movzx ecx,byte [rax+0x48]; mov byte [r14+0x48],1; mov [rax+0x30],rbx; ret
        let by_register = [
            0x53, 0x64, 0x48, 0x8b, 0x04, 0x25, 0, 0, 0, 0, 0x48, 0x8d, 0x80, 0xb8, 0xfe, 0xff,
            0xff, 0x0f, 0xb6, 0x48, 0x48, 0x41, 0xc6, 0x46, 0x48, 0x01, 0x48, 0x89, 0x58, 0x30,
            0xc3,
        ];
        assert_eq!(stored(&by_register), [-0x118]);
        // mov fs:[0xffffffffffffff40],rdi; ret
        let direct = [0x64, 0x48, 0x89, 0x3c, 0x25, 0x40, 0xff, 0xff, 0xff, 0xc3];
        assert_eq!(stored(&direct), [-0xc0]);
        assert_eq!(stored(&[&by_register[..30], &direct].concat()), [-0x118, -0xc0]);
        // mov r14,-0x158; mov fs:[r14+0x30],rbx; ret
        let by_distance =
            [0x49, 0xc7, 0xc6, 0xa8, 0xfe, 0xff, 0xff, 0x64, 0x49, 0x89, 0x5e, 0x30, 0xc3];
        assert_eq!(stored(&by_distance), [-0x128]);
        // mov r14,-0x158; je +3; pop r14; ret; mov fs:[r14+0x30],rbx; ret
        let by_branch =
            [&by_distance[..7], &[0x74, 3, 0x41, 0x5e, 0xc3], &by_distance[7..]].concat();
        assert_eq!(stored(&by_branch), [-0x128]);
        // The same without the segment: anywhere.
        let elsewhere = [&by_distance[..7], &by_distance[8..]].concat();
        assert!(stored(&elsewhere).is_empty());
        let behind_return = [&by_register[..17], &[0xc3], &by_register[17..]].concat();
        assert_eq!(stored(&behind_return), [-0x118]);
        assert!(stored(&[0xc3]).is_empty());
    }

    #[test]
    fn place_is_forgotten_where_its_register_is_written() {
        // mov rax,fs:[0]; mov rax,[rdi]; mov [rax+0x30],rbx
        let code =
            [0x64, 0x48, 0x8b, 0x04, 0x25, 0, 0, 0, 0, 0x48, 0x8b, 0x07, 0x48, 0x89, 0x58, 0x30];
        assert!(stored(&code).is_empty());
        // mov rax,fs:[0]; call +0; mov [rax+0x30],rbx
        let call =
            [0x64, 0x48, 0x8b, 0x04, 0x25, 0, 0, 0, 0, 0xe8, 0, 0, 0, 0, 0x48, 0x89, 0x58, 0x30];
        assert!(stored(&call).is_empty());
    }

    #[test]
    fn member_is_the_one_that_was_put_last_into_the_first_argument() {
        // lea rdi,[r12+0x80]; mov rsi,r14; call +0
        let code = [0x49, 0x8d, 0xbc, 0x24, 0x80, 0, 0, 0, 0x4c, 0x89, 0xf6, 0xe8, 0, 0, 0, 0];
        assert_eq!(calls(&code, 0x1000).collect::<Vec<_>>(), [(0x100b, 0x1010)]);
        assert_eq!(member_in_first_argument(&code, 0x1000, 0x100b), Some(0x80));
        // mov rdi,r14; call +0
        let moved = [0x4c, 0x89, 0xf7, 0xe8, 0, 0, 0, 0];
        assert_eq!(member_in_first_argument(&[&code[..11], &moved].concat(), 0, 14), None);
    }
}
