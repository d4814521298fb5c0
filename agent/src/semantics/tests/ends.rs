//! Who is at the ends of a connection, and by what scheme: what fields say, and what the connection is.

use super::*;

#[test]
fn scheme_comes_from_the_first_proxy_else_from_the_connection() {
    for (source, forwarded, expected) in [
        (Source::Socket, None, "http"),
        (Source::CLibrary, None, "https"),
        (Source::Socket, Some("https"), "https"),
        (Source::Socket, Some("HTTPS, http"), "https"),
        (Source::CLibrary, Some("http"), "http"),
        (Source::CLibrary, Some("random-text-of-a-client"), "https"),
    ] {
        let found = made(Role::Server, |exchange| {
            on(exchange, |connection| connection.source = source);
            http(exchange).forwarded_proto = forwarded.map(Into::into);
        });
        assert_eq!(found.text("url.scheme"), expected, "{forwarded:?}");
        let port = if expected == "https" { "443" } else { "80" };
        assert_eq!(found.text("server.port"), port, "{forwarded:?}");
    }
}

#[test]
fn server_comes_from_the_target_then_host_then_the_connection() {
    for (target, host, address, port) in [
        ("/", Some("a.example"), "a.example", "80"),
        ("/", Some("a.example:81"), "a.example", "81"),
        ("/", Some("[::1]:81"), "::1", "81"),
        ("http://b.example:82/x", Some("a.example"), "b.example", "82"),
        ("/", None, "10.0.0.2", "8080"),
        ("/", Some("bad host"), "10.0.0.2", "8080"),
        ("*", Some("a.example"), "a.example", "80"),
    ] {
        for role in [Role::Server, Role::Client] {
            let found = made(role, |exchange| {
                http(exchange).target = target.into();
                http(exchange).host = host.map(Into::into);
            });
            assert_eq!(found.text("server.address"), address, "{role:?} {target} {host:?}");
            assert_eq!(found.text("server.port"), port, "{role:?} {target} {host:?}");
        }
    }
}

#[test]
fn client_is_the_forwarded_one_else_the_peer() {
    for (forwarded, address, port) in [
        (None, "10.0.0.1", "50000"),
        (Some("203.0.113.7"), "203.0.113.7", "-"),
        (Some("\"[2001:db8::1]:9\""), "2001:db8::1", "9"),
        (Some("1.2.3.4:5"), "1.2.3.4", "5"),
        (Some("unknown"), "unknown", "-"),
        (Some(""), "10.0.0.1", "50000"),
    ] {
        let found = made(Role::Server, |e| http(e).forwarded_for = forwarded.map(Into::into));
        assert_eq!(found.text("client.address"), address, "{forwarded:?}");
        assert_eq!(found.text("client.port"), port, "{forwarded:?}");
        assert_eq!(found.text("network.peer.address"), "10.0.0.1");
    }
}

#[test]
fn unix_sockets_have_paths_and_no_ports() {
    let unix = |exchange: &mut Exchange| {
        on(exchange, |connection| {
            connection.local = Endpoint::Unix { path: "".into() };
            connection.remote = Endpoint::Unix { path: "/run/app.sock".into() };
        });
    };
    let found = made(Role::Client, |exchange| {
        unix(exchange);
        http(exchange).host = None;
    });
    for (key, expected) in [
        ("network.transport", "unix"),
        ("network.peer.address", "/run/app.sock"),
        ("network.peer.port", "-"),
        ("server.address", "/run/app.sock"),
        ("server.port", "-"),
    ] {
        assert_eq!(found.text(key), expected, "{key}");
    }
    let found = made(Role::Client, unix);
    assert_eq!(found.text("server.address"), "example.com");
    assert_eq!(found.text("server.port"), "-");
}

#[test]
fn the_path_of_a_unix_socket_is_the_servers_alone() {
    // Both ends are told with the one path that the socket has.
    let path = "/run/app.sock";
    let unix = |exchange: &mut Exchange| {
        on(exchange, |connection| {
            connection.local = Endpoint::Unix { path: path.into() };
            connection.remote = Endpoint::Unix { path: path.into() };
        });
        http(exchange).host = None;
        http(exchange).forwarded_for = None;
    };
    let server = made(Role::Server, unix);
    let client = made(Role::Client, unix);
    for (key, of_server, of_client) in [
        ("network.transport", "unix", "unix"),
        ("server.address", path, path),
        ("client.address", "-", "-"),
        ("network.peer.address", "-", path),
    ] {
        assert_eq!(
            (server.text(key), client.text(key)),
            (of_server.into(), of_client.into()),
            "{key}"
        );
    }
    let bound = made(Role::Server, |exchange| {
        unix(exchange);
        on(exchange, |connection| connection.remote = Endpoint::Unix { path: "@client".into() });
    });
    assert_eq!(bound.text("network.peer.address"), "@client");
    assert_eq!(bound.text("client.address"), "@client");
}
