//! Pods and containers that containerd runs, as the kubelet has it run them: what the runtime says of itself is
//! what spans have to say.

use std::{fs, path::Path, process::Command, thread, time::Duration};

use remora_tests::{
    agent::{Agent, Done},
    api_server::{ApiServer, pod, replica_set},
    containerd::{Containerd, Pod},
    cri::EXITED,
    images::{EDGE, ONCE, PAUSE, PORT, SECOND_LOG, SECOND_PORT, WEB},
    node::{apart, library, listening},
    process::{lasting, output, until},
    spans::{CLIENT, SERVER, Span},
};
use serde_json::{Value, json};

fn api() -> ApiServer {
    let api = ApiServer::start();
    let (path, set) = replica_set();
    api.object(&path, set);
    api
}

/// A pod of one container.
fn of(name: &str, namespace: &str, image: &str) -> Value {
    let mut pod = pod(name, "node-1");
    pod["metadata"]["namespace"] = namespace.into();
    pod["spec"]["containers"] = json!([{"name": "app", "image": image}]);
    pod
}

fn config(api: &ApiServer, selectors: Value) -> Value {
    json!({"selectors": selectors,
        "kubernetes": {"kubeconfig": api.kubeconfig(), "node": "node-1"}})
}

fn https(pod: &Pod<'_>, path: &str) -> String {
    format!("https://{}:{PORT}{path}", pod.ip())
}

fn lines<'a>(spans: impl IntoIterator<Item = &'a Span>) -> Vec<String> {
    spans.into_iter().map(Span::line).collect()
}

/// What spans of a pod's first container have to say, from what the runtime says.
fn expected(containerd: &Containerd, pod: &Pod<'_>) -> Vec<(&'static str, String)> {
    let container = containerd.cri.container(&pod.containers[0]);
    let label = |key: &str| container.labels[&format!("io.kubernetes.{key}")].clone();
    let image = container.image.expect("an image").image;
    let (name, tag) = image.rsplit_once(':').expect("a tag");
    vec![
        ("container.id", container.id),
        ("container.runtime.name", "containerd".into()),
        ("container.image.name", name.into()),
        ("k8s.container.name", label("container.name")),
        ("k8s.namespace.name", label("pod.namespace")),
        ("k8s.pod.ip", pod.ip()),
        ("k8s.pod.name", label("pod.name")),
        ("k8s.pod.uid", label("pod.uid")),
        ("service.namespace", label("pod.namespace")),
        (
            "service.instance.id",
            [label("pod.namespace"), label("pod.name"), label("container.name")].join("."),
        ),
        ("container.image.tags", json!({"values": [{"stringValue": tag}]}).to_string()),
    ]
}

fn of_path<'a>(done: &'a Done, start: &str) -> Vec<&'a Span> {
    done.spans.iter().filter(|span| span.text("url.path").starts_with(start)).collect()
}

/// Two images with OpenSSL in the layer that they share; selected by labels and name, by the pod's name, by
/// the id that the runtime gives; from the first request of each on.
#[test]
fn spans_of_pods_say_what_their_runtime_says_from_their_first_request_on() {
    let Some(containerd) = Containerd::start() else { return };
    let api = api();
    // The id of a container is known when it runs.
    let by_id = {
        let mut pod = of("plain", "tools", WEB);
        pod["metadata"]["labels"] = json!({});
        containerd.run(&api, pod)
    };
    let selectors = json!([
        {"kubernetes": {"namespace": "shop", "labels": {"app": "web"}, "container": "app"}},
        {"kubernetes": {"pod": "edge-*"}},
        {"container_id": by_id.containers[0][..12]},
    ]);
    let agent = Agent::configured(&[], &config(&api, selectors), &[]);
    let web = containerd.run(&api, of("web-1", "shop", WEB));
    containerd.node.ask(&https(&web, "/web/first"));
    let mut edge = of("edge-1", "front", EDGE);
    edge["metadata"]["labels"] = json!({"app": "edge"});
    let edge = containerd.run(&api, edge);
    containerd.node.ask(&https(&edge, "/edge/first"));
    // What no selector has.
    let mut other = of("web-2", "other", WEB);
    other["metadata"]["labels"] = json!({"app": "web"});
    let other = containerd.run(&api, other);
    for (pod, path) in [(&web, "/web"), (&edge, "/edge"), (&by_id, "/id"), (&other, "/other")] {
        containerd.node.ask(&https(pod, &format!("{path}/second")));
        containerd.node.ask(&format!("http://{}:{}{path}/plain", pod.ip(), PORT + 1));
    }
    // Long enough to be met: nobody answers at its first address, and it waits for a second.
    let nobody =
        ["--retry", "1", "--retry-connrefused", "--retry-delay", "1", "http://127.0.0.1:1/"];
    let asked = https(&edge, "/edge/asked");
    let exec = [&["curl", "-sk"], &nobody[..], &["-o", "/dev/null", &asked]].concat();
    containerd.cri.exec(&web.containers[0], &exec);
    let pods = [(web, "/web"), (edge, "/edge"), (by_id, "/id")];
    assert!(pods.iter().all(|(pod, _)| apart(pod.pid(), &["mnt", "pid", "net", "ipc", "uts"])));
    let library = library(pods[0].0.pid());
    let mut logs: Vec<String> = pods.iter().flat_map(|(pod, _)| pod.log()).collect();
    let done = agent.stop();
    let mut seen = lines(done.spans.iter().filter(|span| span.kind == SERVER));
    logs.sort();
    seen.sort();
    assert_eq!(seen, logs, "{}", done.log);
    assert_eq!(other.log().len(), 2);
    for (pod, path) in &pods {
        let expected = expected(&containerd, pod);
        for span in of_path(&done, path).iter().filter(|span| span.kind == SERVER) {
            for (key, value) in &expected {
                let found = &span.resource[*key];
                let found = found.as_str().map_or_else(|| found.to_string(), str::to_owned);
                assert_eq!(found, *value, "{key} of {:?}", span.resource);
            }
        }
    }
    // What was executed into the first one is that one's, with another's request.
    let asked: Vec<_> = done.spans.iter().filter(|span| span.kind == CLIENT).collect();
    assert_eq!(lines(asked.iter().copied()), ["GET /edge/asked 200"], "{}", done.log);
    assert_eq!(asked[0].resource["container.id"], *pods[0].0.containers[0]);
    assert_eq!(asked[0].resource["k8s.pod.name"], "web-1");
    // As the container has it; what starts containers may have another.
    let attached = format!("attached to OpenSSL path={library} ");
    assert_eq!(done.log.matches(&attached).count(), 1, "{}", done.log);
}

/// A file as it is when a package is upgraded: a new one of its name.
fn replace(path: &Path) {
    let new = path.with_extension("new");
    fs::copy(path, &new).unwrap();
    fs::rename(&new, path).unwrap();
}

/// What an upgrade does to a container that runs: whoever runs goes on with what it had, whoever is started
/// by `exec` has the new one; also for an agent that comes later.
#[test]
fn programs_and_libraries_that_are_replaced_in_a_running_container_are_seen_old_and_new() {
    let Some(containerd) = &Containerd::start() else { return };
    let pod = containerd.run(&api(), of("web-1", "shop", WEB));
    let (pid, container) = (pod.pid(), &pod.containers[0]);
    listening(pid, PORT);
    let root = Path::new("/proc").join(pid.to_string()).join("root");
    let inside = |path: &str| root.join(path.trim_start_matches('/'));
    let (library, nginx) = (library(pid), "/usr/sbin/nginx");
    let selectors = json!({"selectors": [{"container_id": container[..16]}]});
    let agent = Agent::configured(&[], &selectors, &[]);
    let ask = |path: &str| {
        for port in [PORT, SECOND_PORT] {
            containerd.node.ask(&format!("https://{}:{port}{path}", pod.ip()));
        }
    };
    replace(&inside(&library));
    replace(&inside(nginx));
    let [before, after] = thread::scope(|scope| {
        let second = [nginx, "-c", "/etc/nginx/second.conf"];
        let second = scope.spawn(move || containerd.cri.exec(container, &second));
        listening(pid, SECOND_PORT);
        fs::remove_file(inside(nginx)).unwrap();
        fs::remove_file(inside(&library)).unwrap();
        ["/0", "/1"].into_iter().for_each(ask);
        let before = agent.stop();
        let agent = Agent::configured(&[], &selectors, &[]);
        ["/2", "/3"].into_iter().for_each(ask);
        let after = agent.stop();
        let master = fs::read_to_string(inside("/tmp/second.pid")).unwrap();
        let quit = format!("kill -QUIT {}", master.trim());
        let enter = ["--pid", "--target", &pid.to_string(), "--", "sh", "-c", &quit];
        output(Command::new("nsenter").args(enter));
        second.join().unwrap();
        [before, after]
    });
    let (first, second) = (pod.log(), fs::read_to_string(inside(SECOND_LOG)).unwrap());
    let second: Vec<_> = second.lines().collect();
    let expected = ["/0", "/1", "/2", "/3"].map(|path| format!("GET {path} 200"));
    assert_eq!((&first[..], &second[..]), (&expected[..], &expected.each_ref().map(|s| &**s)[..]));
    for (done, expected) in [(&before, &expected[..2]), (&after, &expected[2..])] {
        for port in [PORT, SECOND_PORT] {
            let of = |span: &&Span| span.int("server.port") == Some(port.into());
            assert_eq!(lines(done.spans.iter().filter(of)), expected, "{port}: {}", done.log);
        }
        // The agent that came later finds both deleted.
        assert_eq!(done.log.matches("attached to OpenSSL").count(), 2, "{}", done.log);
        for span in &done.spans {
            assert_eq!(span.resource["container.id"], **container);
            assert_eq!(span.resource["process.executable.path"], nginx, "{:?}", span.resource);
        }
    }
}

#[test]
fn containers_that_a_runtime_starts_and_stops_leave_nothing_behind() {
    let Some(containerd) = Containerd::start() else { return };
    let many = !lasting(Duration::ZERO, Duration::from_secs(1)).is_zero();
    let count = if many { 200 } else { 12 };
    let api = api();
    let selectors = json!([{"kubernetes": {"pod": "many", "container": "once-*"}}]);
    let agent = Agent::configured(&[], &config(&api, selectors), &[]);
    let pod = containerd.run(&api, of("many", "shop", PAUSE));
    let mut before = (0, 0);
    for number in 0..count {
        // With what it has for itself: connections to the API server, a place to read from.
        if number == 2 {
            before = agent.holds();
        }
        let name = format!("once-{number}");
        let id = pod.add(&name, ONCE);
        let mut members = Vec::new();
        until("the container's process", || {
            members = containerd.node.members(&id);
            !members.is_empty()
        });
        listening(members[0], 8080);
        pod.ask(&format!("http://127.0.0.1:8080/{name}"));
        until("its end", || containerd.cri.container(&id).state == EXITED);
        containerd.cri.remove(&id);
    }
    // It may have been reading a file of /proc before.
    until("the agent to hold no more than before", || {
        let now = agent.holds();
        println!("before: {before:?}, now: {now:?}");
        now.0 <= before.0 && now.1 == before.1
    });
    let done = agent.stop();
    let expected: Vec<_> = (0..count).map(|number| format!("GET /once-{number} 200")).collect();
    assert_eq!(lines(&done.spans), expected, "{}", done.log);
    assert_eq!(done.requests(), [count, count, 0, 0], "{}", done.log);
    for (number, span) in done.spans.iter().enumerate() {
        assert_eq!(span.resource["k8s.container.name"], format!("once-{number}"));
    }
    for (map, entries) in done.gauges("remora.kernel.map.entries") {
        assert_eq!(entries, 0, "{map} holds what has ended: {}", done.log);
    }
}
