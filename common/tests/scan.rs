//! The kernel programs' search for a head's end, compared with the plain way to say what is meant: it is Rust for any
//! target, and what it is given is bounded by the programs.

#[path = "../../ebpf/src/scan.rs"]
#[expect(dead_code, reason = "the kernel programs use all of it")]
mod scan;

/// Where the first blank line ends in `bytes`, which follow two others.
fn plain(before: [u8; 2], bytes: &[u8]) -> usize {
    let all = [&before[..], bytes].concat();
    let newline = |at: usize| all[at] == b'\n';
    let end = (2..all.len()).find(|&at| newline(at) && (newline(at - 1) || newline(at - 2)));
    end.map_or(0, |at| at - 1)
}

/// Xorshift, for a test has to say the same each time.
fn numbers() -> impl FnMut() -> u64 {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    }
}

#[test]
fn the_end_of_a_head_is_found_wherever_it_stands() {
    const MOST: usize = 1024;
    let mut number = numbers();
    for round in 0..60_000 {
        let mut words = [0u64; MOST / 8];
        let bytes: &mut [u8; MOST] = zerocopy::transmute_mut!(&mut words);
        // From a newline in every second byte to hardly one; the others are what might be taken for one.
        let rare = [2, 5, 20, 60, 200, 2000][round % 6];
        for byte in bytes.iter_mut() {
            let drawn = number();
            let others = [b'\r', 0x0b, 0x8a, 0x09, b'a', 0, 0xff];
            *byte =
                if drawn.is_multiple_of(rare) { b'\n' } else { others[(drawn >> 32) as usize % 7] };
        }
        let drawn = number();
        let len = drawn as usize % (MOST + 1);
        let before =
            [(drawn >> 20) & 1, (drawn >> 21) & 1].map(|newline| [b'x', b'\n'][newline as usize]);
        let flags = |last: [u8; 2]| u32::from(last[1] == b'\n') | u32::from(last[0] == b'\n') << 1;
        let end = plain(before, &bytes[..len]);
        assert_eq!(
            scan::blank_line::<MOST>(bytes.as_ptr(), len, flags(before)),
            end,
            "round {round}"
        );
        let all = [&before[..], &bytes[..len]].concat();
        let last: [u8; 2] = *all.last_chunk().unwrap();
        assert_eq!(scan::last_newlines::<MOST>(bytes.as_ptr(), len, flags(before)), flags(last));
        if len >= 4 {
            let ends = plain([0; 2], &bytes[len - 3..len]) == 3
                || plain([0; 2], &bytes[len - 2..len]) == 2;
            assert_eq!(scan::ends_with_blank_line::<MOST>(bytes.as_ptr(), len), ends);
        }
    }
}

#[test]
fn only_a_method_with_a_target_is_surely_a_message() {
    let first = |bytes: &[u8]| {
        let mut first = [0; 8];
        let len = bytes.len().min(8);
        first[..len].copy_from_slice(&bytes[..len]);
        u64::from_le_bytes(first)
    };
    for sure in [
        "GET / HTTP/1.1\r\n",
        "GET http://host/ HTTP/1.1\r\n",
        "OPTIONS * HTTP/1.1\r\n",
        "DELETE /x HTTP/1.1\r\n",
        "CONNECT host:443 HTTP/1.1\r\n",
        "HTTP/1.1 200 OK\r\n",
    ] {
        assert!(scan::is_surely_message(first(sure.as_bytes())), "{sure}");
        assert!(scan::begins_message(first(sure.as_bytes())), "{sure}");
    }
    // Ends of values and names of commands, and what the agent tells apart when it has seen more.
    for unsure in [
        "QZQZQZQZ\r\n",
        "ZQZ\r\n*3\r\n",
        "SET\r\n$5\r\n",
        "GET key\r\n",
        "GET",
        "INFO {",
        "A B",
        "",
        "PROPFIND /x",
        "get /x",
    ] {
        assert!(!scan::is_surely_message(first(unsure.as_bytes())), "{unsure}");
    }
}
