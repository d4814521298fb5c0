//! An API server of Kubernetes as far as the agent asks it: pods by node or all of them, Services (list, in pages where
//! that is asked for, and watch), single objects, refusals. What it says is in `tests/data/kubernetes`, as a real one
//! said it (`cargo xtask k8s --record`).

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    io::{self, BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use serde_json::{Value, json};
use tempfile::TempDir;

/// A recorded answer.
macro_rules! recorded {
    ($name:literal) => {
        serde_json::from_str::<Value>(include_str!(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/data/kubernetes/",
            $name
        )))
        .expect("JSON of ours")
    };
}

mod objects;

pub use objects::{
    cluster_uid, container_id, job, pod, pod_at, recording, replica_set, service, uid,
};

#[derive(Default)]
struct State {
    version: u64,
    /// Pods and Services by uid.
    pods: BTreeMap<String, Value>,
    /// `(version, type, object)`, oldest first.
    events: Vec<(u64, &'static str, Value)>,
    /// Watches from before this version are refused.
    oldest: u64,
    objects: HashMap<String, Value>,
    forbidden: HashSet<String>,
    requests: Vec<String>,
    bookmarks: u64,
    /// Connections of an earlier life are dead.
    life: u64,
    /// Nodes and pods that are not in `pods`.
    simulated: Option<(usize, usize)>,
    /// A list and what a watch from there on is told, instead of `pods` and `events`.
    recording: Option<(Value, Vec<Value>)>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    bytes: AtomicU64,
    ended: AtomicBool,
}

/// See the module.
pub struct ApiServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    folder: TempDir,
    up: Option<thread::JoinHandle<()>>,
}

impl ApiServer {
    /// On a port of its own.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let address = listener.local_addr().expect("an address");
        let folder = TempDir::new().expect("a folder");
        let shared = Arc::new(Shared::default());
        shared.state().version = 1;
        let mut server = Self { address, shared, folder, up: None };
        server.listen(listener);
        server.object("/version", recorded!("version.json"));
        server.object("/api/v1/namespaces/kube-system", recorded!("namespace.json"));
        server
    }

    /// One that says what a real one has said, word for word.
    #[must_use]
    pub fn recorded() -> Self {
        let server = Self::start();
        for (path, object) in [replica_set(), job()] {
            server.object(&path, object);
        }
        server.shared.state().recording = Some(recording());
        server
    }

    fn listen(&mut self, listener: TcpListener) {
        let shared = Arc::clone(&self.shared);
        self.shared.ended.store(false, Relaxed);
        self.up = Some(thread::spawn(move || {
            for connection in listener.incoming() {
                if shared.ended.load(Relaxed) {
                    return;
                }
                let shared = Arc::clone(&shared);
                if let Ok(connection) = connection {
                    // Who is asked may be gone; that is what tests do.
                    thread::spawn(move || _ = serve(&connection, &shared));
                }
            }
        }));
    }

    /// A kubeconfig that leads here.
    ///
    /// # Panics
    /// If it cannot be written.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        let path = self.folder.path().join("kubeconfig");
        let text = format!(
            "apiVersion: v1\nkind: Config\nclusters: [{{name: c, cluster: {{server: \"http://{}\"}}}}]\n\
             users: [{{name: u, user: {{token: t}}}}]\ncontexts: [{{name: x, context: {{cluster: c, user: u}}}}]\n\
             current-context: x\n",
            self.address
        );
        std::fs::write(&path, text).expect("a file of ours");
        path
    }

    /// Adds or changes a pod or a Service.
    ///
    /// # Panics
    /// If it has no uid.
    pub fn put(&self, mut pod: Value) {
        let mut state = self.shared.state();
        state.version += 1;
        let version = state.version;
        pod["metadata"]["resourceVersion"] = version.to_string().into();
        let uid = pod["metadata"]["uid"].as_str().expect("a uid").to_owned();
        let how = if state.pods.contains_key(&uid) { "MODIFIED" } else { "ADDED" };
        state.pods.insert(uid, pod.clone());
        state.events.push((version, how, pod));
        self.shared.changed.notify_all();
    }

    /// Fills a cluster of nodes `node-0` … with pods; those of most nodes are made only when they are asked for.
    pub fn simulate(&self, nodes: usize, pods: usize) {
        self.shared.state().simulated = Some((nodes, pods));
    }

    /// This many changes of the simulated pods, each on the next node; returns how many were told to
    /// whoever watches.
    ///
    /// # Panics
    /// If there is no simulated cluster.
    #[must_use]
    pub fn churn(&self, changes: usize) -> usize {
        let nodes = self.shared.state().simulated.expect("a simulated cluster").0;
        for change in 0..changes {
            let node = (1 + change * (nodes / 50)) % nodes;
            let mut changed = pod(&format!("web-{node}-0"), &format!("node-{node}"));
            changed["metadata"]["labels"]["change"] = change.to_string().into();
            let mut state = self.shared.state();
            state.version += 1;
            let version = state.version;
            changed["metadata"]["resourceVersion"] = version.to_string().into();
            state.events.push((version, "MODIFIED", changed));
            drop(state);
            self.shared.changed.notify_all();
        }
        changes
    }

    /// Deletes the pod that [`pod`] made for this name, or with `service/NAME` the Service of [`service`].
    pub fn delete(&self, name: &str) {
        let mut state = self.shared.state();
        state.version += 1;
        let version = state.version;
        if let Some(mut pod) = state.pods.remove(&uid(name)) {
            pod["metadata"]["resourceVersion"] = version.to_string().into();
            state.events.push((version, "DELETED", pod));
        }
        self.shared.changed.notify_all();
    }

    /// Answers a GET of `path` with `object`.
    pub fn object(&self, path: &str, object: Value) {
        self.shared.state().objects.insert(path.to_owned(), object);
    }

    /// Answers paths that begin so with 403, or does so no longer.
    pub fn forbid(&self, path: &str, forbid: bool) {
        let mut state = self.shared.state();
        match forbid {
            true => _ = state.forbidden.insert(path.to_owned()),
            false => _ = state.forbidden.remove(path),
        }
    }

    /// Forgets what happened: watches that go on from before now are told 410.
    pub fn compact(&self) {
        let mut state = self.shared.state();
        state.version += 1;
        state.oldest = state.version;
        state.events.clear();
    }

    /// Tells watches that nothing happened up to now.
    pub fn bookmark(&self) {
        let mut state = self.shared.state();
        state.version += 1;
        state.bookmarks = state.version;
        self.shared.changed.notify_all();
    }

    /// Ends every connection; the next one is taken.
    pub fn disconnect(&self) {
        self.shared.state().life += 1;
        self.shared.changed.notify_all();
    }

    /// Goes away: connections end, none are taken.
    ///
    /// # Panics
    /// If it was away already.
    pub fn stop(&mut self) {
        self.shared.ended.store(true, Relaxed);
        self.disconnect();
        // The accepting thread wakes up for one more.
        drop(TcpStream::connect(self.address));
        self.up.take().expect("it was there").join().expect("no panic");
    }

    /// Comes back, on the same port, with all that happened meanwhile.
    ///
    /// # Panics
    /// If the port is another's by now.
    pub fn resume(&mut self) {
        let listener = TcpListener::bind(self.address).expect("the port is still ours");
        self.listen(listener);
    }

    /// What was asked for, in order.
    #[must_use]
    pub fn requests(&self) -> Vec<String> {
        self.shared.state().requests.clone()
    }

    /// Bytes sent in answers.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.shared.bytes.load(Relaxed)
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        if self.up.is_some() {
            self.stop();
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // No change of the state leaves it half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn send(&self, connection: &TcpStream, bytes: &[u8]) -> io::Result<()> {
        self.bytes.fetch_add(bytes.len() as u64, Relaxed);
        (&mut &*connection).write_all(bytes)
    }
}

fn serve(connection: &TcpStream, shared: &Shared) -> io::Result<()> {
    connection.set_nodelay(true)?;
    let life = shared.state().life;
    let mut reader = BufReader::new(connection);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let target = line.split(' ').nth(1).unwrap_or_default().to_owned();
        while line.trim() != "" {
            line.clear();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
        }
        if shared.state().life != life || shared.ended.load(Relaxed) {
            return Ok(());
        }
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let query: HashMap<String, String> = query
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .map(|(key, value)| (key.to_owned(), value.replace("%3D", "=").replace("%3d", "=")))
            .collect();
        shared.state().requests.push(target.clone());
        if query.get("watch").is_some_and(|watch| watch == "true" || watch == "1") {
            return watch(connection, shared, life, path, &query);
        }
        let page = page(&shared.state(), path, &query);
        let (code, body) = page.map_or_else(
            || {
                let (code, body) = answer(&shared.state(), path, &query);
                (code, body.to_string())
            },
            |page| (200, page),
        );
        let head = format!(
            "HTTP/1.1 {code} X\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        shared.send(connection, head.as_bytes())?;
        shared.send(connection, body.as_bytes())?;
    }
}

fn answer(state: &State, path: &str, query: &HashMap<String, String>) -> (u16, Value) {
    if state.forbidden.iter().any(|forbidden| path.starts_with(&**forbidden)) {
        let what = path.rsplit('/').next().unwrap_or_default();
        let mut refusal = recorded!("forbidden.json");
        let message = refusal["message"].as_str().unwrap_or_default().replace("pods", what);
        refusal["message"] = message.into();
        refusal["details"]["kind"] = what.into();
        return (403, refusal);
    }
    if is_list(path) {
        if let Some((list, _)) = state.recording.as_ref().filter(|_| path.ends_with("/pods")) {
            return (200, list.clone());
        }
        let selected = |object: &&Value| {
            is_of(object, path)
                && query.get("fieldSelector").is_none_or(|selector| matches(object, selector))
        };
        let mut items: Vec<Value> = state.pods.values().filter(selected).cloned().collect();
        let asked = query.get("fieldSelector").and_then(|s| s.strip_prefix("spec.nodeName="));
        if let Some((nodes, pods)) = state.simulated
            && let Some(asked) = asked
        {
            items.extend((0..pods / nodes).map(|at| {
                let number = asked.trim_start_matches("node-");
                let mut pod = pod(&format!("web-{number}-{at}"), asked);
                pod["metadata"]["resourceVersion"] = "1".into();
                pod
            }));
        }
        // `continue` says where the next page begins, and of which version of the list it is.
        let begin = query.get("continue").map_or("0:0", |token| &**token);
        let (from, version) = begin.split_once(':').unwrap_or_default();
        let (from, version): (usize, u64) =
            (from.parse().unwrap_or(0), version.parse().unwrap_or(0));
        if version != 0 && version < state.oldest {
            return (410, recorded!("expired.json")["object"].clone());
        }
        let version = if version == 0 { state.version } else { version };
        let limit = query.get("limit").and_then(|limit| limit.parse().ok()).unwrap_or(usize::MAX);
        let mut metadata = json!({"resourceVersion": version.to_string()});
        if items.len() - from > limit {
            metadata["continue"] = format!("{}:{version}", from + limit).into();
        }
        let items: Vec<Value> = items.into_iter().skip(from).take(limit).collect();
        return (
            200,
            json!({"kind": "List", "apiVersion": "v1", "metadata": metadata, "items": items}),
        );
    }
    match state.objects.get(path) {
        Some(object) => (200, object.clone()),
        None => (404, status(404, "NotFound", "not found")),
    }
}

fn status(code: u16, reason: &str, message: &str) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": code})
}

/// Pods or Services, of all namespaces or one.
fn is_list(path: &str) -> bool {
    ["/pods", "/services"].iter().any(|kind| path.ends_with(kind))
}

/// Whether the object is in the list at this path.
fn is_of(object: &Value, path: &str) -> bool {
    (object["kind"] == "Service") == path.ends_with("/services")
}

/// A page of all the pods of a simulated cluster, made as text: there are many. Each has an address of its own, and
/// thirty have an owner.
fn page(state: &State, path: &str, query: &HashMap<String, String>) -> Option<String> {
    let (_, pods) = state.simulated.filter(|_| path == "/api/v1/pods")?;
    if query.contains_key("fieldSelector") {
        return None;
    }
    let from: usize = query.get("continue").and_then(|token| token.parse().ok()).unwrap_or(0);
    let limit: usize = query.get("limit").and_then(|limit| limit.parse().ok())?;
    let template = pod_at("POD-NAME", &["ADDRESS"]).to_string().replace("774b89ff4f", "HASH");
    let to = (from + limit).min(pods);
    let items: Vec<String> = (from..to)
        .map(|at| {
            let address =
                std::net::Ipv4Addr::from_bits(0x0a80_0000 + u32::try_from(at).unwrap_or(0));
            template
                .replace("ADDRESS", &address.to_string())
                .replace("web-HASH", &format!("web-{}-HASH", at / 30))
                .replace(&uid("POD-NAME"), &uid(&format!("pod-{at}")))
        })
        .collect();
    let more = if to < pods { to.to_string() } else { String::new() };
    Some(format!(
        r#"{{"kind":"PodList","apiVersion":"v1","metadata":{{"resourceVersion":"{}","continue":"{more}"}},"items":[{}]}}"#,
        state.version,
        items.join(",")
    ))
}

/// A field selector of one field.
fn matches(pod: &Value, selector: &str) -> bool {
    let (field, value) = selector.split_once('=').unwrap_or((selector, ""));
    let pointer = format!("/{}", field.replace('.', "/"));
    pod.pointer(&pointer).and_then(Value::as_str) == Some(value)
}

fn watch(
    connection: &TcpStream,
    shared: &Shared,
    life: u64,
    path: &str,
    query: &HashMap<String, String>,
) -> io::Result<()> {
    let chunk = |event: Value| {
        let text = format!("{event}\n");
        shared.send(connection, format!("{:x}\r\n{text}\r\n", text.len()).as_bytes())
    };
    shared.send(
        connection,
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n",
    )?;
    let mut seen: u64 = query.get("resourceVersion").and_then(|v| v.parse().ok()).unwrap_or(0);
    let selector = query.get("fieldSelector");
    let is_told = |object: &Value| {
        is_of(object, path) && selector.is_none_or(|selector| matches(object, selector))
    };
    let recorded = shared.state().recording.as_ref().map(|(_, watched)| watched.clone());
    recorded.into_iter().flatten().try_for_each(chunk)?;
    let mut state = shared.state();
    loop {
        if state.life != life || shared.ended.load(Relaxed) {
            return connection.shutdown(std::net::Shutdown::Both);
        }
        if seen < state.oldest {
            chunk(recorded!("expired.json"))?;
            return shared.send(connection, b"0\r\n\r\n");
        }
        let news: Vec<_> = state
            .events
            .iter()
            .filter(|(version, _, object)| *version > seen && is_told(object))
            .map(|(_, how, object)| json!({"type": how, "object": object}))
            .collect();
        let bookmark = state.bookmarks > seen;
        seen = state.version;
        drop(state);
        for event in news {
            chunk(event)?;
        }
        if bookmark {
            chunk(json!({"type": "BOOKMARK", "object": {"kind": "Pod", "apiVersion": "v1",
                "metadata": {"resourceVersion": seen.to_string()}}}))?;
        }
        state = shared.state();
        if state.version <= seen && state.life == life {
            let pause = Duration::from_millis(200);
            state = match shared.changed.wait_timeout(state, pause) {
                Ok((state, _)) => state,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
    }
}
