//! Containers that Podman runs: what it says of them is what spans have to say.

use std::fs;

use remora_tests::{
    agent::Agent,
    images::{EDGE, SECOND_LOG, SECOND_PORT, WEB},
    node::{apart, ask, library, listening},
    podman::{Container, Podman},
    spans::{CLIENT, SERVER, Span},
};
use serde_json::json;

fn lines<'a>(spans: impl IntoIterator<Item = &'a Span>) -> Vec<String> {
    spans.into_iter().map(Span::line).collect()
}

fn https(path: &str) -> String {
    format!("https://127.0.0.1:{SECOND_PORT}{path}")
}

/// The id that Podman has for what it was asked for by name.
fn id(container: &Container<'_>) -> String {
    container.inspect()["Id"].as_str().unwrap().to_owned()
}

/// The requests that it has answered, by its own account.
fn log(container: &Container<'_>) -> Vec<String> {
    let text = fs::read_to_string(container.path(SECOND_LOG)).unwrap();
    text.lines().map(str::to_owned).collect()
}

/// Two images with OpenSSL in the layer that they share; one container is in a user namespace, too.
#[test]
fn spans_of_containers_say_what_podman_says_also_of_what_is_executed_into_them() {
    let Some(podman) = Podman::start() else { return };
    // One whose log is a file: standard output is not to be opened in another user namespace.
    let nginx = r#"--entrypoint=["/usr/sbin/nginx", "-c", "/etc/nginx/second.conf"]"#;
    let web = podman.run("web", &[nginx], WEB);
    let users = ["--uidmap=0:200000:65536", "--gidmap=0:200000:65536"];
    let edge = podman.run("edge", &[nginx, users[0], users[1]], EDGE);
    let other = podman.run("other", &[nginx], WEB);
    assert!(apart(web.pid, &["mnt", "pid", "net", "ipc", "uts"]));
    assert!(apart(edge.pid, &["mnt", "pid", "net", "ipc", "uts", "user"]));
    let all = [(&web, "/web"), (&edge, "/edge"), (&other, "/other")];
    for (container, _) in all {
        listening(container.pid, SECOND_PORT);
    }
    let selectors = json!({"selectors": [
        {"name": "web", "container_id": id(&web)}, {"name": "edge", "container_id": id(&edge)[..12]}]});
    let agent = Agent::configured(&[], &selectors, &[]);
    for (container, path) in all {
        ask(container.pid, &https(&format!("{path}/first")));
        ask(container.pid, &format!("http://127.0.0.1:{}{path}/plain", SECOND_PORT + 1));
    }
    // Long enough to be met: nobody answers at its first address, and it waits for a second.
    let nobody =
        ["--retry", "1", "--retry-connrefused", "--retry-delay", "1", "http://127.0.0.1:1/"];
    let asked = https("/edge/asked");
    edge.exec(&[&["curl", "-sk"], &nobody[..], &["-o", "/dev/null", &asked]].concat());
    // An upgrade under a server that runs.
    let library = library(web.pid);
    let new = format!("{library}.new");
    fs::copy(web.path(&library), web.path(&new)).unwrap();
    fs::rename(web.path(&new), web.path(&library)).unwrap();
    fs::remove_file(web.path("/usr/sbin/nginx")).unwrap();
    ask(web.pid, &https("/web/later"));
    let done = agent.stop();
    assert_eq!(log(&other).len(), 2);
    for (container, service) in [(&web, "web"), (&edge, "edge")] {
        let of = |span: &&Span| span.service == service && span.kind == SERVER;
        let seen: Vec<_> = done.spans.iter().filter(of).collect();
        assert_eq!(lines(seen.iter().copied()), log(container), "{}", done.log);
        for span in seen {
            assert_eq!(span.resource["container.id"], *id(container));
            assert_eq!(span.resource["container.runtime.name"], "podman");
            assert_eq!(span.resource["process.executable.path"], "/usr/sbin/nginx");
        }
    }
    let asked: Vec<_> = done.spans.iter().filter(|span| span.kind == CLIENT).collect();
    assert_eq!(lines(asked.iter().copied()), ["GET /edge/asked 200"], "{}", done.log);
    assert_eq!(asked[0].resource["container.id"], *id(&edge));
    assert_eq!(done.spans.len(), 7, "of others, too: {}", done.log);
}
