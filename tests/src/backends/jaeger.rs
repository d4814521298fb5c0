//! Jaeger: takes OTLP over gRPC and HTTP and is asked through its query API.

use std::{fs, net::SocketAddr};

use serde_json::json;
use tempfile::TempDir;

use super::{Service, TraceStore, address};

/// # Panics
/// If it does not start.
#[must_use]
pub fn start() -> TraceStore {
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
    TraceStore { service: Service::start("jaeger", folder, &arguments, &ready), grpc, http, query }
}
