//! Jaeger: takes OTLP over gRPC and HTTP and is asked through its query API.

use std::{fs, net::SocketAddr};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Service, address, json};

pub struct Jaeger {
    service: Service,
    grpc: SocketAddr,
    http: SocketAddr,
    query: SocketAddr,
}

impl Jaeger {
    /// # Panics
    /// If it does not start.
    #[must_use]
    pub fn start() -> Self {
        let folder = TempDir::new().expect("a folder");
        let [grpc, http, query, internal] = [(); 4].map(|()| address());
        let endpoint = |address: SocketAddr| json!({ "endpoint": address.to_string() });
        let config = json!({
            "service": {
                "extensions": ["jaeger_storage", "jaeger_query"],
                "telemetry": { "metrics": { "level": "none" } },
                "pipelines": {
                    "traces": { "receivers": ["otlp"], "exporters": ["jaeger_storage_exporter"] },
                },
            },
            "extensions": {
                "jaeger_query": {
                    "storage": { "traces": "memory" },
                    "http": endpoint(query),
                    "grpc": endpoint(internal),
                },
                "jaeger_storage": {
                    "backends": { "memory": { "memory": { "max_traces": 100_000 } } },
                },
            },
            "receivers": {
                "otlp": { "protocols": { "grpc": endpoint(grpc), "http": endpoint(http) } },
            },
            "exporters": { "jaeger_storage_exporter": { "trace_storage": "memory" } },
        });
        let path = folder.path().join("config");
        fs::write(&path, config.to_string()).expect("a file");
        let arguments = ["--config".to_owned(), path.display().to_string()];
        let ready = format!("http://{query}/api/services");
        Self { service: Service::start("jaeger", folder, &arguments, &ready), grpc, http, query }
    }

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
