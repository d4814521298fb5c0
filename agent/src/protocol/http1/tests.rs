use super::*;

const POST: &[u8] =
    b"POST /a?b=c HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\ntraceparent: t\r\n\r\n";

fn parsed(input: &[u8]) -> Request<'_> {
    match request(input) {
        Parse::Parsed { value, used } => {
            assert_eq!(used, input.len());
            value
        }
        other => panic!("{other:?}"),
    }
}

fn response_head(fields: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\n{fields}\r\n").into_bytes()
}

fn framing(fields: &str) -> Framing {
    match response(&response_head(fields)) {
        Parse::Parsed { value, .. } => value.framing(RequestKind::Other),
        other => panic!("{other:?}"),
    }
}

#[test]
fn reads_start_line_and_fields_of_a_request() {
    let head = parsed(POST);
    assert_eq!((head.method, head.target, head.minor), (&b"POST"[..], &b"/a?b=c"[..], 1));
    assert_eq!(head.fields.host, Some(&b"x"[..]));
    assert_eq!(head.fields.traceparent, Some(&b"t"[..]));
    assert_eq!(head.framing(), Framing::Length(3));
    assert_eq!(head.fields.lines().count(), 3);
}

#[test]
fn needs_more_at_every_length_short_of_the_head() {
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n";
    for len in 0..POST.len() {
        assert_eq!(request(&POST[..len]), Parse::NeedMore, "{len}");
    }
    for len in 0..answer.len() {
        assert_eq!(response(&answer[..len]), Parse::NeedMore, "{len}");
    }
}

#[test]
fn leaves_what_follows_the_head() {
    let Parse::Parsed { used, .. } = request(b"GET / HTTP/1.1\r\n\r\nGET") else { panic!() };
    assert_eq!(used, 18);
}

#[test]
fn accepts_bare_line_feeds() {
    let head = parsed(b"GET / HTTP/1.0\nHost: h\n\n");
    assert_eq!((head.minor, head.fields.host), (0, Some(&b"h"[..])));
}

#[test]
fn accepts_every_form_of_target_and_any_token_as_method() {
    for (line, target) in [
        ("GET http://h:80/p?q HTTP/1.1", "http://h:80/p?q"),
        ("OPTIONS * HTTP/1.1", "*"),
        ("CONNECT h:443 HTTP/1.1", "h:443"),
        ("PROPFIND /dav HTTP/1.1", "/dav"),
        ("x-!#$%&'*+.^_`|~9 /y HTTP/1.1", "/y"),
        ("GET /a b HTTP/1.1", "/a b"),
        ("GET /\u{e4} HTTP/1.1", "/\u{e4}"),
    ] {
        assert_eq!(parsed(format!("{line}\r\n\r\n").as_bytes()).target, target.as_bytes());
    }
}

#[test]
fn refuses_what_is_not_http_1() {
    for (bytes, reason) in [
        (&b"PRI * HTTP/2.0\r\n\r\n"[..], NotHttp::Version),
        (b"INVITE sip:a SIP/2.0\r\n\r\n", NotHttp::Version),
        (b"GET /\r\n", NotHttp::Version),
        (b"GET  HTTP/1.1\r\n\r\n", NotHttp::Target),
        (b"GET / x\0y HTTP/1.1\r\n\r\n", NotHttp::Target),
        (b"\x16\x03\x01\x02\0", NotHttp::Method),
        (b"*1\r\n$4\r\nPING\r\n", NotHttp::Method),
        (b" GET / HTTP/1.1\r\n\r\n", NotHttp::Method),
        (b"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", NotHttp::Method),
    ] {
        assert_eq!(request(bytes), Parse::NotThis(reason), "{}", bytes.escape_ascii());
    }
    for (bytes, reason) in [
        (&b"HTTP/2 200\r\n\r\n"[..], NotHttp::Version),
        (b"HTTP/1.1 20 OK\r\n\r\n", NotHttp::Status),
        (b"HTTP/1.1 2000 OK\r\n\r\n", NotHttp::Status),
        (b"HTTP/1.1 099 OK\r\n\r\n", NotHttp::Status),
        (b"220 mail ESMTP\r\n", NotHttp::Version),
    ] {
        assert_eq!(response(bytes), Parse::NotThis(reason), "{}", bytes.escape_ascii());
    }
}

#[test]
fn accepts_a_status_line_without_reason() {
    for line in ["HTTP/1.1 204", "HTTP/1.1 204 ", "HTTP/1.0 204 No Content"] {
        let head = format!("{line}\r\n\r\n");
        assert!(
            matches!(response(head.as_bytes()),
            Parse::Parsed { value, .. } if value.status == 204),
            "{line}"
        );
    }
}

#[test]
fn frames_by_the_rules_of_rfc_9112() {
    for (fields, expected) in [
        ("", Framing::UntilClose),
        ("Content-Length: 5\r\n", Framing::Length(5)),
        ("content-length:\t5 \r\n", Framing::Length(5)),
        ("Content-Length : 5\r\n", Framing::Length(5)),
        ("Content-Length: 5\r\nContent-Length: 5\r\n", Framing::Length(5)),
        ("Content-Length: 5, 5\r\n", Framing::Length(5)),
        ("Content-Length: 5\r\nContent-Length: 6\r\n", Framing::UntilClose),
        ("Content-Length: -5\r\n", Framing::UntilClose),
        ("Content-Length: +5\r\n", Framing::UntilClose),
        ("Content-Length: 99999999999999999999\r\n", Framing::UntilClose),
        ("Content-Length:\r\n", Framing::UntilClose),
        ("Content-Length: 0\r\n", Framing::None),
        ("Transfer-Encoding: chunked\r\n", Framing::Chunked),
        ("Transfer-Encoding: gzip, Chunked\r\n", Framing::Chunked),
        ("Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n", Framing::Chunked),
        ("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", Framing::Chunked),
        ("Transfer-Encoding: gzip\r\n", Framing::UntilClose),
        ("Transfer-Encoding: gzip\r\nContent-Length: 5\r\n", Framing::Unknown),
        ("Transfer-Encoding: identity\r\n", Framing::UntilClose),
        ("Transfer-Encoding: Identity\r\nContent-Length: 5\r\n", Framing::Length(5)),
        ("Transfer-Encoding: identity, chunked\r\nContent-Length: 5\r\n", Framing::Chunked),
    ] {
        assert_eq!(framing(fields), expected, "{fields}");
    }
}

#[test]
fn a_request_without_framing_fields_has_no_content() {
    assert_eq!(parsed(b"POST / HTTP/1.1\r\n\r\n").framing(), Framing::None);
    let contradictory = b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n";
    assert_eq!(parsed(contradictory).framing(), Framing::Unknown);
}

#[test]
fn head_204_304_connect_and_101_have_no_content() {
    let with_length = |status: u16, kind| {
        let head = format!("HTTP/1.1 {status} x\r\nContent-Length: 9\r\n\r\n").into_bytes();
        let Parse::Parsed { value, .. } = response(&head) else { panic!() };
        value.framing(kind)
    };
    assert_eq!(with_length(200, RequestKind::Head), Framing::None);
    assert_eq!(with_length(204, RequestKind::Other), Framing::None);
    assert_eq!(with_length(304, RequestKind::Other), Framing::None);
    assert_eq!(with_length(200, RequestKind::Connect), Framing::Tunnel);
    assert_eq!(with_length(407, RequestKind::Connect), Framing::Length(9));
    assert_eq!(with_length(101, RequestKind::Other), Framing::Tunnel);
}

#[test]
fn a_folded_line_does_not_hide_the_next_field() {
    let head = parsed(b"GET / HTTP/1.1\r\nX-A: 1\r\n host: no\r\nHost: yes\r\n\r\n");
    assert_eq!(head.fields.host, Some(&b"yes"[..]));
}

#[test]
fn a_cut_head_keeps_its_complete_lines() {
    let head = cut_request(b"GET /x HTTP/1.1\r\nHost: h\r\nCookie: aaaa").unwrap();
    assert_eq!((head.target, head.fields.host), (&b"/x"[..], Some(&b"h"[..])));
    assert_eq!(cut_request(b"GET /xxxxxxxx"), None);
}

#[test]
fn tells_requests_from_responses_as_soon_as_possible() {
    assert_eq!(side(b"H"), None);
    assert_eq!(side(b"HTTP"), None);
    assert_eq!(side(b"HE"), Some(Side::Request));
    assert_eq!(side(b"HTTP/1"), Some(Side::Response));
    assert_eq!(empty_lines(b"\r\n\n\r\nGET"), 5);
    assert_eq!(empty_lines(b"\r\n\r"), 2);
}
