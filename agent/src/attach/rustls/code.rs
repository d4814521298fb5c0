//! Whether a function of rustls gives what it is known to give.
//!
//! Each gives a `Result` by a place that its caller names. Its first byte tells what it is: numbers of `Error`'s variants, and
//! behind the last one that of `Ok`. The kernel side takes what is greater than any error that these functions give for `Ok`. How many
//! variants there are depends on the version: whether that holds is seen by the constants that the code writes there.

use iced_x86::{Code, Decoder, DecoderOptions, Register};

/// As `LAST_ERROR` of the kernel side.
const LAST_ERROR: u8 = 0x11;
/// `Error` has fewer variants.
const MOST: u8 = 0x30;

/// Whether exactly one number that the code writes to the first byte of a place is not an error's. Some versions of the code put numbers
/// into registers first; then there may be none that is seen.
pub fn is_known(code: &[u8]) -> bool {
    let mut ok = None;
    for instruction in &mut Decoder::with_ip(64, code, 0, DecoderOptions::NONE) {
        let first_byte = instruction.memory_displacement64() == 0
            && instruction.memory_index() == Register::None
            && !matches!(instruction.memory_base(), Register::RSP | Register::RIP | Register::None);
        if instruction.code() != Code::Mov_rm8_imm8 || !first_byte {
            continue;
        }
        let number = instruction.immediate8();
        if number > LAST_ERROR {
            if number > MOST || ok.is_some_and(|ok| ok != number) {
                return false;
            }
            ok = Some(number);
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `mov byte ptr [rbx], NUMBER` each.
    fn writes(numbers: &[u8]) -> Vec<u8> {
        let each = numbers.iter().flat_map(|number| [0xc6, 0x03, *number]);
        each.chain([0xc3]).collect()
    }

    #[test]
    fn one_number_behind_the_errors_is_that_of_ok() {
        assert!(is_known(&writes(&[6, 0x11, 0x16])));
        assert!(is_known(&writes(&[6, 0x16, 0x16])));
        assert!(!is_known(&writes(&[6, 0x12, 0x16])), "an error would be taken for Ok");
        assert!(!is_known(&writes(&[6, 0x80])), "no such variant");
        assert!(is_known(&[]));
    }

    #[test]
    fn only_the_first_byte_of_a_place_counts() {
        // `mov byte ptr [rbx+24], 0x12`, `mov byte ptr [rsp], 0x13`, `mov byte ptr [rbx+rcx], 0x14`.
        let code = [0xc6, 0x43, 0x18, 0x12, 0xc6, 0x04, 0x24, 0x13, 0xc6, 0x04, 0x0b, 0x14];
        assert!(is_known(&[&code[..], &writes(&[6, 0x16])].concat()));
    }
}
