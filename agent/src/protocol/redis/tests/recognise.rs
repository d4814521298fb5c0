use super::command;
use crate::protocol::{
    Parse, Sure,
    redis::{looks_like_commands, looks_like_replies},
};

#[test]
fn recognises_a_client_by_its_first_command() {
    for line in
        ["PING", "HELLO 3", "AUTH secret", "client setinfo LIB-NAME x", "GET a", "CONFIG GET *"]
    {
        let bytes = command(line);
        let Parse::Parsed { value: Sure::Yes, used } = looks_like_commands(&bytes) else {
            panic!("{line}");
        };
        for len in 0..used {
            assert_eq!(looks_like_commands(&bytes[..len]), Parse::NeedMore, "{line} {len}");
        }
    }
}

#[test]
fn a_line_is_sure_only_once_it_is_answered() {
    for line in ["PING\r\n", "ping\n", "INFO\r\n", "GET key\r\n", "EXISTS a\r\n"] {
        let used = line.len();
        let expected = Parse::Parsed { value: Sure::IfAnswered, used };
        assert_eq!(looks_like_commands(line.as_bytes()), expected, "{line}");
        for len in 1..used {
            assert_eq!(looks_like_commands(&line.as_bytes()[..len]), Parse::NeedMore);
        }
    }
}

#[test]
fn other_protocols_are_not_taken_for_commands() {
    for bytes in [
        &b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..],
        b"POST /x HTTP/1.1\r\n",
        b"EHLO mail.example\r\n",
        b"220 ftp ready\r\n",
        b"USER anonymous\r\n",
        b"QUIT\r\n",
        b"AUTH PLAIN\r\n",
        b"set key 0 0 5\r\nhello\r\n",
        b"gets a b\r\n",
        b"stats\r\n",
        b"CONNECT {\"verbose\":false}\r\nPING\r\n",
        b"INFO {\"server_id\":\"x\"}\r\n",
        b"* OK IMAP4 ready\r\n",
        b"\x16\x03\x01\x02\x00\x01",
        b"\0\0\0\x08\x04\xd2\x16\x2f",
        b"*1\r\n$4\r\nNOPE\r\n",
        b"*0\r\n",
        b"*2\r\n$999\r\n",
        b"*a",
        b"$3\r\nGET\r\n",
        b"PRI * HTTP/2.0\r\n",
        &[b'a'; 500],
    ] {
        let parsed = looks_like_commands(bytes);
        assert!(matches!(parsed, Parse::NotThis(_)), "{}: {parsed:?}", bytes.escape_ascii());
    }
}

#[test]
fn recognises_a_server_by_its_replies() {
    for (bytes, sure) in [
        (&b"+PONG\r\n"[..], Sure::IfAnswered),
        (b"-NOAUTH Authentication required.\r\n", Sure::IfAnswered),
        (b":1\r\n", Sure::IfAnswered),
        (b"$-1\r\n", Sure::IfAnswered),
        (b"$5\r\nhello\r\n", Sure::Yes),
        (b"*2\r\n$1\r\na\r\n:1\r\n", Sure::Yes),
        (b"%1\r\n+server\r\n+redis\r\n", Sure::Yes),
        (b"+OK\r\n$5\r\nhello\r\n", Sure::Yes),
    ] {
        let expected = Parse::Parsed { value: sure, used: bytes.len() };
        assert_eq!(looks_like_replies(bytes), expected, "{}", bytes.escape_ascii());
    }
    for bytes in [
        &b"PONG\r\n"[..],
        b"END\r\n",
        b"VALUE a 0 5\r\nhello\r\nEND\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"220 mail ready\r\n",
        b"* OK ready\r\n",
        b"+ idling\r\n",
        b"S",
    ] {
        assert!(matches!(looks_like_replies(bytes), Parse::NotThis(_)), "{}", bytes.escape_ascii());
    }
}
