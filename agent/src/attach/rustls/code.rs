//! Whether a function of rustls takes and gives what it is known to take and give.
//!
//! - 0.23: each gives a `Result` by a place that its caller names. Its first byte tells what it is: numbers of `Error`'s variants, and
//!   behind the last one that of `Ok`. The kernel side takes what is greater than any error that these functions give for `Ok`. How many
//!   variants there are depends on the version: whether that holds is seen by the constants that the code writes there.
//! - 0.21 and 0.22: a word before the result is 0 for `Ok` and 1 for an error. Where the rest stands depends on the compiler, too: it is
//!   seen by what the code reads of its message and writes to its result.

use super::accesses::Accesses;

/// As `LAST_ERROR` of the kernel side.
const LAST_ERROR: u64 = 0x11;
/// `Error` has fewer variants.
const MOST: u64 = 0x30;

/// Whether `code` is `encrypt` or `decrypt` of 0.21 or 0.22, and what it takes and gives lies where the kernel side reads it (`V0_22`).
pub fn is_known_0_22(code: &Accesses, encrypts: bool) -> bool {
    let takes_message = if encrypts {
        // The place, the length, the type and, behind it, the number of one that is not known.
        code.takes(0, 8) && code.takes(8, 8) && code.takes(16, 1) && code.takes(17, 1)
    } else {
        // Of a `Vec`, the place and the length. What is handed on is to be freed: rustc 1.63 has the place before the capacity.
        code.takes(8, 8) && code.takes(16, 8) && !code.hands_on_first_word
    };
    // The length, version and type; none of them has room elsewhere.
    let gives = code.gives((8, Some(0)), &[(24, 8), (32, 2), (36, 1)])
        && (code.gives((8, Some(1)), &[(8, 1)]) || code.gives((8, Some(1)), &[(8, 2)]));
    takes_message && gives && code.first_numbers(8).all(|number| number <= 1)
}

/// Whether exactly one number that the code of 0.23 writes to the first byte of a place is not an error's. Some versions of the code put numbers
/// into registers first; then there may be none that is seen, which is known unless it `must_be_seen`.
pub fn is_known_0_23(code: &Accesses, must_be_seen: bool) -> bool {
    let mut ok = None;
    for number in code.first_numbers(1).filter(|number| *number > LAST_ERROR) {
        if number > MOST || ok.is_some_and(|ok| ok != number) {
            return false;
        }
        ok = Some(number);
    }
    ok.is_some() || !must_be_seen
}

/// Whether `code`, of which no symbol tells, can only be `encrypt` or `decrypt` of 0.23.
pub fn is_surely_0_23(code: &Accesses, encrypts: bool) -> bool {
    let fits = if encrypts {
        // Both ends of what is in pieces, which variant it is, and its type. A `Vec`'s length, version and type.
        [(0, 8), (16, 8), (24, 8), (32, 1), (33, 1)].iter().all(|(at, size)| code.takes(*at, *size))
            && code.gives((1, None), &[(24, 8), (32, 2), (36, 1)])
    } else {
        // A slice. A slice, type and version.
        code.takes(0, 8)
            && code.takes(8, 8)
            && code.gives((1, None), &[(8, 8), (16, 8), (24, 1), (26, 2)])
    };
    fits && is_known_0_23(code, false)
}

#[cfg(test)]
mod tests {
    use super::{is_known_0_22 as is_0_22, is_known_0_23 as is_0_23, *};

    fn is_known_0_22(code: &[u8], encrypts: bool) -> bool {
        is_0_22(&Accesses::of(code), encrypts)
    }

    fn is_known_0_23(code: &[u8], must_be_seen: bool) -> bool {
        is_0_23(&Accesses::of(code), must_be_seen)
    }

    /// `mov byte ptr [rbx], NUMBER` each.
    fn writes(numbers: &[u8]) -> Vec<u8> {
        let each = numbers.iter().flat_map(|number| [0xc6, 0x03, *number]);
        each.chain([0xc3]).collect()
    }

    #[test]
    fn one_number_behind_the_errors_is_that_of_ok() {
        assert!(is_known_0_23(&writes(&[6, 0x11, 0x16]), true));
        assert!(is_known_0_23(&writes(&[6, 0x16, 0x16]), true));
        assert!(!is_known_0_23(&writes(&[6, 0x12, 0x16]), true), "an error would be taken for Ok");
        assert!(!is_known_0_23(&writes(&[6, 0x80]), true), "no such variant");
        assert!(is_known_0_23(&[], false));
        assert!(!is_known_0_23(&[], true), "it may be of another version");
    }

    /// `mov rbx, rdi; mov r14, rdx`, what `reads` says, and the result of 0.22.
    fn of_0_22(reads: &[u8]) -> Vec<u8> {
        let copies = [0x48, 0x89, 0xfb, 0x49, 0x89, 0xd6];
        // `mov qword ptr [rbx], 1`, `mov byte ptr [rbx+8], 6`.
        let error = [0x48, 0xc7, 0x03, 1, 0, 0, 0, 0xc6, 0x43, 0x08, 6];
        // `mov [rbx+24], rsi`, `mov word ptr [rbx+32], 4`, `mov [rbx+36], cl`, `mov qword ptr [rbx], 0`.
        let ok = [
            0x48, 0x89, 0x73, 0x18, 0x66, 0xc7, 0x43, 0x20, 4, 0, 0x88, 0x4b, 0x24, 0x48, 0xc7,
            0x03, 0, 0, 0, 0,
        ];
        [&copies, reads, &error, &ok, &[0xc3]].concat()
    }

    /// `mov rsi, [r14+8]`, `mov r15, [rdx+16]`.
    const VEC: [u8; 8] = [0x49, 0x8b, 0x76, 0x08, 0x4c, 0x8b, 0x7a, 0x10];

    #[test]
    fn decrypters_of_0_22_read_a_vector_and_give_it() {
        let code = of_0_22(&VEC);
        assert!(is_known_0_22(&code, false));
        assert!(!is_known_0_22(&code, true), "it reads no type");
        assert!(!is_known_0_23(&code, true));
        // Each byte that is another one makes another offset, number or instruction, but for the last bytes' and those of
        // errors, lengths' and types' registers and numbers.
        let needed = [3, 9, 13, 17, 22, 28, 32, 37, 40];
        for at in needed {
            let mut other = code.clone();
            other[at] ^= 0x10;
            assert!(!is_known_0_22(&other, false), "byte {at}");
        }
        assert!(!is_known_0_22(&code[..code.len() - 2], false));
        // `mov rdi, [r14]`
        let frees = [&VEC[..], &[0x49, 0x8b, 0x3e]].concat();
        assert!(!is_known_0_22(&of_0_22(&frees), false), "the place comes first");
    }

    #[test]
    fn encrypters_of_0_22_read_a_slice_and_a_type() {
        // `mov rsi, [r14+8]`, `mov rdi, [rdx]`, `movzx eax, byte ptr [r14+16]`, `movzx ecx, byte ptr [r14+17]`.
        let reads = [
            0x49, 0x8b, 0x76, 0x08, 0x48, 0x8b, 0x3a, 0x41, 0x0f, 0xb6, 0x46, 0x10, 0x41, 0x0f,
            0xb6, 0x4e, 0x11,
        ];
        assert!(is_known_0_22(&of_0_22(&reads), true));
        for at in [3, 6, 11, 16] {
            let mut other = reads;
            other[at] ^= 0x40;
            assert!(!is_known_0_22(&of_0_22(&other), true), "byte {at}");
        }
    }

    #[test]
    fn only_the_first_byte_of_a_place_counts() {
        // `mov byte ptr [rbx+24], 0x12`, `mov byte ptr [rsp], 0x13`, `mov byte ptr [rbx+rcx], 0x14`.
        let code = [0xc6, 0x43, 0x18, 0x12, 0xc6, 0x04, 0x24, 0x13, 0xc6, 0x04, 0x0b, 0x14];
        assert!(is_known_0_23(&[&code[..], &writes(&[6, 0x16])].concat(), true));
    }

    #[test]
    fn functions_of_0_23_are_told_without_their_names() {
        // `mov r12, [rdx+8]`, `mov r13, [rdx]`; `mov [rbx+8], r13`, `mov [rbx+16], r12`, `mov [rbx+24], cl`,
        // `mov word ptr [rbx+26], 5`.
        let decrypts = [
            0x4c, 0x8b, 0x62, 0x08, 0x4c, 0x8b, 0x2a, 0x4c, 0x89, 0x6b, 0x08, 0x4c, 0x89, 0x63,
            0x10, 0x88, 0x4b, 0x18, 0x66, 0xc7, 0x43, 0x1a, 5, 0,
        ];
        // `mov rax, [rdx+16]`, `mov r13, [rdx+24]`, `cmp qword ptr [rdx], 0`, `mov r15, rdx`, `movzx eax, byte ptr [r15+32]`,
        // `movzx ebp, byte ptr [r15+33]`; `mov [rbx+24], rsi`, `mov word ptr [rbx+32], 4`, `mov byte ptr [rbx+36], 3`.
        let encrypts = [
            0x48, 0x8b, 0x42, 0x10, 0x4c, 0x8b, 0x6a, 0x18, 0x48, 0x83, 0x3a, 0, 0x49, 0x89, 0xd7,
            0x41, 0x0f, 0xb6, 0x47, 0x20, 0x41, 0x0f, 0xb6, 0x6f, 0x21, 0x48, 0x89, 0x73, 0x18,
            0x66, 0xc7, 0x43, 0x20, 4, 0, 0xc6, 0x43, 0x24, 3,
        ];
        let is = |code: &[u8], encrypts| is_surely_0_23(&Accesses::of(code), encrypts);
        let whole = |code: &[u8], ok| [code, &writes(&[6, ok])].concat();
        for (code, kind, needed) in [
            (&decrypts[..], false, &[3, 6, 10, 14, 17, 21][..]),
            (&encrypts[..], true, &[3, 7, 10, 19, 24, 28, 32, 37][..]),
        ] {
            assert!(is(&whole(code, 0x16), kind));
            assert!(!is(&whole(code, 0x16), !kind));
            assert!(!is(&whole(code, 0x80), kind), "no such variant");
            assert!(!is(code, kind), "it gives neither");
            for at in needed {
                let mut other = code.to_vec();
                other[*at] ^= 0x40;
                assert!(!is(&whole(&other, 0x16), kind), "byte {at}");
            }
        }
    }
}
