use super::*;
use crate::{
    exchange::{Detail, HttpExchange},
    semantics::{
        metrics::Key,
        tests::{exchange, span},
    },
    span::{Span, SpanKind, Status},
};

fn call(role: Role, change: impl FnOnce(&mut Exchange, &mut RpcExchange)) -> Span {
    let mut exchange = exchange(role);
    let mut rpc = RpcExchange {
        http: HttpExchange {
            method: "POST".into(),
            target: "/shop.v1.Stock/Count".into(),
            version: (2, 0),
            host: Some("stock:50051".into()),
            status: 200,
            ..HttpExchange::default()
        },
        status: Some(0),
    };
    change(&mut exchange, &mut rpc);
    exchange.detail = Detail::Grpc(Box::new(rpc));
    span(exchange)
}

fn text(span: &Span, key: &str) -> String {
    crate::semantics::tests::Collected::of(span).text(key).to_owned()
}

#[test]
fn a_call_has_the_attributes_of_calls_and_none_of_http() {
    for (role, kind) in [(Role::Server, SpanKind::Server), (Role::Client, SpanKind::Client)] {
        let span = call(role, |_, _| {});
        assert_eq!((&*span.name(), span.kind()), ("shop.v1.Stock/Count", kind));
        assert_eq!((span.status(), span.summary()), (Status::Unset, "shop.v1.Stock/Count".into()));
        for (key, expected) in [
            ("rpc.system.name", "grpc"),
            ("rpc.method", "shop.v1.Stock/Count"),
            ("rpc.method_original", "-"),
            ("rpc.response.status_code", "OK"),
            ("error.type", "-"),
            ("server.address", "stock"),
            ("server.port", "50051"),
            ("rpc.service", "-"),
            ("rpc.system", "-"),
            ("rpc.grpc.status_code", "-"),
            ("http.request.method", "-"),
            ("network.protocol.name", "-"),
            ("client.address", "-"),
            ("network.transport", "tcp"),
        ] {
            assert_eq!(text(&span, key), expected, "{key}");
        }
    }
}

/// (code, is it an error of a server, its name)
#[test]
fn codes_are_errors_of_clients_and_some_of_servers() {
    for code in 0..18 {
        let of_server = [2, 4, 12, 13, 14, 15, 17].contains(&code);
        for (role, is_error) in [(Role::Server, of_server), (Role::Client, code != 0)] {
            let span = call(role, |_, rpc| rpc.status = Some(code));
            assert_eq!(span.status() == Status::Error, is_error, "{role:?} {code}");
            let name = CODES.get(code as usize).unwrap_or(&"_OTHER");
            assert_eq!(text(&span, "rpc.response.status_code"), *name);
            assert_eq!(text(&span, "error.type"), if is_error { name } else { "-" });
        }
    }
}

#[test]
fn a_reset_is_the_code_that_it_stands_for() {
    for (code, name, of_server) in [
        (8, "CANCELLED", false),
        (7, "UNAVAILABLE", true),
        (2, "INTERNAL", true),
        (11, "RESOURCE_EXHAUSTED", false),
    ] {
        for (role, is_error) in [(Role::Server, of_server), (Role::Client, true)] {
            let span = call(role, |exchange, rpc| {
                exchange.failure = Some(Failure::StreamReset(code));
                rpc.status = None;
            });
            assert_eq!(text(&span, "rpc.response.status_code"), name);
            assert_eq!(span.status() == Status::Error, is_error, "{role:?} {code}");
        }
    }
}

#[test]
fn what_failed_without_a_code_is_called_by_the_failure() {
    for role in [Role::Server, Role::Client] {
        let span = call(role, |exchange, rpc| {
            exchange.failure = Some(Failure::Reset);
            (rpc.status, rpc.http.status) = (None, 0);
        });
        assert_eq!(text(&span, "rpc.response.status_code"), "-");
        assert_eq!(
            (text(&span, "error.type"), span.status()),
            ("connection_reset".into(), Status::Error)
        );
        assert_eq!(span.outcome().text, "-");
    }
    // A proxy that answers in plain HTTP.
    let span = call(Role::Client, |_, rpc| (rpc.status, rpc.http.status) = (None, 503));
    assert_eq!(text(&span, "error.type"), "UNAVAILABLE");
}

#[test]
fn methods_that_anybody_may_make_up_are_none() {
    let span = call(Role::Server, |_, rpc| rpc.status = Some(UNIMPLEMENTED));
    assert_eq!(span.name(), "grpc");
    assert_eq!(text(&span, "rpc.method"), "_OTHER");
    assert_eq!(text(&span, "rpc.method_original"), "shop.v1.Stock/Count");
    let span = call(Role::Client, |_, rpc| rpc.status = Some(UNIMPLEMENTED));
    assert_eq!(span.name(), "shop.v1.Stock/Count");
    for bad in ["/", "/Count", "Stock/Count", "/Stock/", "//Count", "/Stock/Count?token=JZ"] {
        let span = call(Role::Client, |_, rpc| rpc.http.target = bad.into());
        assert_eq!((&*span.name(), text(&span, "rpc.method")), ("grpc", "_OTHER".into()), "{bad}");
        assert!(!text(&span, "rpc.method_original").contains("JZ"));
    }
    let span = call(Role::Client, |_, rpc| rpc.http.target = "".into());
    assert_eq!((&*span.name(), text(&span, "rpc.method")), ("grpc", "-".into()));
}

#[test]
fn series_are_told_apart_by_method_and_code_and_clients_by_their_server() {
    let server = call(Role::Server, |_, _| {});
    let keys: Vec<_> = Key::of(&server).attributes().into_iter().map(|(key, _)| key).collect();
    assert_eq!(keys, ["rpc.system.name", "rpc.method", "rpc.response.status_code"]);
    let client = call(Role::Client, |_, rpc| rpc.status = Some(5));
    let list = Key::of(&client).attributes();
    let list: Vec<_> = list.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let expected = [
        "rpc.system.name=grpc",
        "rpc.method=shop.v1.Stock/Count",
        "rpc.response.status_code=NOT_FOUND",
        "error.type=NOT_FOUND",
        "server.address=stock",
        "server.port=50051",
    ];
    assert_eq!(list, expected);
    let owned = crate::semantics::metrics::OwnedKey::of(&Key::of(&client));
    assert!(owned.is(&Key::of(&client)) && !owned.is(&Key::of(&server)));
    assert_eq!(owned.borrow(), Key::of(&client));
}
