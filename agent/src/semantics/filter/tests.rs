use std::sync::Arc;

use super::*;
use crate::{
    exchange::{DbExchange, Detail, HeaderValues, Role},
    resource::Resource,
    semantics::{
        chosen::MetricAttributes,
        metrics::{Key, OwnedKey},
        tests::{exchange, http, span},
    },
};

fn glob(text: &str) -> Glob {
    let (negated, text) = text.strip_prefix('!').map_or((false, text), |rest| (true, rest));
    Glob { negated, pattern: text.parse().unwrap() }
}

fn globs(list: &[&str]) -> Vec<Glob> {
    list.iter().map(|text| glob(text)).collect()
}

fn request(method: &str, target: &str, status: u16) -> Span {
    let mut exchange = exchange(Role::Server);
    let message = http(&mut exchange);
    (message.method, message.target, message.status) = (method.into(), target.into(), status);
    span(exchange)
}

fn path(list: &[&str]) -> Rule {
    Rule { paths: globs(list), ..Rule::default() }
}

fn keeps(filter: &Filter, span: &Span) -> (bool, bool) {
    let Kept { traces, metrics } = filter.keeps(span);
    (traces, metrics)
}

#[test]
fn a_rule_matches_when_all_its_keys_do_with_one_of_their_values() {
    let ok = |negated| StatusRange { first: 200, last: 299, negated };
    let rows = [
        (path(&["/healthz", "/metrics"]), "GET", "/metrics?x=1", 200, true),
        (path(&["/healthz"]), "GET", "/healthz/live", 200, false),
        (path(&["/static/*", "!/static/secret*"]), "GET", "/static/a.js", 200, true),
        (path(&["/static/*", "!/static/secret*"]), "GET", "/static/secret.js", 200, false),
        (path(&["!/api/*"]), "GET", "/api/1", 200, false),
        (path(&["!/api/*", "!/login"]), "GET", "/login", 200, false),
        (path(&["!/api/*", "!/login"]), "GET", "/else", 200, true),
        (path(&["*"]), "CONNECT", "h:443", 200, false),
        (Rule { methods: globs(&["OPTIONS", "HEAD"]), ..path(&["/*"]) }, "HEAD", "/", 200, true),
        (Rule { methods: globs(&["OPTIONS"]), ..path(&["/*"]) }, "GET", "/", 200, false),
        (Rule { statuses: vec![ok(false)], ..Rule::default() }, "GET", "/", 204, true),
        (Rule { statuses: vec![ok(false)], ..Rule::default() }, "GET", "/", 404, false),
        (Rule { statuses: vec![ok(true)], ..Rule::default() }, "GET", "/", 404, true),
        (Rule { statuses: vec![ok(true)], ..Rule::default() }, "GET", "/", 0, false),
    ];
    for (rule, method, target, status, expected) in rows {
        let found = rule.matches(&request(method, target, status));
        assert_eq!(found, expected, "{rule:?}: {method} {target} {status}");
    }
}

#[test]
fn routes_attributes_and_resources_are_asked_for_by_their_names() {
    let mut exchange = exchange(Role::Server);
    let header = "http.request.header.x-tenant";
    let values = vec!["a".into(), "test-b".into()];
    http(&mut exchange).request_headers = vec![HeaderValues { key: header.into(), values }];
    let resource = Resource::new([("k8s.namespace.name".into(), "test".into())]);
    let span =
        Span { route: Some("/users/{id}".into()), resource: Arc::new(resource), ..span(exchange) };
    let with = |key: &str, text: &str| {
        let attributes = vec![(key.into(), glob(text))];
        Rule { attributes, ..Rule::default() }.matches(&span)
    };
    assert!(with("user_agent.original", "curl/*") && !with("user_agent.original", "!curl/*"));
    assert!(with("server.port", "80") && with("server.port", "!8080"));
    assert!(with(header, "test-*") && !with(header, "!test-*"));
    assert!(with("k8s.namespace.name", "test") && !with("k8s.namespace.name", "!test"));
    assert!(!with("error.type", "*") && !with("error.type", "!500"), "it has none");
    let route = |text: &str| Rule { routes: globs(&[text]), ..Rule::default() }.matches(&span);
    assert!(route("/users/*") && route("!/orders/*") && !route("/orders/*"));
}

#[test]
fn exclude_comes_before_include_and_each_signal_is_asked_for_by_itself() {
    let api = request("GET", "/api/1", 200);
    let (health, other) = (request("GET", "/healthz", 200), request("GET", "/x", 200));
    let filter = Filter { exclude: vec![path(&["/healthz"])], ..Filter::default() };
    assert_eq!(keeps(&filter, &health), (false, false));
    assert_eq!(keeps(&filter, &api), (true, true));
    let include = vec![path(&["/api/*", "/healthz"])];
    let filter = Filter { include, ..filter };
    assert_eq!(keeps(&filter, &health), (false, false));
    assert_eq!(keeps(&filter, &api), (true, true));
    assert_eq!(keeps(&filter, &other), (false, false));
    let traces = Rule { signal: Signal::Traces, ..path(&["/healthz"]) };
    let metrics = Rule { signal: Signal::Metrics, ..path(&["/api/*"]) };
    let filter = Filter { exclude: vec![traces], include: vec![metrics], ..Filter::default() };
    assert_eq!(keeps(&filter, &health), (false, false));
    assert_eq!(keeps(&filter, &api), (true, true));
    assert_eq!(keeps(&filter, &other), (true, false));
    assert_eq!(keeps(&Filter::default(), &other), (true, true));
}

#[test]
fn what_only_http_has_matches_nothing_of_a_database() {
    let mut exchange = exchange(Role::Client);
    let db = DbExchange { operation: "PING".into(), ..DbExchange::default() };
    exchange.detail = Detail::Redis(Box::new(db));
    let span = span(exchange);
    assert!(!path(&["*"]).matches(&span) && !path(&["!/x"]).matches(&span));
    let attributes = vec![("db.operation.name".into(), glob("PING"))];
    assert!(Rule { attributes, ..Rule::default() }.matches(&span));
}

fn attributes(span: &Span, include: &[&str], exclude: &[&str]) -> Vec<String> {
    let list = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
    let chosen = MetricAttributes::new(list(include), list(exclude));
    let added = chosen.added(span);
    let key = Key::chosen(span, &chosen, &added);
    let owned = OwnedKey::of(&key);
    assert!(owned.is(&key) && owned.borrow() == key);
    let mut names: Vec<String> =
        key.attributes().into_iter().map(|(key, value)| format!("{key}={value}")).collect();
    names.sort();
    names
}

#[test]
fn series_have_the_attributes_that_were_chosen_each_once() {
    let client = span(exchange(Role::Client));
    let all = attributes(&client, &[], &[]);
    let without = attributes(&client, &["server.*", "url.scheme"], &["server.port"]);
    let expected: Vec<_> = all.iter().filter(|one| !one.starts_with("server.port")).collect();
    assert_eq!(without.iter().collect::<Vec<_>>(), expected);
    let added = attributes(&client, &["user_agent.original", "network.peer.port"], &[]);
    assert_eq!(added.len(), all.len() + 2);
    assert!(added.contains(&"user_agent.original=curl/8".to_owned()), "{added:?}");
    let few = attributes(&client, &[], &["*", "url.scheme"]);
    assert!(few.is_empty(), "{few:?}");
    let server = request("GET", "/", 500);
    let found = attributes(&server, &["server.address"], &["http.response.status_code"]);
    assert!(found.contains(&"error.type=500".to_owned()), "{found:?}");
    assert!(found.contains(&"server.address=example.com".to_owned()), "{found:?}");
    assert!(!found.iter().any(|one| one.starts_with("http.response.status_code")), "{found:?}");
}

#[test]
fn series_that_differ_in_what_is_left_out_are_one() {
    let key = |port: u16| {
        let mut exchange = exchange(Role::Client);
        http(&mut exchange).host = Some(format!("h:{port}").into());
        span(exchange)
    };
    let chosen = MetricAttributes::new(vec![], vec!["server.port".parse().unwrap()]);
    let (one, other) = (key(1), key(2));
    assert_eq!(Key::chosen(&one, &chosen, &[]), Key::chosen(&other, &chosen, &[]));
    assert_ne!(Key::of(&one), Key::of(&other));
    let none = MetricAttributes::default();
    assert_eq!(Key::chosen(&one, &none, &[]), Key::of(&one));
}

#[test]
fn an_error_of_a_database_stays_one_without_its_status_code() {
    let mut exchange = exchange(Role::Client);
    let status_code = Some("23505".into());
    let db = DbExchange { status_code, failed: true, ..DbExchange::default() };
    exchange.detail = Detail::Postgres(Box::new(db));
    let found = attributes(&span(exchange), &[], &["db.response.status_code", "server.*"]);
    assert_eq!(found, ["db.system.name=postgresql", "error.type=23505"]);
}
