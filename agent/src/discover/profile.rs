//! Who a *selected* process is: the resource its spans carry. Only here are a process's environment,
//! command line and control group read.
//!
//! Precedence, first wins: the selector's name, namespace and version; what makes the process itself (`process.pid`,
//! `telemetry.distro.*`); the target's `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES`; what Kubernetes
//! says of its pod; the agent's `OTEL_RESOURCE_ATTRIBUTES`; what was detected. `telemetry.sdk.*` is never taken over: it would say
//! that another SDK made the spans. Arguments stay out: they may hold secrets.

use std::{io::Read, path::Path};

use opentelemetry_semantic_conventions::attribute as key;
use procfs::process::Process;

use super::{
    host::Host,
    resource_attributes,
    selector::Service,
    service_name::{is_interpreter, is_spawned_worker, service_name},
    sha1::instance_uuid,
    started_as::started_as,
};
use crate::{
    attribute::Value,
    container::{Container, container_name},
    kubernetes::Pods,
    resource::Resource,
};

/// Bounds of what is read of one process, in bytes.
const ENVIRON_LIMIT: u64 = 1 << 20;
const COMMAND_LINE_LIMIT: u64 = 64 << 10;
const CGROUP_LIMIT: u64 = 64 << 10;
const MOUNTS_LIMIT: u64 = 1 << 20;

/// What a process shares with the children it forks, until they exec.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Profile {
    /// What comes before what Kubernetes says, in order.
    first: Vec<(Box<str>, Value)>,
    /// What comes after it.
    then: Vec<(Box<str>, Value)>,
    pub(super) container: Container,
    /// Its program is that of its parent, although it was started anew.
    pub(super) is_worker: bool,
    /// A title may come to stand in place of its command line, and name it: nothing else does.
    pub(super) may_have_title: bool,
    /// Why none of its `OTEL_RESOURCE_ATTRIBUTES` count.
    pub(super) malformed: Option<&'static str>,
}

/// What [`Profile::new`] makes a profile of.
#[derive(Clone, Debug)]
struct Raw<'a> {
    exe: &'a Path,
    /// What it was started as, if that is a link to it.
    started_as: Option<&'a Path>,
    comm: &'a str,
    environ: &'a [u8],
    command_line: &'a [u8],
    container: Container,
}

impl Profile {
    /// Reads the profile of a selected process. What cannot be read (it may be gone) is left out.
    pub(super) fn read(
        process: &Process,
        exe: &Path,
        container: Container,
        service: Service<'_>,
        host: &Host,
    ) -> Self {
        let text =
            |file, limit| String::from_utf8_lossy(&bounded(process, file, limit)).into_owned();
        let comm = text("comm", 64);
        let environ = bounded(process, "environ", ENVIRON_LIMIT);
        let command_line = bounded(process, "cmdline", COMMAND_LINE_LIMIT);
        let comm = comm.trim_end();
        let of = |file: &str| format!("/proc/{}/{file}", process.pid());
        let first = command_line.split(|&byte| byte == 0).next().unwrap_or_default();
        let first = String::from_utf8_lossy(first);
        let link = if is_interpreter(exe) {
            None // named by what it runs
        } else {
            started_as(exe, comm, &first, Path::new(&of("root")), Path::new(&of("exe")))
        };
        let raw = Raw {
            exe,
            started_as: link.as_deref(),
            comm,
            environ: &environ,
            command_line: &command_line,
            container,
        };
        Self::new(raw, service, host)
    }

    fn new(raw: Raw<'_>, by_selector: Service<'_>, host: &Host) -> Self {
        let (mut first, mut then) = (Vec::with_capacity(8), Vec::with_capacity(24));
        let push = |list: &mut Vec<(Box<str>, Value)>, key: &str, value: &str| {
            if !value.is_empty() {
                list.push((key.into(), value.into()));
            }
        };
        let mut add = |key: &str, value: &str| push(&mut first, key, value);
        add(key::SERVICE_NAME, by_selector.name.unwrap_or_default());
        add(key::SERVICE_NAMESPACE, by_selector.namespace.unwrap_or_default());
        add(key::SERVICE_VERSION, by_selector.version.unwrap_or_default());
        add(key::TELEMETRY_DISTRO_NAME, "remora");
        add(key::TELEMETRY_DISTRO_VERSION, env!("CARGO_PKG_VERSION"));
        add(key::SERVICE_NAME, &variable(raw.environ, "OTEL_SERVICE_NAME").unwrap_or_default());
        let (own, malformed) = own_attributes(raw.environ);
        for (key, value) in own {
            add(&key, &value);
        }
        let mut add = |key: &str, value: &str| push(&mut then, key, value);
        let agent_wide = host
            .agent_attributes
            .iter()
            .filter(|(key, _)| !is_reserved(key) && **key != *key::SERVICE_INSTANCE_ID);
        for (key, value) in agent_wide {
            if let Value::Str(value) = value {
                add(key, value);
            }
        }
        let line: Vec<String> = raw
            .command_line
            .split(|&byte| byte == 0)
            .map(|argument| String::from_utf8_lossy(argument).into_owned())
            .collect();
        let exe_name = raw.exe.file_name().unwrap_or_default().to_string_lossy();
        add(key::SERVICE_NAME, &service_name(raw.started_as.unwrap_or(raw.exe), &line));
        add(key::PROCESS_EXECUTABLE_NAME, &exe_name);
        add(key::PROCESS_EXECUTABLE_PATH, &raw.exe.to_string_lossy());
        add(key::PROCESS_COMMAND, command(&line, raw.comm));
        add(key::CONTAINER_ID, raw.container.id.as_deref().unwrap_or_default());
        add(key::CONTAINER_RUNTIME_NAME, raw.container.runtime.unwrap_or_default());
        if let Some(pod) = &raw.container.pod {
            add(key::K8S_POD_UID, &pod.uid);
            add(key::K8S_CONTAINER_NAME, pod.container_name.as_deref().unwrap_or_default());
        }
        then.extend(host.attributes.iter().cloned());
        let is_named = first.iter().any(|(key, _)| **key == *key::SERVICE_NAME);
        Self {
            first,
            then,
            container: raw.container,
            is_worker: is_spawned_worker(&line),
            may_have_title: is_interpreter(raw.exe) && !is_named,
            malformed,
        }
    }

    /// With the name that its `parent` has by its program.
    pub(super) fn named_as(mut self, parent: &Self) -> Self {
        let name = parent.then.iter().rfind(|(key, _)| **key == *key::SERVICE_NAME);
        let own = self.then.iter_mut().rfind(|(key, _)| **key == *key::SERVICE_NAME);
        if let (Some(own), Some((_, name))) = (own, name) {
            own.1 = name.clone();
        }
        self
    }

    /// The resource of the process `tgid` that has this profile. `start_time` in clock ticks since
    /// boot tells it from an earlier process of the same number.
    pub(super) fn resource(
        &self,
        tgid: u32,
        parent: Option<u32>,
        start_time: u64,
        host: &Host,
        pods: &Pods,
    ) -> Resource {
        let instance = instance_uuid(&format!(
            "{}/{}/{tgid}/{start_time}",
            host.id.as_deref().unwrap_or_default(),
            host.boot_id,
        ));
        let pid = |key: &str, pid: u32| (Box::from(key), Value::Int(pid.into()));
        let of_process = std::iter::once(pid(key::PROCESS_PID, tgid))
            .chain(parent.map(|parent| pid(key::PROCESS_PARENT_PID, parent)));
        let own = (key::SERVICE_INSTANCE_ID.into(), Value::from(instance));
        let resource = Resource::new(
            of_process
                .chain(self.first.iter().cloned())
                .chain(pods.attributes(&self.container))
                .chain(self.then.iter().cloned())
                .chain([own.clone()]),
        );
        // An instance that was named is that of all processes that were named so.
        let shared = resource.find(key::SERVICE_INSTANCE_ID) != Some(&own.1);
        if shared { resource.of_shared_instance() } else { resource }
    }
}

/// The container of a process; of a selected one, or where selection asks for containers.
pub(super) fn read_container(process: &Process) -> Container {
    let text = |file, limit| String::from_utf8_lossy(&bounded(process, file, limit)).into_owned();
    let mut container = Container::of_cgroup(&text("cgroup", CGROUP_LIMIT));
    if let Some(pod) = &mut container.pod {
        let mounts = text("mountinfo", MOUNTS_LIMIT);
        pod.container_name = container_name(&mounts, &pod.uid).map(Into::into);
    }
    container
}

/// At most `limit` bytes of a file below `/proc/PID`; none if it cannot be read.
fn bounded(process: &Process, file: &str, limit: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Ok(file) = process.open_relative(file)
        && let Err(error) = file.take(limit).read_to_end(&mut bytes)
    {
        tracing::debug!(pid = process.pid(), %error, "process ended while it was read");
    }
    bytes
}

fn variable(environ: &[u8], name: &str) -> Option<String> {
    environ.split(|&byte| byte == 0).find_map(|entry| {
        let value = entry.strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
        Some(String::from_utf8_lossy(value).trim().to_owned())
    })
}

/// The target's own resource attributes. Malformed ones are the target's mistake, not ours: they
/// are left out as its SDK would leave them out, and what is wrong is said without a word of theirs.
fn own_attributes(environ: &[u8]) -> (Vec<(String, String)>, Option<&'static str>) {
    let text = variable(environ, "OTEL_RESOURCE_ATTRIBUTES").unwrap_or_default();
    match resource_attributes::parse(&text) {
        Ok(pairs) => (pairs.into_iter().filter(|(key, _)| !is_reserved(key)).collect(), None),
        Err(error) => (Vec::new(), Some(error.what())),
    }
}

/// Keys that only the agent may set.
fn is_reserved(key: &str) -> bool {
    key.starts_with("telemetry.sdk.") || key.starts_with("telemetry.distro.")
}

/// The command name: what the process was started as, without arguments. Programs that rewrite
/// their title (`nginx: worker process`, `postgres: user db`) put arguments there.
fn command<'a>(line: &'a [String], comm: &'a str) -> &'a str {
    match line.first() {
        Some(first)
            if !first.is_empty()
                && first.len() <= 1024
                && !first.contains(|c: char| c.is_whitespace() || c.is_control()) =>
        {
            first
        }
        _ => comm,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::kubernetes::{
        Pod,
        pod::tests::{pairs, pod},
    };

    fn host() -> Host {
        Host {
            id: Some("m".into()),
            boot_id: "b".into(),
            agent_attributes: vec![
                ("team".into(), "agent".into()),
                ("zone".into(), "z1".into()),
                ("telemetry.sdk.name".into(), "x".into()),
                ("service.instance.id".into(), "one for all".into()),
            ],
            attributes: vec![("host.name".into(), "box".into())],
        }
    }

    fn raw() -> Raw<'static> {
        Raw {
            exe: Path::new("/usr/bin/python3.11"),
            started_as: None,
            comm: "python3",
            environ: b"PATH=/bin\0",
            command_line: b"python3\0/srv/app.py\0--password=hunter2\0",
            container: Container::default(),
        }
    }

    fn resource(raw: Raw<'_>, selector_name: Option<&str>) -> Resource {
        let service = Service { name: selector_name, ..Service::default() };
        Profile::new(raw, service, &host()).resource(42, Some(1), 99, &host(), &Pods::default())
    }

    fn str<'a>(resource: &'a Resource, key: &str) -> Option<&'a str> {
        match resource.find(key)? {
            Value::Str(value) => Some(value),
            _ => None,
        }
    }

    #[test]
    fn service_name_comes_from_selector_then_environment_then_program() {
        let both = b"OTEL_RESOURCE_ATTRIBUTES=service.name=low\0OTEL_SERVICE_NAME=high\0";
        let one = b"OTEL_RESOURCE_ATTRIBUTES=service.name=low\0";
        let rows: [(&[u8], Option<&str>, &str); 4] = [
            (both, Some("chosen"), "chosen"),
            (both, None, "high"),
            (one, None, "low"),
            (b"", None, "app"),
        ];
        for (environ, selector_name, expected) in rows {
            let found = resource(Raw { environ, ..raw() }, selector_name);
            assert_eq!(found.service_name(), expected);
        }
    }

    #[test]
    fn namespace_and_version_of_the_selector_come_first() {
        let environ = b"OTEL_RESOURCE_ATTRIBUTES=service.namespace=low,service.version=1\0";
        let service = Service { namespace: Some("shop"), version: Some("2"), ..Service::default() };
        let of = |service| {
            let profile = Profile::new(Raw { environ, ..raw() }, service, &host());
            let found = profile.resource(42, None, 99, &host(), &Pods::default());
            let text = |key| str(&found, key).map(str::to_owned);
            (text("service.namespace").unwrap(), text("service.version").unwrap())
        };
        assert_eq!(of(service), ("shop".into(), "2".into()));
        assert_eq!(of(Service::default()), ("low".into(), "1".into()));
    }

    #[test]
    fn the_targets_attributes_come_before_the_agents() {
        let environ = b"OTEL_RESOURCE_ATTRIBUTES=team=target,host.name=named\0";
        let found = resource(Raw { environ, ..raw() }, None);
        assert_eq!(str(&found, "team"), Some("target"));
        assert_eq!(str(&found, "zone"), Some("z1"));
        assert_eq!(str(&found, "host.name"), Some("named"));
    }

    #[test]
    fn never_claims_another_sdk() {
        let environ = b"OTEL_RESOURCE_ATTRIBUTES=telemetry.sdk.name=java,telemetry.distro.name=y\0";
        let found = resource(Raw { environ, ..raw() }, None);
        assert_eq!(str(&found, "telemetry.sdk.name"), None);
        assert_eq!(str(&found, "telemetry.distro.name"), Some("remora"));
    }

    #[test]
    fn arguments_and_foreign_variables_stay_out() {
        let environ = b"AWS_SECRET_ACCESS_KEY=hunter3\0";
        let found = format!("{:?}", resource(Raw { environ, ..raw() }, None));
        assert!(!found.contains("hunter"), "{found}");
        assert!(found.contains("process.command"), "{found}");
    }

    #[test]
    fn a_link_names_the_service_and_a_parent_its_worker() {
        let exe = Path::new("/usr/bin/redis-check-rdb");
        let started_as = Some(Path::new("/usr/bin/redis-server"));
        let redis = Raw { exe, started_as, command_line: b"redis-server\0", ..raw() };
        let found = resource(redis, None);
        assert_eq!(found.service_name(), "redis-server");
        assert_eq!(str(&found, "process.executable.name"), Some("redis-check-rdb"));
        let parent = Profile::new(raw(), Service::default(), &host());
        let command_line = b"python3\0-c\0from x import y\0--multiprocessing-fork\0";
        let of = |environ| {
            let raw = Raw { command_line, environ, ..raw() };
            let worker = Profile::new(raw, Service::default(), &host());
            assert!(worker.is_worker && !parent.is_worker);
            let worker = worker.named_as(&parent);
            worker.resource(43, Some(42), 99, &host(), &Pods::default()).service_name().to_owned()
        };
        assert_eq!(of(b""), "app");
        assert_eq!(of(b"OTEL_SERVICE_NAME=own\0"), "own");
    }

    #[test]
    fn a_rewritten_title_is_not_the_command() {
        let command_line = b"postgres: alice secrets 10.0.0.1 idle\0";
        let found = resource(Raw { command_line, comm: "postgres", ..raw() }, None);
        assert_eq!(str(&found, "process.command"), Some("postgres"));
    }

    #[test]
    fn instances_differ_by_process_and_start() {
        let profile = Profile::new(raw(), Service::default(), &host());
        let id = |tgid, start| {
            let resource = profile.resource(tgid, None, start, &host(), &Pods::default());
            str(&resource, "service.instance.id").unwrap().to_owned()
        };
        assert_eq!(id(1, 1), id(1, 1));
        assert_ne!(id(1, 1), id(1, 2));
        assert_ne!(id(1, 1), id(2, 1));
        assert_ne!(id(1, 1), "one for all");
        let environ = b"OTEL_RESOURCE_ATTRIBUTES=service.instance.id=mine\0";
        let named = resource(Raw { environ, ..raw() }, None);
        assert_eq!(str(&named, "service.instance.id"), Some("mine"));
    }

    #[test]
    fn a_containers_process_says_which_and_whose_it_is() {
        let uid = "2f6d8c1e-58f3-4c39-9e4a-0f6f3c0a1b2c";
        let id = "0123456789abcdef".repeat(4);
        let cgroup = format!("0::/kubepods/besteffort/pod{uid}/crio-{id}");
        let container = Container::of_cgroup(&cgroup);
        let found = resource(Raw { container, ..raw() }, None);
        assert_eq!(str(&found, "container.id"), Some(&*id));
        assert_eq!(str(&found, "container.runtime.name"), Some("cri-o"));
        assert_eq!(str(&found, "k8s.pod.uid"), Some(uid));
        let alone = resource(raw(), None);
        assert_eq!(str(&alone, "container.id"), None);
    }

    #[test]
    fn kubernetes_comes_after_the_target_and_before_the_agent() {
        let mut pods = Pods::default();
        let annotations = pairs(&[
            ("resource.opentelemetry.io/team", "pod"),
            ("resource.opentelemetry.io/zone", "pod"),
        ]);
        let pod = Pod { annotations, ..pod() };
        let cgroup = format!("0::/kubepods/pod{}/{}", pod.uid, "a".repeat(64));
        let mut container = Container::of_cgroup(&cgroup);
        container.pod.as_mut().unwrap().container_name = Some("app".into());
        pods.put(Arc::new(pod));
        let environ = b"OTEL_RESOURCE_ATTRIBUTES=team=target\0";
        let found = |environ, name: Option<&str>| {
            let raw = Raw { environ, container: container.clone(), ..raw() };
            let service = Service { name, ..Service::default() };
            Profile::new(raw, service, &host()).resource(42, None, 99, &host(), &pods)
        };
        let one = found(environ, None);
        assert_eq!((str(&one, "team"), str(&one, "zone")), (Some("target"), Some("pod")));
        assert_eq!(one.service_name(), "web");
        assert_eq!(str(&one, "service.instance.id"), Some("shop.web-5d86cd684-hh528.app"));
        assert!(one.instance().is_some() && resource(raw(), None).instance().is_none());
        assert_eq!(found(b"", Some("chosen")).service_name(), "chosen");
        assert_eq!(found(b"OTEL_SERVICE_NAME=own\0", None).service_name(), "own");
    }

    #[test]
    fn malformed_attributes_of_the_target_are_left_out_whole() {
        let environ = b"OTEL_RESOURCE_ATTRIBUTES=team=target,oops\0";
        assert_eq!(str(&resource(Raw { environ, ..raw() }, None), "team"), Some("agent"));
        let profile = Profile::new(Raw { environ, ..raw() }, Service::default(), &host());
        assert_eq!(profile.malformed, Some("a pair without `=`"));
        assert_eq!(Profile::new(raw(), Service::default(), &host()).malformed, None);
    }
}
