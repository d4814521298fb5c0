//! Real telemetry backends, started for one test each: on addresses of their own, with their files in
//! a folder that goes with them. `cargo xtask backends` brings the binaries.

pub mod authority;
pub mod jaeger;
pub mod otelcol;
pub mod prometheus;
pub mod tempo;

use std::{
    error::Error,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Instant,
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, http};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{runtime::Builder, time::timeout};

use crate::{
    address,
    process::{Running, patience},
    skip,
};

/// Where the binary of a backend is, if it is here: below the folder that `cargo xtask test` names,
/// else below the user's cache.
#[must_use]
pub fn binary(name: &str) -> Option<PathBuf> {
    let set = |variable| std::env::var_os(variable).map(PathBuf::from);
    let folder = set("REMORA_BACKENDS").or_else(|| {
        let cache = set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")));
        Some(cache?.join("remora/backends"))
    })?;
    Some(folder.join(name).join(name)).filter(|binary| binary.is_file())
}

/// Whether one of these backends is missing; prints the reason to skip and how to get it if so.
#[must_use]
pub fn without(names: &[&str]) -> bool {
    if skip::emulated() {
        println!("skipped: backends of this size are not run on an emulated machine");
        return true;
    }
    let missing = names.iter().find(|name| binary(name).is_none());
    if let Some(name) = missing {
        println!("skipped: there is no {name}: cargo xtask backends {name}");
    }
    missing.is_some()
}

/// An address that nothing listens on, for a backend to be told.
#[must_use]
pub fn address() -> SocketAddr {
    address::listener().1
}

/// A backend that runs.
pub struct Service {
    process: Running,
    name: &'static str,
    folder: TempDir,
}

impl Service {
    /// Starts `name` with these arguments, its files and its log in `folder`; returns when `url`
    /// answers with a success.
    ///
    /// # Panics
    /// If it does not get that far.
    #[must_use]
    pub fn start(name: &'static str, folder: TempDir, arguments: &[String], url: &str) -> Self {
        let log = fs::File::create(folder.path().join("log")).expect("a file");
        let mut command = Command::new(binary(name).expect("looked for before"));
        command.args(arguments).current_dir(folder.path()).stdin(Stdio::null());
        command.stdout(log.try_clone().expect("a file")).stderr(log);
        let process = Running::start_unread(&mut command);
        let mut service = Self { process, name, folder };
        let start = Instant::now();
        while !get(url).is_ok_and(|(status, _)| status < 300) {
            let ended = service.process.has_ended();
            assert!(!ended && start.elapsed() < patience(), "no {name}:\n{}", service.log());
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        service
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// What it has said so far.
    #[must_use]
    pub fn log(&self) -> String {
        let log = fs::read(self.folder.path().join("log")).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }

    /// Waits until `done` says something.
    ///
    /// # Panics
    /// If that takes too long; says what the backend did meanwhile.
    pub fn wait_for<T>(&self, what: &str, mut done: impl FnMut() -> Option<T>) -> T {
        let start = Instant::now();
        loop {
            if let Some(found) = done() {
                return found;
            }
            let late = start.elapsed() > patience();
            assert!(!late, "{} has no {what}; it says\n{}", self.name, self.log());
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}

/// Status and content that `url` answers with.
///
/// # Errors
/// Nobody answers.
pub fn get(url: &str) -> Result<(u16, String), Box<dyn Error>> {
    send(Request::get(url).header("accept", "application/json"), Bytes::new())
}

/// Status and content of the answer to this JSON.
///
/// # Errors
/// Nobody answers.
pub fn post(url: &str, content: &Value) -> Result<(u16, String), Box<dyn Error>> {
    let content = content.to_string().into();
    send(Request::post(url).header("content-type", "application/json"), content)
}

fn send(request: http::request::Builder, content: Bytes) -> Result<(u16, String), Box<dyn Error>> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let send = async {
        let client: Client<HttpConnector, Full<Bytes>> =
            Client::builder(TokioExecutor::new()).build_http();
        let answer = client.request(request.body(content.into())?).await?;
        let status = answer.status().as_u16();
        let content = answer.into_body().collect().await?.to_bytes();
        Ok((status, String::from_utf8_lossy(&content).into_owned()))
    };
    runtime.block_on(async { timeout(patience(), send).await? })
}

/// The JSON that `url` answers with, if it answers well.
///
/// # Panics
/// If it is not JSON.
#[must_use]
pub fn json(url: &str) -> Option<Value> {
    let (status, content) = get(url).ok()?;
    let parse = |content: &str| serde_json::from_str(content);
    (status == 200).then(|| parse(&content).unwrap_or_else(|error| panic!("{error}: {content}")))
}

/// `text` as it stands in the query of a URL.
#[must_use]
pub fn encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(char::from(byte));
            }
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

/// A backend that keeps traces: takes OTLP over gRPC and HTTP and is asked through its query API.
pub struct TraceStore {
    service: Service,
    grpc: SocketAddr,
    http: SocketAddr,
    query: SocketAddr,
}

impl TraceStore {
    #[must_use]
    pub fn grpc(&self) -> String {
        format!("http://{}", self.grpc)
    }

    #[must_use]
    pub fn http(&self) -> String {
        format!("http://{}", self.http)
    }

    /// What its API answers, if it answers well.
    #[must_use]
    pub fn ask(&self, path: &str) -> Option<Value> {
        json(&format!("http://{}{path}", self.query))
    }

    /// What a poll finds.
    ///
    /// # Panics
    /// If it finds nothing.
    pub fn wait_for<T>(&self, what: &str, done: impl FnMut() -> Option<T>) -> T {
        self.service.wait_for(what, done)
    }
}
