//! Claims about what is hidden.

use proptest::prelude::*;

use super::*;

#[test]
fn own_names_are_sorted_for_the_search() {
    assert!(OURS.is_sorted());
    assert!(OURS.iter().chain(CONVENTIONAL).all(|name| name.len() <= MAX_NAME_LEN));
}

#[test]
fn sensitive_values_are_replaced_and_the_rest_stays() {
    for (query, expected) in [
        ("", ""),
        ("a=1&b=2", "a=1&b=2"),
        ("color=blue&sig=abc", "color=blue&sig=REDACTED"),
        ("sig=abc&color=blue", "sig=REDACTED&color=blue"),
        ("AWSAccessKeyId=A&Signature=S", "AWSAccessKeyId=REDACTED&Signature=REDACTED"),
        (
            "X-Goog-Signature=x&X-Amz-Signature=y",
            "X-Goog-Signature=REDACTED&X-Amz-Signature=REDACTED",
        ),
        ("X-Amz-Security-Token=t", "X-Amz-Security-Token=REDACTED"),
        (
            "access_token=a&accessToken=b&ACCESS-TOKEN=c",
            "access_token=REDACTED&accessToken=REDACTED&ACCESS-TOKEN=REDACTED",
        ),
        ("api_key=1&apikey=2&apiKey=3", "api_key=REDACTED&apikey=REDACTED&apiKey=REDACTED"),
        ("token=a=b==", "token=REDACTED"),
        ("token=", "token="),
        ("token", "token"),
        ("token&x=1", "token&x=1"),
        ("%74oken=secret", "%74oken=REDACTED"),
        ("user[password]=x&a[]=1", "user[password]=REDACTED&a[]=1"),
        ("user%5Bpassword%5D=x", "user%5Bpassword%5D=REDACTED"),
        ("a=1;password=x;b=2", "a=1;password=REDACTED"),
        ("password=x;y", "password=REDACTED"),
        ("password=a&password=b", "password=REDACTED&password=REDACTED"),
        ("tokens=5&keyboard=us&design=1", "tokens=5&keyboard=us&design=1"),
        ("q=token=1", "q=token=1"),
        ("&&sig=1&&", "&&sig=REDACTED&&"),
    ] {
        assert_eq!(redact_query(query), expected, "{query}");
    }
}

#[test]
fn urls_in_parameters_tell_no_credential_however_they_are_encoded() {
    for (query, expected) in [
        ("to=https://u:S@h/a&x=1", "to=https://REDACTED@h/a&x=1"),
        ("to=https%3A%2F%2Fu%3AS%40h%2Fa&x=1", "to=https://REDACTED@h/a&x=1"),
        ("to=%2Fcb%23access_token%3DS", "to=/cb%23REDACTED"),
        ("to=%2Fa%3Bjsessionid%3DS%2Fb", "to=/a%3Bjsessionid=REDACTED/b"),
        ("to=%2Fa%3Ftoken%3DS%26b%3D1", "to=/a?token=REDACTED%26b=1"),
        ("to=%252Fa%253Ftoken%253DS", "to=/a?token=REDACTED"),
        ("https://u:S@h/", "https://REDACTED@h/"),
        ("to=/a;sid=S", "to=/a;sid=REDACTED"),
        ("to=%2Fa%3Fto%3D%252Fb%2523S", "to=/a?to=/b%2523REDACTED"),
        ("q=a%2Fb%20c&r=50%25", "q=a%2Fb%20c&r=50%25"),
        ("to=https%3A%2F%2Fh%2Fa%3Fb%3D1", "to=https%3A%2F%2Fh%2Fa%3Fb%3D1"),
    ] {
        assert_eq!(redact_query(query), expected, "{query}");
        assert_eq!(redact_query(expected), expected);
    }
    let mut deep = "/a?token=S".to_owned();
    for _ in 0..9 {
        let encoded: String = deep.bytes().map(|byte| format!("%{byte:02X}")).collect();
        deep = format!("/a?to={encoded}");
        assert!(!redact_query(&deep[3..]).contains("53"), "{}", redact_query(&deep[3..]));
    }
}

#[test]
fn session_ids_in_paths_are_replaced() {
    for (path, expected) in [
        ("/a/b;c=d/e", "/a/b;c=d/e"),
        ("/a;jsessionid=12;v=1/b", "/a;jsessionid=REDACTED;v=1/b"),
        ("/a;JSESSIONID=12", "/a;JSESSIONID=REDACTED"),
        ("/;;/;sid=", "/;;/;sid="),
    ] {
        assert_eq!(redact_path(path), expected);
    }
}

#[test]
fn no_part_of_a_url_in_a_field_tells_a_credential() {
    for (field, value, expected) in [
        ("location", "https://h/cb#access_token=S", "https://h/cb#REDACTED"),
        ("location", "cb#S with more", "cb#REDACTED"),
        ("location", "/a;v=1?b=2", "/a;v=1?b=2"),
        ("location", "//u:S@h/a", "//REDACTED@h/a"),
        ("location", "/go?to=https://u:S@h/&x=1", "/go?to=https://REDACTED@h/&x=1"),
        ("location", "https://u:S#S@h/", "https://REDACTED"),
        ("location", "https://u:S?S@h/", "https://REDACTED"),
        ("location", "https://[::1]:8443/a", "https://[::1]:8443/a"),
        ("location", "https://h/a#", "https://h/a#"),
        ("referer", "https://u:S@h/a;jsessionid=S", "https://REDACTED@h/a;jsessionid=REDACTED"),
        ("referer", "https://S@h", "https://REDACTED@h"),
        ("referer", "android-app://com.example/", "android-app://com.example/"),
        ("content-location", "a;sid=S/b?token=S#S", "a;sid=REDACTED/b?token=REDACTED#REDACTED"),
        ("origin", "https://u:S@h", "https://REDACTED@h"),
        ("origin", "u:S@h", "REDACTED@h"),
        ("origin", "null", "null"),
        ("host", "u:S@h:80", "REDACTED@h:80"),
        ("host", "u:S@h#//", "REDACTED@h#REDACTED"),
        ("origin", "https://u:S#S@h", "https://REDACTED@h"),
        ("x-forwarded-host", "S@h", "REDACTED@h"),
        ("forwarded", "for=1.2.3.4;host=u:S@h", "REDACTED@h"),
        ("refresh", "5; url=https://u:S@h/a#S", "5; url=https://REDACTED@h/a#REDACTED"),
        ("refresh", "0;url=/a;jsessionid=S", "0;url=/a;jsessionid=REDACTED"),
        ("refresh", "5", "5"),
        (
            "link",
            "<https://u:S@h/a#S>; rel=\"next\", </b;sid=S?key=S>; rel=prev",
            "<https://REDACTED@h/a#REDACTED>; rel=\"next\", </b;sid=REDACTED?key=REDACTED>; rel=prev",
        ),
        ("link", "</a#S", "</a#REDACTED"),
        ("x-original-url", "/a#S", "/a#REDACTED"),
        ("hx-current-url", "http://h/#S", "http://h/#REDACTED"),
        ("x-anything", "see https://u:S@h/#S", "see https://REDACTED@h/#REDACTED"),
        ("x-anything", "no. #7, a@b", "no. #7, a@b"),
        ("content-type", "text/html; charset=utf-8", "text/html; charset=utf-8"),
    ] {
        assert_eq!(redact_header(field, value), expected, "{field}: {value}");
        assert_eq!(redact_header(field, expected), expected, "{field}: {expected} again");
    }
}

#[test]
fn nothing_is_copied_without_a_secret() {
    assert!(matches!(redact_query("a=1&b=2"), Cow::Borrowed(_)));
    assert!(matches!(redact_url("https://h:1/a;b?c=1"), Cow::Borrowed(_)));
}

proptest! {
    #[test]
    fn no_secret_value_survives(
        before in proptest::collection::vec("[a-z]{1,5}=[a-z0-9 ;%]{0,6}", 0..4),
        name in proptest::sample::select([CONVENTIONAL, OURS].concat()),
        upper in any::<bool>(),
        after in proptest::collection::vec("[a-z]{1,5}=[a-z0-9]{0,6}", 0..4),
        separator in proptest::sample::select(vec!["&", ";"]),
        secret in "[A-Z0-9/+=]{4,40}",
    ) {
        let name = if upper { name.to_uppercase() } else { name.to_owned() };
        let secret = format!("~{secret}~");
        let middle = format!("{name}={secret}");
        let all: Vec<String> = before.iter().cloned().chain([middle]).chain(after).collect();
        let query = all.join(separator);
        let redacted = redact_query(&query);
        prop_assert!(!redacted.contains(&secret), "{query} -> {redacted}");
        let kept = format!("{name}=REDACTED");
        // With `;` an earlier sensitive parameter takes this one with it.
        prop_assert!(separator == ";" || redacted.contains(&kept), "{query} -> {redacted}");
    }

    #[test]
    fn any_text_is_redacted_without_panic_and_once_is_enough(query in "\\PC{0,80}") {
        let once = redact_query(&query).into_owned();
        prop_assert_eq!(redact_query(&once), once.as_str());
    }

    #[test]
    fn no_userinfo_or_fragment_of_a_url_survives(
        field in proptest::sample::select(vec!["location", "referer", "link", "refresh", "x-any"]),
        user in "[a-z]{0,4}(:|%3A)?",
        path in "(/[a-z]{0,4}){0,3}",
        query in "([?][a-z]=[a-z/:@;&]{0,8})?",
        secret in "[A-Z0-9!$&'*+=:@;,/?-]{4,20}",
    ) {
        let secret = format!("~{secret}~");
        let password = secret.replace(['/', '?'], "");
        let text = format!("https://{user}{password}@h{path}{query}#{secret}");
        let shown = redact_header(field, &text);
        prop_assert!(!shown.contains(&secret) && !shown.contains(&password), "{text} -> {shown}");
    }

    #[test]
    fn any_reference_is_redacted_without_panic_and_once_is_enough(
        text in "(https?:)?[/@:?#;=a-z<> é]{0,40}",
        field in proptest::sample::select(vec!["location", "link", "host", "x-any"]),
    ) {
        let once = redact_header(field, &text).into_owned();
        prop_assert_eq!(redact_header(field, &once), once.as_str());
    }
}
