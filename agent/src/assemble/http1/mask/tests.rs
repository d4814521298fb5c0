//! Whatever the cuts, no secret stays, and the head parses as it did.

use proptest::prelude::*;

use memchr::memrchr;

use super::*;
use crate::{
    protocol::{Parse, http1},
    semantics::Target,
};

fn masked(head: &[u8], cuts: &[usize]) -> Vec<u8> {
    let mut out = vec![0; head.len()];
    let mut mask = HeadMask::new();
    let mut from = 0;
    for &to in cuts.iter().chain([&head.len()]) {
        let whole = cuts.is_empty();
        mask.mask(&head[from..to], whole, &mut out[from..to]);
        from = to;
    }
    out
}

fn text(head: &str) -> String {
    String::from_utf8(masked(head.as_bytes(), &[])).unwrap()
}

#[test]
fn only_what_a_span_is_made_of_is_kept() {
    let head = "GET /a?b=c&token=s3cret&d=e HTTP/1.1\r\nHost: h:80\r\nCookie: a=b\r\n\
                X-Unheard-Of: s3cret\r\nUser-Agent: curl\r\n folded s3cret\r\n\r\n";
    assert_eq!(
        text(head),
        "GET /a?b=c&token=xxxxxx&d=e HTTP/1.1\r\nHost: h:80\r\nxxxxxxxxxxx\r\n\
         xxxxxxxxxxxxxxxxxxxx\r\nUser-Agent: curl\r\nxxxxxxxxxxxxxx\r\n\r\n"
    );
    let head = "HTTP/1.1 200 s3cret reason\r\nSet-Cookie: s3cret\r\ncontent-length : 5\r\n\r\n";
    assert_eq!(
        text(head),
        "HTTP/1.1 200 xxxxxx xxxxxx\r\nxxxxxxxxxxxxxxxxxx\r\ncontent-length : 5\r\n\r\n"
    );
}

#[test]
fn secrets_of_targets_are_found_in_every_form() {
    for (target, expected) in [
        ("/a;jsessionid=12/b;v=1?sid=3#frag", "/a;jsessionid=xx/b;v=1?sid=x#xxxx"),
        ("http://u:p@h:81/p?sig=1", "http://xxx@h:81/p?sig=x"),
        ("/?a=1;password=x y;b=2&c=3", "/?a=1;password=x xxxxx&c=3"),
        ("/?user%5Bpassword%5D=x", "/?user%5Bpassword%5D=x"),
        ("/?token=a HTTP/1.1x&b=c", "/?token=x HTTP/1.1x&b=c"),
        ("*", "*"),
        ("/?q=token=1&key==", "/?q=token=1&key=x"),
    ] {
        let head = format!("GET {target} HTTP/1.1\r\n\r\n");
        assert_eq!(text(&head), format!("GET {expected} HTTP/1.1\r\n\r\n"));
    }
    assert_eq!(text("CONNECT u:p@h:1 HTTP/1.1\r\n\r\n"), "CONNECT xxx@h:1 HTTP/1.1\r\n\r\n");
    assert_eq!(
        text("GET / HTTP/1.1\r\nHost: u:p@h\r\n\r\n"),
        "GET / HTTP/1.1\r\nHost:xxxx@h\r\n\r\n"
    );
}

#[test]
fn a_password_in_a_cut_authority_is_not_kept() {
    let head = b"GET http://user:pass@h:8/ HTTP/1.1\r\nHost: user:pass@h:8\r\n\r\n";
    let cuts: Vec<usize> = (1..head.len()).collect();
    let out = masked(head, &cuts);
    assert_eq!(
        out.escape_ascii().to_string(),
        r"GET http://user:xxxx@h:8/ HTTP/1.1\r\nHost: user:xxxx@h:8\r\n\r\n"
    );
}

#[test]
fn a_host_with_spaces_before_an_at_sign_is_as_it_was() {
    let head = b"GET / HTTP/1.0\r\nHost:\t0a\t00 @\r\n\r\n";
    for cut in 0..head.len() {
        assert_eq!(facts(head), facts(&masked(head, &[cut])), "cut at {cut}");
    }
    assert_eq!(facts(head), facts(&masked(head, &[])));
}

/// An authority as far as it is kept wherever it is cut; the mask is tested elsewhere.
fn without_userinfo(authority: &[u8]) -> Vec<u8> {
    let host = memrchr(b'@', authority).map_or(authority, |at| &authority[at + 1..]);
    let mut out = vec![0; host.len()];
    Host::default().mask(host, &mut out);
    out
}

/// What reassembly sees in a head, without what is redacted in spans.
fn facts(head: &[u8]) -> String {
    let value =
        |value: Option<&[u8]>| format!("{:?}", value.map(|value| value.escape_ascii().to_string()));
    let framing = |fields: &http1::Fields<'_>| {
        format!("{:?} {:?}", fields.content_length, fields.transfer_coding)
    };
    let of = |fields: &http1::Fields<'_>| {
        let state: Vec<_> =
            fields.lines().filter(|(name, _)| name.eq_ignore_ascii_case(b"tracestate")).collect();
        format!(
            "{} {} {} {} {} {} {} {} {state:?}",
            framing(fields),
            value(fields.host.map(without_userinfo).as_deref()),
            value(fields.user_agent),
            value(fields.forwarded),
            value(fields.x_forwarded_for),
            value(fields.x_forwarded_proto),
            value(fields.traceparent),
            fields.traceparent_count,
        )
    };
    match http1::side(head) {
        Some(http1::Side::Request) => match http1::request(head) {
            Parse::Parsed { value: request, used } => {
                let method = str::from_utf8(request.method).unwrap();
                let target = String::from_utf8_lossy(request.target);
                let target = Target::parse(method, &target);
                // Nothing is kept of a target behind a space in its authority.
                let cut = target.authority.and_then(|authority| authority.split_once(' '));
                let authority = cut.map(|(begin, _)| begin).or(target.authority);
                let authority = authority.map(|authority| without_userinfo(authority.as_bytes()));
                let (path, query) = match cut {
                    Some(_) => ("", None),
                    None => (target.path, target.query),
                };
                if !is_common_method(method) {
                    return format!("{} {used} {}", request.minor, of(&request.fields));
                }
                format!(
                    "{method} {} {used} {} {:?} {} {:?} {}",
                    request.minor,
                    of(&request.fields),
                    target.form,
                    value(authority.as_deref()),
                    redact::redact_path(path),
                    query.map(redact::redact_query).unwrap_or_default(),
                )
            }
            other => format!("{}", matches!(other, Parse::NeedMore)),
        },
        Some(http1::Side::Response) => match http1::response(head) {
            Parse::Parsed { value: response, used } => {
                format!(
                    "{} {} {used} {}",
                    response.minor,
                    response.status,
                    framing(&response.fields)
                )
            }
            other => format!("{}", matches!(other, Parse::NeedMore)),
        },
        None => "none".into(),
    }
}

fn head() -> impl Strategy<Value = Vec<u8>> {
    let start = prop_oneof![
        "(GET|POST|CONNECT|BREW|H|HTTP|OPTIONS) [/*h][a-z:/?#@;=&% ]{0,30} HTTP/1[.][01]",
        "HTTP/1[.][01] [1-9][0-9][0-9]( [a-zA-Z ]{0,9})?",
        "[ -~]{0,20}",
    ];
    let name = prop_oneof![
        "(Host|host|Content-Length|Transfer-Encoding|traceparent|tracestate|User-Agent|Forwarded|\
         X-Forwarded-For|X-Forwarded-Proto|Authorization|Cookie|X-A|Hos|Hosts| folded)[ \t]{0,2}",
        "[!-~]{0,8}",
    ];
    let end = prop_oneof![4 => Just("\r\n"), 1 => Just("\n"), 1 => Just("\r\r\n")];
    let field = (name, "[:]?[ -~\t]{0,12}", end.clone())
        .prop_map(|(name, value, end)| format!("{name}{value}{end}"));
    (start, end, proptest::collection::vec(field, 0..6), "(\r\n|\n|)").prop_map(
        |(start, end, fields, last)| format!("{start}{end}{}{last}", fields.concat()).into_bytes(),
    )
}

proptest! {
    #[test]
    fn a_masked_head_parses_as_it_did(head in head(), cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..6)) {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(head.len() + 1)).collect();
        cuts.sort_unstable();
        let out = masked(&head, &cuts);
        prop_assert_eq!(facts(&head), facts(&out), "{}", out.escape_ascii());
    }

    #[test]
    fn any_bytes_are_masked_in_place_and_once_is_enough(
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
        cut in any::<proptest::sample::Index>(),
    ) {
        let cut = [cut.index(bytes.len() + 1)];
        let once = masked(&bytes, &cut);
        prop_assert_eq!(masked(&once, &cut), once);
    }
}
