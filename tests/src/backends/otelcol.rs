//! The OpenTelemetry Collector: takes OTLP in every way, writes what it has to files as OTLP/JSON, makes
//! metrics of spans, and shows all metrics to Prometheus.

use std::{
    fs,
    net::{SocketAddr, TcpStream},
};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Service, address, authority::Authority};
use crate::{
    process::until,
    spans::{self, Span},
};

/// How a receiver is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Security {
    Plain,
    /// The server has a certificate.
    Tls,
    /// The client must have one, too.
    MutualTls,
}

pub struct Otelcol {
    service: Service,
    grpc: [SocketAddr; 3],
    http: [SocketAddr; 3],
    metrics: SocketAddr,
}

/// Where the Collector writes what came, and what its components made of it.
#[derive(Clone, Copy, Debug)]
pub enum Output {
    /// All spans.
    Spans,
    /// Those of traces that tail sampling kept: there is an error in them.
    Kept,
    Metrics,
    /// Metrics that the Collector made of spans.
    Connectors,
}

impl Output {
    fn file(self) -> &'static str {
        match self {
            Self::Spans => "spans",
            Self::Kept => "kept",
            Self::Metrics => "metrics",
            Self::Connectors => "connectors",
        }
    }
}

impl Otelcol {
    /// # Panics
    /// If it does not start.
    #[must_use]
    pub fn start(authority: &Authority) -> Self {
        Self::sampling(authority, &[])
    }

    /// With further tail samplers of these names and settings; [`Self::sampled`] has what each keeps.
    ///
    /// # Panics
    /// If it does not start.
    #[must_use]
    pub fn sampling(authority: &Authority, samplers: &[(&str, Value)]) -> Self {
        let folder = TempDir::new().expect("a folder");
        let (grpc, http) = ([(); 3].map(|()| address()), [(); 3].map(|()| address()));
        let metrics = address();
        let receiver = |at: usize, security: Security| {
            let endpoint = |address: SocketAddr| {
                let mut endpoint = json!({ "endpoint": address.to_string() });
                if security != Security::Plain {
                    let files = authority.server(address.ip());
                    endpoint["tls"] =
                        json!({ "cert_file": files.certificate, "key_file": files.key });
                }
                if security == Security::MutualTls {
                    endpoint["tls"]["client_ca_file"] = json!(authority.certificate());
                }
                endpoint
            };
            json!({ "protocols": { "grpc": endpoint(grpc[at]), "http": endpoint(http[at]) } })
        };
        let file = |output: Output| {
            let path = folder.path().join(output.file());
            json!({ "path": path, "flush_interval": "100ms" })
        };
        let mut config = json!({
            "receivers": {
                "otlp": receiver(0, Security::Plain),
                "otlp/tls": receiver(1, Security::Tls),
                "otlp/mutual": receiver(2, Security::MutualTls),
            },
            "processors": {
                "tail_sampling": {
                    "decision_wait": "2s",
                    "policies": [{
                        "name": "errors",
                        "type": "status_code",
                        "status_code": { "status_codes": ["ERROR"] },
                    }],
                },
            },
            "connectors": {
                "spanmetrics": {
                    "histogram": { "unit": "s", "exponential": { "max_size": 160 } },
                    "exemplars": { "enabled": true },
                    "dimensions": [
                        { "name": "http.route" }, { "name": "http.response.status_code" },
                    ],
                    "metrics_flush_interval": "500ms",
                },
                "servicegraph": {
                    "store": { "ttl": "1s", "max_items": 100_000 },
                    "store_expiration_loop": "500ms",
                    "metrics_flush_interval": "500ms",
                    "virtual_node_peer_attributes": ["server.address"],
                },
            },
            "exporters": {
                "file/spans": file(Output::Spans),
                "file/kept": file(Output::Kept),
                "file/metrics": file(Output::Metrics),
                "file/connectors": file(Output::Connectors),
                "prometheus": { "endpoint": metrics.to_string(), "enable_open_metrics": true },
            },
            "service": {
                "telemetry": { "metrics": { "level": "none" } },
                "pipelines": {
                    "traces": {
                        "receivers": ["otlp", "otlp/tls", "otlp/mutual"],
                        "exporters": ["file/spans", "spanmetrics", "servicegraph"],
                    },
                    "traces/kept": {
                        "receivers": ["otlp", "otlp/tls", "otlp/mutual"],
                        "processors": ["tail_sampling"],
                        "exporters": ["file/kept"],
                    },
                    "metrics": {
                        "receivers": ["otlp", "otlp/tls", "otlp/mutual"],
                        "exporters": ["file/metrics", "prometheus"],
                    },
                    "metrics/connectors": {
                        "receivers": ["spanmetrics", "servicegraph"],
                        "exporters": ["file/connectors", "prometheus"],
                    },
                },
            },
        });
        for (name, settings) in samplers {
            let [processor, exporter] =
                ["tail_sampling", "file"].map(|kind| format!("{kind}/{name}"));
            config["processors"][&processor] = settings.clone();
            config["exporters"][&exporter] =
                json!({ "path": folder.path().join(name), "flush_interval": "100ms" });
            config["service"]["pipelines"][format!("traces/{name}")] = json!({
                "receivers": ["otlp"],
                "processors": [processor],
                "exporters": [exporter],
            });
        }
        let path = folder.path().join("config");
        fs::write(&path, config.to_string()).expect("a file");
        let arguments = ["--config".to_owned(), path.display().to_string()];
        let ready = format!("http://{metrics}/metrics");
        let service = Service::start("otelcol", folder, &arguments, &ready);
        // Exporters are started first, receivers last.
        for address in grpc.into_iter().chain(http) {
            until("the Collector's receivers", || TcpStream::connect(address).is_ok());
        }
        Self { service, grpc, http, metrics }
    }

    /// The base of what `OTEL_EXPORTER_OTLP_ENDPOINT` takes.
    #[must_use]
    pub fn endpoint(&self, grpc: bool, security: Security) -> String {
        let addresses = if grpc { &self.grpc } else { &self.http };
        let scheme = if security == Security::Plain { "http" } else { "https" };
        format!("{scheme}://{}", addresses[security as usize])
    }

    /// Where Prometheus finds all metrics.
    #[must_use]
    pub fn metrics(&self) -> SocketAddr {
        self.metrics
    }

    /// Lines of an output, as far as they are whole.
    ///
    /// # Panics
    /// If one is not JSON.
    #[must_use]
    pub fn lines(&self, output: Output) -> Vec<Value> {
        let text = self.text(output);
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    /// The spans that a sampler has kept so far.
    #[must_use]
    pub fn sampled(&self, name: &str) -> Vec<Span> {
        spans::parse(&self.file(name))
    }

    fn text(&self, output: Output) -> String {
        self.file(output.file())
    }

    fn file(&self, name: &str) -> String {
        let mut text = fs::read_to_string(self.service.path().join(name)).unwrap_or_default();
        text.truncate(text.rfind('\n').map_or(0, |at| at + 1));
        text
    }

    /// The spans of an output, when there are as many.
    ///
    /// # Panics
    /// If there are not, or more.
    #[must_use]
    pub fn spans(&self, output: Output, count: usize) -> Vec<Span> {
        let spans = self.service.wait_for(&format!("{count} spans"), || {
            Some(spans::parse(&self.text(output))).filter(|spans| spans.len() >= count)
        });
        assert_eq!(spans.len(), count);
        spans
    }

    /// What a poll finds.
    ///
    /// # Panics
    /// If it finds nothing.
    pub fn wait_for<T>(&self, what: &str, done: impl FnMut() -> Option<T>) -> T {
        self.service.wait_for(what, done)
    }
}
