//! At which instructions of a Go function to probe it.
//!
//! A function begins with a check of its stack, which moves the stack and begins anew where it is too small. Behind the check
//! it has begun for good, and its arguments still are in registers. On x86-64 a `push` stands there since Go 1.21,
//! which the kernel emulates.
//!
//! A function of Go has several returns. Their stack may have moved meanwhile, so that a return address that was replaced would
//! be lost: each `ret` is probed.

use iced_x86::{Decoder, DecoderOptions, FlowControl, Mnemonic, Register};

/// Offsets in a function's code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Points {
    /// Behind the check of the stack.
    pub entry: u64,
    /// In order.
    pub returns: Vec<u64>,
}

/// Instructions that a check of the stack has at most.
const CHECK: usize = 6;

/// In the x86-64 code of a function; `None` if it is not as a compiler of Go makes it.
pub fn x86_64(code: &[u8]) -> Option<Points> {
    let decode = || Decoder::with_ip(64, code, 0, DecoderOptions::NONE);
    // `cmp rsp, [r14+16]; jbe`; of larger frames it is `lea r12, [rsp-n]; cmp r12, [r14+16]; jbe`.
    let mut compared = false;
    let mut entry = None;
    for instruction in decode().iter().take(CHECK) {
        match instruction.mnemonic() {
            Mnemonic::Cmp if instruction.memory_base() == Register::R14 => compared = true,
            Mnemonic::Jbe if compared => {
                entry = Some(instruction.next_ip());
                break;
            }
            _ => {}
        }
    }
    let mut returns = Vec::new();
    let mut decoder = decode();
    while decoder.can_decode() {
        let instruction = decoder.decode();
        if instruction.is_invalid() {
            return None;
        }
        if instruction.flow_control() == FlowControl::Return {
            returns.push(instruction.ip());
        }
    }
    Some(Points { entry: entry?, returns }).filter(|points| !points.returns.is_empty())
}

/// The same in AArch64 code.
pub fn aarch64(code: &[u8]) -> Option<Points> {
    /// `b.ls`, with its distance masked.
    const B_LS: (u32, u32) = (0xff00_001f, 0x5400_0009);
    /// `ret`.
    const RET: u32 = 0xd65f_03c0;
    let words = || {
        let word = |bytes: &[u8]| bytes.try_into().map_or(0, u32::from_le_bytes);
        (0u64..).step_by(4).zip(code.chunks_exact(4).map(word))
    };
    let mut check = words().take(CHECK);
    let (at, _) = check.find(|(_, word)| word & B_LS.0 == B_LS.1)?;
    let returns: Vec<u64> =
        words().filter(|(_, word)| *word == RET).map(|(offset, _)| offset).collect();
    (!returns.is_empty()).then_some(Points { entry: at + 4, returns })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn x86_64_is_probed_behind_the_check_of_the_stack() {
        // cmp rsp,[r14+16]; jbe +3; push rbp; ret; jmp
        let small = [0x49, 0x3b, 0x66, 0x10, 0x76, 0x03, 0x55, 0x5d, 0xc3, 0xeb, 0xf5];
        assert_eq!(x86_64(&small), Some(Points { entry: 6, returns: vec![8] }));
        // lea r12,[rsp-0x48]; cmp r12,[r14+16]; jbe; push rbp; ret; mov eax,0xc3; ret
        let large = [
            0x4c, 0x8d, 0x64, 0x24, 0xb8, 0x4d, 0x3b, 0x66, 0x10, 0x0f, 0x86, 0x93, 0x07, 0x00,
            0x00, 0x55, 0xc3, 0xb8, 0xc3, 0x00, 0x00, 0x00, 0xc3,
        ];
        assert_eq!(x86_64(&large), Some(Points { entry: 15, returns: vec![16, 22] }));
    }

    #[test]
    fn what_checks_no_stack_or_never_returns_is_refused() {
        assert_eq!(x86_64(&[0x55, 0xc3]), None, "no check");
        assert_eq!(x86_64(&[0x49, 0x3b, 0x66, 0x10, 0x76, 0x00, 0xeb, 0xfe]), None, "no return");
        assert_eq!(x86_64(&[0x49, 0x3b, 0x66, 0x10, 0x76, 0x00, 0xc3, 0x06]), None, "no code");
        assert_eq!(x86_64(&[]), None);
        assert_eq!(aarch64(&[]), None);
        assert_eq!(aarch64(&0xd65f_03c0u32.to_le_bytes()), None);
    }

    #[test]
    fn aarch64_is_probed_behind_the_check_of_the_stack() {
        // ldr x16,[x28,#16]; sub x17,sp,#0x50; cmp x17,x16; b.ls; str; ret; nop; ret
        let code: Vec<u8> = [
            0xf940_0b90u32,
            0xd101_43f1,
            0xeb10_023f,
            0x5400_2a69,
            0xf81f_0ffe,
            0xd65f_03c0,
            0xd503_201f,
            0xd65f_03c0,
        ]
        .iter()
        .flat_map(|word| word.to_le_bytes())
        .collect();
        assert_eq!(aarch64(&code), Some(Points { entry: 16, returns: vec![20, 28] }));
    }
}
