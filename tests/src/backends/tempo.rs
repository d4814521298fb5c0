//! Tempo: takes OTLP over gRPC and HTTP and is asked through its query API. It ends by SIGKILL only, which
//! is how everything here ends.

use std::{fs, net::SocketAddr};

use serde_json::json;
use tempfile::TempDir;

use super::{Service, TraceStore, address};
use crate::process::free_port;

/// # Panics
/// If it does not start.
#[must_use]
pub fn start() -> TraceStore {
    let folder = TempDir::new().expect("a folder");
    let [grpc, http, query, gossip] = [(); 4].map(|()| address());
    // It calls itself there, whatever it is told.
    let internal = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let endpoint = |address: SocketAddr| json!({ "endpoint": address.to_string() });
    let config = json!({
        "server": {
            "http_listen_address": query.ip(),
            "http_listen_port": query.port(),
            "grpc_listen_address": internal.ip(),
            "grpc_listen_port": internal.port(),
        },
        "memberlist": { "bind_addr": [gossip.ip()], "bind_port": gossip.port() },
        "distributor": {
            "receivers": {
                "otlp": { "protocols": { "grpc": endpoint(grpc), "http": endpoint(http) } },
            },
        },
        "ingester": {
            "trace_idle_period": "1s",
            "flush_check_period": "1s",
            "max_block_duration": "1m",
            "lifecycler": {
                "address": internal.ip(),
                "ring": { "kvstore": { "store": "inmemory" }, "replication_factor": 1 },
            },
        },
        "querier": {
            "frontend_worker": { "frontend_address": internal.to_string() },
        },
        "storage": {
            "trace": {
                "backend": "local",
                "wal": { "path": folder.path().join("wal") },
                "local": { "path": folder.path().join("blocks") },
            },
        },
        "usage_report": { "reporting_enabled": false },
    });
    let path = folder.path().join("config");
    fs::write(&path, config.to_string()).expect("a file");
    let arguments = ["-target=all".to_owned(), format!("-config.file={}", path.display())];
    let ready = format!("http://{query}/ready");
    TraceStore { service: Service::start("tempo", folder, &arguments, &ready), grpc, http, query }
}
