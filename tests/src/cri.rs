//! A client of the Container Runtime Interface, as far as tests ask: pods, containers, commands in them.
//! Fields are those of `k8s.io/cri-api`'s `runtime/v1/api.proto`.

use std::{collections::HashMap, time::Duration};

use prost::Message;
use tokio::runtime::Runtime;
use tonic::{
    Request, Status,
    client::Grpc,
    codegen::http::uri::PathAndQuery,
    transport::{Channel, Endpoint},
};
use tonic_prost::ProstCodec;

pub struct Cri {
    runtime: Runtime,
    channel: Channel,
}

impl Cri {
    /// Of the runtime that listens at `socket`; `None` if it does not answer.
    ///
    /// # Panics
    /// If there can be no client.
    #[must_use]
    pub fn connect(socket: &str) -> Option<Self> {
        let runtime = Runtime::new().expect("threads");
        let endpoint = Endpoint::try_from(format!("unix://{socket}"));
        let endpoint = endpoint.expect("an address").timeout(Duration::from_secs(60));
        let channel = runtime.block_on(endpoint.connect()).ok()?;
        let cri = Self { runtime, channel };
        let answer: Result<Nothing, _> = cri.try_call("Version", Nothing {});
        answer.is_ok().then_some(cri)
    }

    fn try_call<Q, A>(&self, method: &'static str, question: Q) -> Result<A, Status>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let path = format!("/runtime.v1.RuntimeService/{method}");
        let path = PathAndQuery::try_from(path).expect("a path");
        let mut grpc = Grpc::new(self.channel.clone());
        self.runtime.block_on(async {
            grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
            let codec: ProstCodec<Q, A> = ProstCodec::default();
            Ok(grpc.unary(Request::new(question), path, codec).await?.into_inner())
        })
    }

    fn call<Q, A>(&self, method: &'static str, question: Q) -> A
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        self.try_call(method, question).unwrap_or_else(|error| panic!("{method}: {error}"))
    }

    /// Returns the sandbox's id.
    ///
    /// # Panics
    /// As all of these, if the runtime refuses.
    #[must_use]
    pub fn run_sandbox(&self, config: &SandboxConfig) -> String {
        let answer: Id =
            self.call("RunPodSandbox", SandboxRequest { config: Some(config.clone()) });
        answer.id
    }

    /// Returns the container's id.
    #[must_use]
    pub fn create(&self, sandbox: &str, config: ContainerConfig, of: &SandboxConfig) -> String {
        let question = CreateRequest {
            sandbox: sandbox.to_owned(),
            config: Some(config),
            sandbox_config: Some(of.clone()),
        };
        let answer: Id = self.call("CreateContainer", question);
        answer.id
    }

    pub fn start(&self, container: &str) {
        let _: Nothing = self.call("StartContainer", Id { id: container.to_owned() });
    }

    pub fn remove(&self, container: &str) {
        let _: Nothing = self.call("RemoveContainer", Id { id: container.to_owned() });
    }

    #[must_use]
    pub fn sandbox(&self, id: &str) -> SandboxStatus {
        let answer: SandboxStatusAnswer = self.call("PodSandboxStatus", Id { id: id.to_owned() });
        answer.status.expect("a status")
    }

    #[must_use]
    pub fn container(&self, id: &str) -> ContainerStatus {
        let answer: ContainerStatusAnswer = self.call("ContainerStatus", Id { id: id.to_owned() });
        answer.status.expect("a status")
    }

    /// Runs a command in a container to its end; returns what it prints.
    ///
    /// # Panics
    /// If it fails.
    pub fn exec(&self, container: &str, command: &[&str]) -> String {
        let question = Exec {
            id: container.to_owned(),
            command: command.iter().map(|&word| word.to_owned()).collect(),
            timeout: 30,
        };
        let answer: Executed = self.call("ExecSync", question);
        let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert_eq!(answer.code, 0, "{command:?}: {}", said(&answer.stderr));
        said(&answer.stdout)
    }
}

#[derive(Clone, PartialEq, Message)]
struct Nothing {}

#[derive(Clone, PartialEq, Message)]
struct Id {
    #[prost(string, tag = "1")]
    id: String,
}

#[derive(Clone, PartialEq, Message)]
struct Exec {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(string, repeated, tag = "2")]
    command: Vec<String>,
    /// Seconds.
    #[prost(int64, tag = "3")]
    timeout: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Executed {
    #[prost(bytes = "vec", tag = "1")]
    stdout: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    stderr: Vec<u8>,
    #[prost(int32, tag = "3")]
    code: i32,
}

#[derive(Clone, PartialEq, Message)]
struct SandboxRequest {
    #[prost(message, optional, tag = "1")]
    config: Option<SandboxConfig>,
}

#[derive(Clone, PartialEq, Message)]
struct CreateRequest {
    #[prost(string, tag = "1")]
    sandbox: String,
    #[prost(message, optional, tag = "2")]
    config: Option<ContainerConfig>,
    #[prost(message, optional, tag = "3")]
    sandbox_config: Option<SandboxConfig>,
}

#[derive(Clone, PartialEq, Message)]
pub struct SandboxConfig {
    #[prost(message, optional, tag = "1")]
    pub metadata: Option<SandboxMetadata>,
    #[prost(string, tag = "2")]
    pub hostname: String,
    #[prost(string, tag = "3")]
    pub log_directory: String,
    #[prost(map = "string, string", tag = "6")]
    pub labels: HashMap<String, String>,
    #[prost(map = "string, string", tag = "7")]
    pub annotations: HashMap<String, String>,
    #[prost(message, optional, tag = "8")]
    pub linux: Option<LinuxSandbox>,
}

#[derive(Clone, PartialEq, Message)]
pub struct SandboxMetadata {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, tag = "2")]
    pub uid: String,
    #[prost(string, tag = "3")]
    pub namespace: String,
    #[prost(uint32, tag = "4")]
    pub attempt: u32,
}

#[derive(Clone, PartialEq, Message)]
pub struct LinuxSandbox {
    #[prost(string, tag = "1")]
    pub cgroup_parent: String,
    #[prost(message, optional, tag = "2")]
    pub security: Option<LinuxSandboxSecurity>,
}

#[derive(Clone, PartialEq, Message)]
pub struct LinuxSandboxSecurity {
    #[prost(message, optional, tag = "1")]
    pub namespaces: Option<Namespaces>,
}

/// 0 is the pod's, 1 the container's own, 2 the node's.
#[derive(Clone, PartialEq, Message)]
pub struct Namespaces {
    #[prost(int32, tag = "1")]
    pub network: i32,
    #[prost(int32, tag = "2")]
    pub pid: i32,
    #[prost(int32, tag = "3")]
    pub ipc: i32,
}

#[derive(Clone, PartialEq, Message)]
pub struct ContainerConfig {
    #[prost(message, optional, tag = "1")]
    pub metadata: Option<ContainerMetadata>,
    #[prost(message, optional, tag = "2")]
    pub image: Option<Image>,
    #[prost(string, repeated, tag = "3")]
    pub command: Vec<String>,
    #[prost(message, repeated, tag = "7")]
    pub mounts: Vec<Mount>,
    #[prost(map = "string, string", tag = "9")]
    pub labels: HashMap<String, String>,
    #[prost(map = "string, string", tag = "10")]
    pub annotations: HashMap<String, String>,
    #[prost(string, tag = "11")]
    pub log_path: String,
    #[prost(message, optional, tag = "15")]
    pub linux: Option<LinuxContainer>,
}

#[derive(Clone, PartialEq, Message)]
pub struct ContainerMetadata {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(uint32, tag = "2")]
    pub attempt: u32,
}

#[derive(Clone, PartialEq, Message)]
pub struct Image {
    #[prost(string, tag = "1")]
    pub image: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct Mount {
    #[prost(string, tag = "1")]
    pub container_path: String,
    #[prost(string, tag = "2")]
    pub host_path: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct LinuxContainer {
    #[prost(message, optional, tag = "2")]
    pub security: Option<LinuxContainerSecurity>,
}

#[derive(Clone, PartialEq, Message)]
pub struct LinuxContainerSecurity {
    #[prost(message, optional, tag = "3")]
    pub namespaces: Option<Namespaces>,
}

#[derive(Clone, PartialEq, Message)]
struct SandboxStatusAnswer {
    #[prost(message, optional, tag = "1")]
    status: Option<SandboxStatus>,
}

#[derive(Clone, PartialEq, Message)]
pub struct SandboxStatus {
    #[prost(string, tag = "1")]
    pub id: String,
    #[prost(message, optional, tag = "2")]
    pub metadata: Option<SandboxMetadata>,
    #[prost(message, optional, tag = "5")]
    pub network: Option<Network>,
    #[prost(map = "string, string", tag = "7")]
    pub labels: HashMap<String, String>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Network {
    #[prost(string, tag = "1")]
    pub ip: String,
}

#[derive(Clone, PartialEq, Message)]
struct ContainerStatusAnswer {
    #[prost(message, optional, tag = "1")]
    status: Option<ContainerStatus>,
}

#[derive(Clone, PartialEq, Message)]
pub struct ContainerStatus {
    #[prost(string, tag = "1")]
    pub id: String,
    #[prost(message, optional, tag = "2")]
    pub metadata: Option<ContainerMetadata>,
    /// [`EXITED`], or another.
    #[prost(int32, tag = "3")]
    pub state: i32,
    #[prost(message, optional, tag = "8")]
    pub image: Option<Image>,
    #[prost(string, tag = "9")]
    pub image_ref: String,
    #[prost(map = "string, string", tag = "12")]
    pub labels: HashMap<String, String>,
}

/// What [`ContainerStatus::state`] is at the end.
pub const EXITED: i32 = 2;
