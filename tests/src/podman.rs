//! Podman in a [`Node`], with images of its own. It has no daemon: each of its commands is a process that
//! ends, beside one that watches over a container.

use std::{ffi::OsStr, fs, path::PathBuf, process::Command};

use serde_json::Value;

use crate::{
    images,
    node::Node,
    process::{output, until},
    skip,
};

/// What its defaults would take from this machine: limits that not every root may raise, systemd, a
/// runtime that cannot do with the control groups that there are.
const CONFIG: &str = r#"[containers]
default_ulimits = []
pids_limit = 0
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
"#;

pub struct Podman {
    node: Node,
}

impl Podman {
    /// With the images of [`images`]; `None` if there can be none here, the reason is printed.
    ///
    /// # Panics
    /// If it fails otherwise.
    #[must_use]
    pub fn start() -> Option<Self> {
        if skip::without(&["podman", "conmon", "runc"]) || skip::without(&images::NEEDS) {
            return None;
        }
        let podman = Self { node: Node::start()? };
        fs::write(podman.node.path("/run/podman.conf"), CONFIG).expect("a file of ours");
        images::archive(&podman.node.path("/run/images.tar"));
        podman.podman(&["load", "--quiet", "--input", "/run/images.tar"]);
        Some(podman)
    }

    fn command<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Command {
        let mut command = self.node.command("env");
        command.args(["CONTAINERS_CONF=/run/podman.conf", "TMPDIR=/run", "podman"]).args(arguments);
        command
    }

    /// Runs one of its commands; returns what it prints.
    pub fn podman<S: AsRef<OsStr>>(&self, arguments: &[S]) -> String {
        output(&mut self.command(arguments)).trim().to_owned()
    }

    /// What a container has written, on both of its outputs.
    fn logs(&self, name: &str) -> String {
        let said = self.command(&["logs", name]).output().expect("it runs");
        [said.stdout, said.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat()
    }

    /// Starts a container of this name, with a network of its own.
    #[must_use]
    pub fn run(&self, name: &str, options: &[&str], image: &str) -> Container<'_> {
        let parent = self.node.group();
        let run =
            ["run", "--detach", "--name", name, "--network", "none", "--cgroup-parent", &parent];
        let id = self.podman(&[&run[..], options, &[image]].concat());
        let mut pid = 0;
        until("the container's process", || {
            pid = self.node.members(&format!("libpod-{id}")).first().copied().unwrap_or(0);
            let running =
                || self.podman(&["container", "inspect", "--format={{.State.Running}}", name]);
            assert!(pid != 0 || running() == "true", "{}", self.logs(name));
            pid != 0
        });
        Container { podman: self, name: name.to_owned(), pid }
    }
}

pub struct Container<'a> {
    podman: &'a Podman,
    name: String,
    /// Its first process, as this machine numbers it.
    pub pid: u32,
}

impl Container<'_> {
    /// What Podman says of it.
    ///
    /// # Panics
    /// If that is not JSON.
    #[must_use]
    pub fn inspect(&self) -> Value {
        let said = self.podman.podman(&["container", "inspect", &self.name]);
        let said: Value = serde_json::from_str(&said).expect("JSON");
        said[0].clone()
    }

    /// Runs a command in it to its end; returns what it prints.
    pub fn exec(&self, command: &[&str]) -> String {
        self.podman.podman(&[&["exec", &self.name], command].concat())
    }

    /// Where the file at `path` in it is for this test.
    #[must_use]
    pub fn path(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root", self.pid)).join(path.trim_start_matches('/'))
    }
}
