//! containerd, with images and pods of its own, in a [`Node`]; and of the kubelet what can be seen of it: which
//! control groups, labels, annotations, mounts and logs it gives to pods, and what it tells the API server.

use std::{collections::HashMap, fs, time::Instant};

use serde_json::{Value, json};

use crate::{
    api_server::ApiServer,
    cri::{
        ContainerConfig, ContainerMetadata, Cri, Image, LinuxContainer, LinuxContainerSecurity,
        LinuxSandbox, LinuxSandboxSecurity, Mount, Namespaces, SandboxConfig, SandboxMetadata,
    },
    images,
    node::{Node, ask},
    process::{Running, output, patience, until},
    skip,
};

const SOCKET: &str = "/run/containerd/containerd.sock";
const PLUGINS: &str = "/usr/lib/cni";

const CONFIG: &str = r#"version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs"]
[grpc]
  address = "@SOCKET@"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "@PAUSE@"
  restrict_oom_score_adj = true
  disable_apparmor = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "@PLUGINS@"
    conf_dir = "/run/networks"
"#;

pub struct Containerd {
    pub cri: Cri,
    _daemon: Running,
    // Last: with it everything else ends.
    pub node: Node,
}

impl Containerd {
    /// With the images of [`images`]; `None` if there can be none here, the reason is printed.
    ///
    /// # Panics
    /// If it fails otherwise.
    #[must_use]
    pub fn start() -> Option<Self> {
        if skip::without(&["containerd", "ctr", "runc"]) || skip::without(&images::NEEDS) {
            return None;
        }
        if !fs::exists(format!("{PLUGINS}/bridge")).unwrap_or(false) {
            println!("skipped: there is no {PLUGINS}/bridge");
            return None;
        }
        let node = Node::start()?;
        let network = json!({
            "cniVersion": "0.4.0", "name": "pods",
            "plugins": [{"type": "bridge", "bridge": "pods0", "isGateway": true, "ipMasq": false,
                "ipam": {"type": "host-local", "subnet": "10.244.0.0/24", "routes": [{"dst": "0.0.0.0/0"}]}}],
        });
        fs::create_dir(node.path("/run/networks")).expect("a folder of ours");
        fs::write(node.path("/run/networks/10-pods.conflist"), network.to_string())
            .expect("a file");
        let config = CONFIG.replace("@SOCKET@", SOCKET).replace("@PAUSE@", images::PAUSE);
        fs::write(node.path("/run/containerd.toml"), config.replace("@PLUGINS@", PLUGINS))
            .expect("a file");
        let log = fs::File::create(node.path("/run/containerd.log")).expect("a file");
        let mut daemon = node.command("containerd");
        daemon
            .arg("--config=/run/containerd.toml")
            .stdout(log.try_clone().expect("a file"))
            .stderr(log);
        let mut daemon = Running::start_unread(&mut daemon);
        let start = Instant::now();
        let socket = node.path(SOCKET);
        let cri = loop {
            if let Some(cri) = Cri::connect(socket.to_str().expect("a path")) {
                break cri;
            }
            let log = || fs::read_to_string(node.path("/run/containerd.log")).unwrap_or_default();
            assert!(!daemon.has_ended() && start.elapsed() < patience(), "{}", log());
            std::thread::sleep(std::time::Duration::from_millis(20));
        };
        images::archive(&node.path("/run/images.tar"));
        let mut ctr = node.command("ctr");
        ctr.args(["--address", SOCKET, "--namespace", "k8s.io"]);
        output(ctr.args(["images", "import", "/run/images.tar"]));
        Some(Self { cri, _daemon: daemon, node })
    }

    /// Does with a pod of the API server what the kubelet does, from the sandbox to its status; all of its
    /// containers.
    ///
    /// # Panics
    /// If the runtime refuses.
    #[must_use]
    pub fn run(&self, api: &ApiServer, mut pod: Value) -> Pod<'_> {
        // Told before it runs, as the kubelet is.
        let status = pod["status"].as_object_mut().expect("a status");
        let ready = status.remove("containerStatuses").expect("a list");
        status.remove("podIP");
        api.put(pod.clone());
        let config = self.sandbox_config(&pod);
        let sandbox = self.cri.run_sandbox(&config);
        let specs = pod["spec"]["containers"].as_array().expect("containers").clone();
        let mut containers = Vec::new();
        let mut statuses = Vec::new();
        for spec in &specs {
            let id = self.cri.create(&sandbox, self.container_config(&pod, spec), &config);
            self.cri.start(&id);
            let said = self.cri.container(&id);
            let mut status = ready[0].clone();
            status["name"] = spec["name"].clone();
            status["containerID"] = format!("containerd://{id}").into();
            status["image"] = spec["image"].clone();
            status["imageID"] = said.image_ref.into();
            statuses.push(status);
            containers.push(id);
        }
        pod["status"]["podIP"] = self.cri.sandbox(&sandbox).network.expect("a network").ip.into();
        pod["status"]["containerStatuses"] = statuses.into();
        api.put(pod.clone());
        Pod { containerd: self, config, sandbox, containers, said: pod }
    }

    /// As the kubelet with the driver `cgroupfs` makes it for a pod without requests.
    fn sandbox_config(&self, pod: &Value) -> SandboxConfig {
        let [namespace, name, uid] =
            ["namespace", "name", "uid"].map(|key| text(&pod["metadata"][key]));
        let mut annotations = map(&pod["metadata"]["annotations"]);
        annotations.insert("kubernetes.io/config.source".into(), "api".into());
        annotations.insert(
            "kubernetes.io/config.seen".into(),
            text(&pod["metadata"]["creationTimestamp"]),
        );
        let mut labels = map(&pod["metadata"]["labels"]);
        labels.extend(identity(pod));
        SandboxConfig {
            hostname: name.clone(),
            log_directory: format!("/var/log/pods/{namespace}_{name}_{uid}"),
            labels,
            annotations,
            linux: Some(LinuxSandbox {
                cgroup_parent: format!("{}/kubepods/besteffort/pod{uid}", self.node.group()),
                security: Some(LinuxSandboxSecurity { namespaces: Some(NAMESPACES) }),
            }),
            metadata: Some(SandboxMetadata { name, uid, namespace, attempt: 0 }),
        }
    }

    fn container_config(&self, pod: &Value, spec: &Value) -> ContainerConfig {
        let (name, uid) = (text(&spec["name"]), text(&pod["metadata"]["uid"]));
        let mut labels: HashMap<_, _> = identity(pod).into();
        labels.insert("io.kubernetes.container.name".into(), name.clone());
        let annotations = [
            ("io.kubernetes.container.hash", "a1b2c3d4"),
            ("io.kubernetes.container.restartCount", "0"),
            ("io.kubernetes.container.terminationMessagePath", "/dev/termination-log"),
            ("io.kubernetes.container.terminationMessagePolicy", "File"),
            ("io.kubernetes.pod.terminationGracePeriod", "1"),
        ];
        // It has a file for each container's last words.
        let folder = format!("/var/lib/kubelet/pods/{uid}/containers/{name}");
        fs::create_dir_all(self.node.path(&folder)).expect("a folder of ours");
        let file = format!("{folder}/0f1e2d3c");
        fs::write(self.node.path(&file), "").expect("a file of ours");
        let command = spec["command"].as_array().into_iter().flatten().map(text);
        ContainerConfig {
            image: Some(Image { image: text(&spec["image"]) }),
            command: command.collect(),
            mounts: vec![Mount { container_path: "/dev/termination-log".into(), host_path: file }],
            labels,
            annotations: annotations.map(|(key, value)| (key.into(), value.into())).into(),
            log_path: format!("{name}/0.log"),
            linux: Some(LinuxContainer {
                security: Some(LinuxContainerSecurity { namespaces: Some(NAMESPACES) }),
            }),
            metadata: Some(ContainerMetadata { name, attempt: 0 }),
        }
    }
}

/// The pod's network, the container's processes.
const NAMESPACES: Namespaces = Namespaces { network: 0, pid: 1, ipc: 0 };

fn identity(pod: &Value) -> [(String, String); 3] {
    ["name", "namespace", "uid"]
        .map(|key| (format!("io.kubernetes.pod.{key}"), text(&pod["metadata"][key])))
}

fn text(value: &Value) -> String {
    value.as_str().expect("a text").to_owned()
}

fn map(value: &Value) -> HashMap<String, String> {
    let pairs = value.as_object().into_iter().flatten();
    pairs.map(|(key, value)| (key.clone(), text(value))).collect()
}

/// A pod that runs.
pub struct Pod<'a> {
    containerd: &'a Containerd,
    config: SandboxConfig,
    sandbox: String,
    /// Ids, in the order of its specification.
    pub containers: Vec<String>,
    /// What the API server was told of it last.
    pub said: Value,
}

impl Pod<'_> {
    /// Its address, as the runtime says it.
    #[must_use]
    pub fn ip(&self) -> String {
        self.containerd.cri.sandbox(&self.sandbox).network.expect("a network").ip
    }

    /// Its first process in the first container, as this machine numbers it.
    #[must_use]
    pub fn pid(&self) -> u32 {
        let mut pid = 0;
        until("the container's process", || {
            pid = self.containerd.node.members(&self.containers[0]).first().copied().unwrap_or(0);
            pid != 0
        });
        pid
    }

    /// Starts one more container of its sandbox, which has the first one's configuration but this name and
    /// command; returns its id.
    #[must_use]
    pub fn add(&self, name: &str, image: &str) -> String {
        let spec = json!({"name": name, "image": image});
        let config = self.containerd.container_config(&self.said, &spec);
        let id = self.containerd.cri.create(&self.sandbox, config, &self.config);
        self.containerd.cri.start(&id);
        id
    }

    /// Asks for `url` from its network, as [`Node::ask`] does from the node's.
    pub fn ask(&self, url: &str) {
        ask(self.pid(), url);
    }

    /// What the first container has written to its standard output, by line.
    #[must_use]
    pub fn log(&self) -> Vec<String> {
        let name = text(&self.said["spec"]["containers"][0]["name"]);
        let path = format!("{}/{name}/0.log", self.config.log_directory);
        let text = fs::read_to_string(self.containerd.node.path(&path)).expect("a log");
        // Time, stream, whether it is a whole line.
        let said = text.lines().filter(|line| line.contains(" stdout "));
        said.filter_map(|line| line.splitn(4, ' ').nth(3)).map(str::to_owned).collect()
    }
}
