//! What the agent learns of the Services and pods of a whole cluster, what that costs, and how the spans of a client
//! call them.

use std::{
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use remora::{
    kubernetes::{
        Peers, Settings,
        peers::{self, Counts, Kind},
        watch,
    },
    status,
};
use remora_tests::{
    agent::Agent,
    api_server::{ApiServer, pod_at, service},
    process::{Running, free_port, patience, until},
    skip,
    spans::{self, Span},
};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

/// Follows the cluster.
struct Follower {
    peers: Peers,
    stop: CancellationToken,
    _runtime: Runtime,
}

impl Follower {
    fn start(server: &ApiServer) -> Self {
        let runtime = Runtime::new().unwrap();
        let (peers, stop) = (Peers::default(), CancellationToken::new());
        let settings = Settings { kubeconfig: Some(server.kubeconfig()), ..Settings::default() };
        let (names, token) = (peers.clone(), stop.clone());
        runtime.spawn(async move {
            let client = watch::client(&settings).await.unwrap();
            peers::watch::run(client, false, names, token).await;
        });
        Self { peers, stop, _runtime: runtime }
    }

    /// What an exchange that begins now finds at this address.
    fn name(&self, address: &str) -> String {
        let found = self.peers.find(address.parse().unwrap(), u64::MAX);
        found.map_or_else(String::new, |peer| format!("{}/{}", peer.namespace, peer.name))
    }

    fn until_named(&self, address: &str, name: &str) {
        until(&format!("{address} to be `{name}`"), || self.name(address) == name);
    }

    fn until_counts(&self, what: &str, is: impl Fn(&Counts) -> bool) -> Counts {
        let deadline = Instant::now() + patience();
        loop {
            let counts = self.peers.counts();
            if is(&counts) {
                return counts;
            }
            assert!(Instant::now() < deadline, "waited in vain for {what}: {counts:?}");
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn until_listed(&self) -> Counts {
        self.until_counts("lists of all", |counts| counts.unlisted.is_empty())
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn lists(server: &ApiServer, what: &str) -> usize {
    let is_list = |one: &&String| one.contains(what) && !one.contains("watch=");
    server.requests().iter().filter(is_list).count()
}

#[test]
fn services_and_pods_are_listed_then_followed() {
    let server = ApiServer::start();
    server.put(service("web", &["10.96.0.7", "fd00::7"]));
    server.put(service("headless", &["None"]));
    server.put(pod_at("web-a", &["10.0.0.1", "fd00::1"]));
    let mut host = pod_at("proxy", &["192.0.2.1"]);
    host["spec"]["hostNetwork"] = true.into();
    server.put(host);
    let follower = Follower::start(&server);
    let counts = follower.until_listed();
    assert_eq!((counts.services, counts.pods, counts.names), (1, 1, 1), "{counts:?}");
    for address in ["10.96.0.7", "fd00::7", "10.0.0.1", "fd00::1"] {
        assert_eq!(follower.name(address), "shop/web", "{address}");
    }
    assert_eq!(follower.name("192.0.2.1"), "", "that of a node");
    server.put(service("mail", &["10.96.0.8"]));
    follower.until_named("10.96.0.8", "shop/mail");
    server.delete("web-a");
    follower.until_named("10.0.0.1", "");
    server.delete("service/mail");
    follower.until_named("10.96.0.8", "");
    assert_eq!(follower.name("10.96.0.7"), "shop/web");
    assert_eq!((lists(&server, "/pods"), lists(&server, "/services")), (1, 1));
}

#[test]
fn a_watch_of_peers_goes_on_from_the_last_bookmark() {
    let server = ApiServer::start();
    server.put(service("web", &["10.96.0.7"]));
    let follower = Follower::start(&server);
    follower.until_listed();
    server.bookmark();
    server.put(service("mail", &["10.96.0.8"]));
    follower.until_named("10.96.0.8", "shop/mail");
    server.disconnect();
    server.put(service("last", &["10.96.0.9"]));
    follower.until_named("10.96.0.9", "shop/last");
    assert_eq!(lists(&server, "/services"), 1, "nothing has to be listed anew");
}

#[test]
fn what_was_deleted_behind_a_watch_that_is_too_old_names_nothing() {
    let mut server = ApiServer::start();
    server.put(service("web", &["10.96.0.7"]));
    server.put(service("mail", &["10.96.0.8"]));
    server.put(pod_at("web-a", &["10.0.0.1"]));
    server.put(pod_at("web-b", &["10.0.0.2"]));
    let follower = Follower::start(&server);
    follower.until_listed();
    server.stop();
    server.delete("service/mail");
    server.delete("web-a");
    server.delete("web-b");
    let mut taken = pod_at("log-a", &["10.0.0.2"]);
    let owner = &mut taken["metadata"]["ownerReferences"][0];
    (owner["kind"], owner["name"]) = ("DaemonSet".into(), "log".into());
    server.put(taken);
    server.compact();
    let counts = follower.until_counts("word that it is away", |counts| counts.away.len() == 2);
    // Until more is known, names stay.
    assert_eq!((follower.name("10.0.0.1"), counts.pods), ("shop/web".to_owned(), 2));
    server.resume();
    follower.until_named("10.0.0.2", "shop/log");
    follower.until_named("10.0.0.1", "");
    follower.until_named("10.96.0.8", "");
    let counts = follower.until_counts("word that it is back", |counts| counts.away.is_empty());
    assert_eq!((counts.services, counts.pods), (1, 1));
}

#[test]
fn services_that_may_not_be_seen_are_named_in_words_and_pods_go_on() {
    let server = ApiServer::start();
    server.put(service("web", &["10.96.0.7"]));
    server.put(pod_at("web-a", &["10.0.0.1"]));
    server.forbid("/api/v1/services", true);
    let follower = Follower::start(&server);
    follower.until_named("10.0.0.1", "shop/web");
    let counts = follower.until_counts("a complaint", |counts| !counts.away.is_empty());
    let [why] = &*counts.away else { panic!("{counts:?}") };
    assert!(why.starts_with("Services: not allowed (403)"), "{why}");
    assert!(why.contains("cannot list resource \"services\""), "{why}");
    assert_eq!(counts.unlisted, ["Services"]);
    server.forbid("/api/v1/services", false);
    follower.until_named("10.96.0.7", "shop/web");
    follower.until_counts("word that it is back", |counts| counts.away.is_empty());
}

/// With `REMORA_TEST_LONG` all 150,000 pods of a large cluster, else some of them.
#[test]
fn a_large_cluster_is_read_in_pages() {
    let long = std::env::var_os("REMORA_TEST_LONG").is_some();
    let pods = if long { 150_000 } else { 3_000 };
    let server = ApiServer::start();
    server.simulate(pods / 30, pods);
    server.put(service("web", &["10.96.0.7"]));
    let begin = Instant::now();
    let follower = Follower::start(&server);
    let deadline = begin + Duration::from_secs(600);
    while !follower.peers.counts().unlisted.is_empty() && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(20));
    }
    let counts = follower.peers.counts();
    println!("{counts:?} from {} bytes in {:?}", server.bytes(), begin.elapsed());
    assert_eq!((counts.pods, counts.names), (pods, pods / 30 + 1));
    assert_eq!(lists(&server, "/pods"), pods / 500);
    assert_eq!(follower.name("10.128.0.31"), "shop/web-1");
    assert!(counts.bytes < 100 * pods + 20_000, "{counts:?}");
    assert!(follower.peers.len(Kind::Service) == 1);
}

/// Answers everything with 200, until its process ends.
fn answering(address: &str, port: u16) {
    let listener = TcpListener::bind((address, port)).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut line = String::new();
            while reader.read_line(&mut line).is_ok_and(|len| len > 2) {
                line.clear();
            }
            // A client may have gone.
            let _ = stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok");
        }
    });
}

/// A client that asks for each URL that it is told, and says when it has been answered.
fn client() -> Running {
    let program = "import sys, urllib.request\n\
        for line in iter(sys.stdin.readline, ''):\n    \
        print(urllib.request.urlopen(line.strip()).status, flush=True)\n";
    Running::start(Command::new("python3").args(["-c", program]).stdin(Stdio::piped()))
}

fn span_of(agent: &Agent, url: &str) -> Span {
    let found = || spans::read(&agent.spans()).into_iter().find(|one| one.text("url.full") == url);
    until(url, || found().is_some());
    found().unwrap()
}

/// Namespace and name of the peer in each series of the clients' durations, with the server's address.
fn peers_of_metrics(file: &str) -> Vec<[String; 3]> {
    let mut all = Vec::new();
    for line in file.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
        let at = |value: &Value, key: &str| value[key].as_array().cloned().unwrap_or_default();
        for resource in at(&line, "resourceMetrics") {
            for metric in at(&resource, "scopeMetrics").iter().flat_map(|one| at(one, "metrics")) {
                if metric["name"] != "http.client.request.duration" {
                    continue;
                }
                for point in at(&metric["histogram"], "dataPoints") {
                    let text = |key: &str| {
                        let pairs = at(&point, "attributes");
                        let found = pairs.iter().find(|pair| pair["key"] == key);
                        found
                            .map_or("", |pair| pair["value"]["stringValue"].as_str().unwrap())
                            .to_owned()
                    };
                    all.push(
                        ["service.peer.namespace", "service.peer.name", "server.address"].map(text),
                    );
                }
            }
        }
    }
    all.sort();
    all.dedup();
    all
}

#[test]
fn client_spans_name_the_service_or_the_workload_that_they_talk_to() {
    if skip::without_root() || skip::without(&["python3"]) {
        return;
    }
    const SERVICE: &str = "127.0.0.41";
    const POD: &str = "127.0.0.42";
    const ALONE: &str = "127.0.0.43";
    const HOST: &str = "127.0.0.44";
    let (port, listen) = (free_port(), free_port());
    for address in [SERVICE, POD, ALONE, HOST] {
        answering(address, port);
    }
    let api = ApiServer::start();
    api.put(service("web", &[SERVICE]));
    api.put(pod_at("web-a", &[POD]));
    let mut alone = pod_at("by-hand", &[ALONE]);
    alone["metadata"]["ownerReferences"] = json!([]);
    api.put(alone);
    let mut host = pod_at("proxy", &[HOST]);
    host["spec"]["hostNetwork"] = true.into();
    api.put(host);
    let mut client = client();
    let config = json!({
        "selectors": [{"pid": client.pid()}], "listen": format!("127.0.0.1:{listen}"),
        "kubernetes": {"kubeconfig": api.kubeconfig(), "node": "node-1", "peers": true}});
    let agent = Agent::configured(&[], &config, &[]);
    let status = || status::ask(([127, 0, 0, 1], listen).into()).unwrap();
    let said = || {
        let status = status();
        let found = status.features.iter().find(|one| one.name == "peers").unwrap();
        (found.health.clone(), found.reason.clone())
    };
    until("all to be listed", || said().0 == "ok");
    assert!(said().1.starts_with("1 Services, 2 pods, 2 names, "), "{}", said().1);
    let ask = |client: &mut Running, address: &str, path: &str| {
        let url = format!("http://{address}:{port}{path}");
        client.say(&url);
        assert_eq!(client.line(), "200");
        span_of(&agent, &url)
    };
    let name = |span: &Span| {
        ["service.peer.namespace", "service.peer.name"].map(|key| span.text(key).to_owned())
    };
    let of_service = ask(&mut client, SERVICE, "/service");
    assert_eq!(name(&of_service), ["shop", "web"]);
    // What HTTP says stays.
    assert_eq!(of_service.text("server.address"), SERVICE);
    assert_eq!(of_service.text("network.peer.address"), SERVICE);
    assert_eq!(name(&ask(&mut client, POD, "/pod")), ["shop", "web"]);
    assert_eq!(name(&ask(&mut client, ALONE, "/alone")), ["shop", "by-hand"]);
    assert_eq!(name(&ask(&mut client, HOST, "/host")), ["", ""]);
    // The pod goes; another gets its address.
    api.delete("web-a");
    until("its end to be known", || said().1.starts_with("1 Services, 1 pods"));
    assert_eq!(name(&ask(&mut client, POD, "/gone")), ["", ""]);
    let mut next = pod_at("log-a", &[POD]);
    let owner = &mut next["metadata"]["ownerReferences"][0];
    (owner["kind"], owner["name"]) = ("DaemonSet".into(), "log".into());
    api.put(next);
    until("the next one to be known", || said().1.starts_with("1 Services, 2 pods"));
    assert_eq!(name(&ask(&mut client, POD, "/next")), ["shop", "log"]);
    let done = agent.stop();
    let series = peers_of_metrics(&done.file);
    let expected = [
        ["", "", HOST],
        ["", "", POD],
        ["", "", ALONE],
        ["shop", "log", POD],
        ["shop", "web", SERVICE],
        ["shop", "web", POD],
    ];
    let mut expected = expected.map(|row| row.map(str::to_owned)).to_vec();
    expected.sort();
    assert_eq!(series, expected, "{}", done.log);
    let told = done.metrics.iter().any(|line| line.to_string().contains("\"remora.peers\""));
    assert!(told, "its own metrics count them");
}
