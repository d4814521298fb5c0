//! Processes in control groups as the kubelet makes them, with an API server that tells of their pods: what
//! their spans say, which of them are captured, and when that ends.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use remora_tests::{
    agent::Agent,
    api_server::{ApiServer, cluster_uid, container_id, pod, replica_set, uid},
    process::{Running, free_port, listening, output, until},
    skip,
};
use serde_json::{Value, json};

/// `/remora-test-…/pod<uid>/<container>`; gone when dropped, when its members have ended.
struct PodGroup {
    folders: Vec<PathBuf>,
}

impl PodGroup {
    fn new(name: &str) -> Option<Self> {
        let root = Path::new("/sys/fs/cgroup");
        let old = root.join("pids");
        let root = if old.is_dir() { &old } else { root };
        let own = root.join(format!("remora-test-{}-{name}", std::process::id()));
        let of_pod = own.join(format!("pod{}", uid(name)));
        let of_container = of_pod.join(container_id(name));
        fs::create_dir_all(&of_container).ok()?;
        Some(Self { folders: vec![of_container, of_pod, own] })
    }

    /// A web server that is in the group before it becomes one.
    fn serve(&self, port: u16) -> Running {
        let enter = "echo $$ > \"$0\" && exec python3 -m http.server \"$1\" --bind 127.0.0.1";
        let members = self.folders[0].join("cgroup.procs");
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(enter).arg(members).arg(port.to_string());
        let server = Running::start(shell.current_dir("/tmp"));
        listening(port);
        server
    }
}

impl Drop for PodGroup {
    fn drop(&mut self) {
        for folder in &self.folders {
            // Members leave as they end.
            for _ in 0..200 {
                if fs::remove_dir(folder).is_ok() {
                    break;
                }
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
        }
    }
}

fn get(port: u16, path: &str) {
    let url = format!("http://127.0.0.1:{port}{path}");
    output(Command::new("curl").args(["-s", "-o", "/dev/null", &url]));
}

/// Attributes of the resource whose span has this path.
fn resource_of(file: &str, path: &str) -> Option<Value> {
    let lines = file.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let list = |value: &Value, key: &str| value[key].as_array().cloned().unwrap_or_default();
    for resource in lines.flat_map(|line| list(&line, "resourceSpans")) {
        let spans = list(&resource, "scopeSpans");
        let spans = spans.iter().flat_map(|scope| list(scope, "spans"));
        if spans.into_iter().any(|span| span.to_string().contains(&format!("\"{path}\""))) {
            let pairs = list(&resource["resource"], "attributes").into_iter().map(|pair| {
                let value = pair["value"].as_object().and_then(|value| value.values().next());
                (
                    pair["key"].as_str().unwrap_or_default().to_owned(),
                    value.cloned().unwrap_or_default(),
                )
            });
            return Some(Value::Object(pairs.collect()));
        }
    }
    None
}

fn config(server: &ApiServer, selectors: Value) -> Value {
    json!({"selectors": selectors,
        "kubernetes": {"kubeconfig": server.kubeconfig(), "node": "node-1", "cluster_name": "test"}})
}

fn skipped() -> bool {
    skip::without_root() || skip::without(&["python3", "curl"])
}

#[test]
fn spans_of_pods_say_what_the_api_server_says_and_no_others_are_captured() {
    if skipped() {
        return;
    }
    let Some([here, there, late]) = ["web-here", "web-there", "web-late"]
        .map(PodGroup::new)
        .into_iter()
        .collect::<Option<Vec<_>>>()
        .and_then(|groups| <[PodGroup; 3]>::try_from(groups).ok())
    else {
        return println!("skipped: control groups cannot be made here");
    };
    let api = ApiServer::start();
    let (path, set) = replica_set();
    api.object(&path, set.clone());
    api.put(pod("web-here", "node-1"));
    let mut other = pod("web-there", "node-1");
    other["metadata"]["namespace"] = "other".into();
    api.put(other);
    let ports = [free_port(), free_port(), free_port()];
    let _here = here.serve(ports[0]);
    let _there = there.serve(ports[1]);
    let selectors = json!([{"kubernetes": {"namespace": "shop", "owner": "deployment/web"}}]);
    let agent = Agent::configured(&[], &config(&api, selectors), &[]);
    until("the pod's process to be selected", || agent.log().contains("process selected"));
    for at in [0, 1] {
        get(ports[at], "/first");
    }
    // A pod whose process is there before anybody has told of it.
    let _late = late.serve(ports[2]);
    api.put(pod("web-late", "node-1"));
    until("the late pod's process", || agent.log().matches("process selected").count() == 2);
    get(ports[2], "/late");
    let done = agent.stop();
    let paths: Vec<&str> = done.spans.iter().map(|span| span.text("url.path")).collect();
    assert_eq!(paths, ["/first", "/late"], "{}", done.log);
    let found = resource_of(&done.file, "/first").unwrap();
    let said = pod("web-here", "node-1");
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let expected = [
        ("k8s.pod.name", "web-here".to_owned()),
        ("k8s.pod.uid", uid("web-here")),
        ("k8s.pod.ip", text(&said["status"]["podIP"])),
        ("k8s.namespace.name", "shop".to_owned()),
        ("k8s.node.name", "node-1".to_owned()),
        ("k8s.container.name", "app".to_owned()),
        ("k8s.deployment.name", "web".to_owned()),
        ("k8s.deployment.uid", text(&set["metadata"]["ownerReferences"][0]["uid"])),
        ("k8s.replicaset.name", text(&set["metadata"]["name"])),
        ("k8s.cluster.uid", text(&cluster_uid())),
        ("k8s.cluster.name", "test".to_owned()),
        ("container.id", container_id("web-here")),
        ("container.runtime.name", "containerd".to_owned()),
        ("service.name", "web".to_owned()),
        ("service.namespace", "shop".to_owned()),
        ("service.version", "1.0".to_owned()),
        ("service.instance.id", "shop.web-here.app".to_owned()),
    ];
    for (key, value) in expected {
        assert_eq!(found[key], *value, "{key} of {found}");
    }
    let late = resource_of(&done.file, "/late").unwrap();
    assert_eq!(late["k8s.pod.name"], "web-late");
}

#[test]
fn a_pod_that_opts_out_while_it_runs_is_captured_no_longer() {
    if skipped() {
        return;
    }
    let Some(group) = PodGroup::new("web-out") else {
        return println!("skipped: control groups cannot be made here");
    };
    let api = ApiServer::start();
    api.put(pod("web-out", "node-1"));
    let port = free_port();
    let server = group.serve(port);
    // Also where pods are not what selects it.
    let selectors = json!([{"pid": server.pid()}]);
    let agent = Agent::configured(&[], &config(&api, selectors), &[]);
    get(port, "/seen");
    let seen = || fs::read_to_string(agent.spans()).unwrap_or_default();
    until("the first span", || resource_of(&seen(), "/seen").is_some());
    let mut out = pod("web-out", "node-1");
    out["metadata"]["annotations"]["remora-ebpf.github.io/capture"] = "false".into();
    api.put(out);
    until("the end of its capture", || agent.log().contains("opted out"));
    get(port, "/unseen");
    let done = agent.stop();
    assert!(resource_of(&done.file, "/unseen").is_none(), "{}", done.file);
    assert_eq!(resource_of(&done.file, "/seen").unwrap()["k8s.pod.name"], "web-out");
}

#[test]
fn an_api_server_that_never_answers_costs_a_pods_spans_two_seconds_and_no_more() {
    if skipped() {
        return;
    }
    let Some(group) = PodGroup::new("web-alone") else {
        return println!("skipped: control groups cannot be made here");
    };
    let mut api = ApiServer::start();
    let port = free_port();
    let server = group.serve(port);
    let config = config(&api, json!([{"pid": server.pid()}]));
    api.stop();
    let agent = Agent::configured(&[], &config, &[]);
    get(port, "/alone");
    let seen = || fs::read_to_string(agent.spans()).unwrap_or_default();
    until("the span", || resource_of(&seen(), "/alone").is_some());
    let found = resource_of(&seen(), "/alone").unwrap();
    assert_eq!(found["k8s.pod.uid"], *uid("web-alone"));
    assert_eq!(found["container.id"], *container_id("web-alone"));
    assert_eq!(found.get("k8s.pod.name"), None);
    assert!(agent.log().contains("pods are not followed, going on with what is known"));
    // It is caught up with.
    api.put(pod("web-alone", "node-1"));
    api.resume();
    until("the server to be back", || agent.log().contains("caught up with the API server"));
    until("a span that knows its pod", || {
        get(port, "/caught-up");
        resource_of(&seen(), "/caught-up").is_some_and(|found| found["k8s.pod.name"] == "web-alone")
    });
    let _ = agent.stop();
}
