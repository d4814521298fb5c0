//! Exports of telemetry: requests of OTLP, which services, collectors and this agent send.

use crate::exchange::{Detail, Exchange, Role};

/// Product of the agent's `User-Agent`.
pub const OWN_USER_AGENT: &str = "OTel-OTLP-Exporter-Remora/";

/// How the `User-Agent` of other exporters begins: those of SDKs (OTLP specification, "User Agent"; Go's writes spaces) and of the
/// Collector.
const USER_AGENTS: [&str; 3] =
    ["OTel-OTLP-Exporter-", "OTel OTLP Exporter ", "OpenTelemetry Collector"];
/// How the targets of OTLP over HTTP end.
const PATHS: [&str; 4] = ["/v1/traces", "/v1/metrics", "/v1/logs", "/v1development/profiles"];
/// How the `User-Agent` of those begins that pass on what others have made.
const COLLECTOR: &str = "OpenTelemetry Collector";
/// How those over gRPC begin.
const SERVICES: &str = "/opentelemetry.proto.collector.";

/// Whose telemetry is exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Export {
    /// This agent's, or another one's: a span of it would be exported, too, and so on without end.
    Agents,
    /// That of services, or what a collector passes on.
    Others,
}

/// Whether `exchange` is an export of telemetry.
#[must_use]
pub fn export(exchange: &Exchange) -> Option<Export> {
    let (http, is_grpc) = match &exchange.detail {
        Detail::Http(http) => (&**http, false),
        Detail::Grpc(rpc) => (&rpc.http, true),
        Detail::Redis(_) | Detail::Postgres(_) => return None,
    };
    let user_agent = http.user_agent.as_deref().unwrap_or_default();
    if user_agent.starts_with(OWN_USER_AGENT) {
        return Some(Export::Agents);
    }
    let exports = if is_grpc {
        http.target.starts_with(SERVICES)
    } else {
        let path = http.target.split(['?', '#']).next().unwrap_or_default();
        PATHS.iter().any(|end| path.ends_with(end))
            && USER_AGENTS.iter().any(|begin| user_agent.starts_with(begin))
    };
    exports.then_some(Export::Others)
}

/// Signals that a process exports by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Emits {
    pub traces: bool,
    pub metrics: bool,
}

impl Emits {
    /// What the export `exchange` of somebody else than an agent shows of its process: nothing, where it was not taken, or where
    /// the process passes on what others have made.
    #[must_use]
    pub fn shown_by(exchange: &Exchange) -> Self {
        let (http, taken) = match &exchange.detail {
            Detail::Http(http) => (&**http, (200..300).contains(&http.status)),
            Detail::Grpc(rpc) => (&rpc.http, rpc.status == Some(0)),
            Detail::Redis(_) | Detail::Postgres(_) => return Self::default(),
        };
        let user_agent = http.user_agent.as_deref().unwrap_or_default();
        if exchange.role != Role::Client || !taken || user_agent.starts_with(COLLECTOR) {
            return Self::default();
        }
        let target = http.target.split(['?', '#']).next().unwrap_or_default();
        let is = |path, service| target.ends_with(path) || target.ends_with(service);
        Self {
            traces: is(PATHS[0], ".trace.v1.TraceService/Export"),
            metrics: is(PATHS[1], ".metrics.v1.MetricsService/Export"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::tests::exchange, *};
    use crate::exchange::{HttpExchange, Role, RpcExchange};

    fn http(target: &str, user_agent: &str) -> HttpExchange {
        HttpExchange {
            method: "POST".into(),
            target: target.into(),
            user_agent: (!user_agent.is_empty()).then(|| user_agent.into()),
            ..HttpExchange::default()
        }
    }

    fn of(detail: Detail) -> Option<Export> {
        export(&Exchange { detail, ..exchange(Role::Client) })
    }

    #[test]
    fn exports_are_told_by_where_they_go_and_who_sends_them() {
        let contrib = "OpenTelemetry Collector Contrib/0.140.0 (linux/amd64)";
        for (target, user_agent, expected) in [
            ("/v1/traces", "OTel-OTLP-Exporter-Remora/0.1", Some(Export::Agents)),
            ("/v1/metrics?tenant=a", "OTel-OTLP-Exporter-Python/1.38.0", Some(Export::Others)),
            ("/otlp/v1/logs", "OTel OTLP Exporter Go/1.38.0", Some(Export::Others)),
            ("/v1/traces", contrib, Some(Export::Others)),
            // Somebody's own interface.
            ("/v1/metrics", "curl/8.0", None),
            ("/v1/logs", "", None),
            ("/v1/users", "OTel-OTLP-Exporter-Python/1.38.0", None),
        ] {
            let detail = Detail::Http(Box::new(http(target, user_agent)));
            assert_eq!(of(detail), expected, "{target} {user_agent}");
        }
    }

    #[test]
    fn what_a_process_emits_is_shown_by_exports_that_were_taken() {
        let sdk = "OTel-OTLP-Exporter-Python/1.38.0";
        let collector = "OpenTelemetry Collector Contrib/0.140.0 (linux/amd64)";
        let emits = |traces, metrics| Emits { traces, metrics };
        for (target, user_agent, status, role, expected) in [
            ("/v1/traces", sdk, 200, Role::Client, emits(true, false)),
            ("/otlp/v1/metrics?a=b", sdk, 202, Role::Client, emits(false, true)),
            ("/v1/logs", sdk, 200, Role::Client, emits(false, false)),
            ("/v1/traces", sdk, 503, Role::Client, emits(false, false)),
            ("/v1/traces", sdk, 0, Role::Client, emits(false, false)),
            ("/v1/traces", sdk, 200, Role::Server, emits(false, false)),
            ("/v1/traces", collector, 200, Role::Client, emits(false, false)),
        ] {
            let http = HttpExchange { status, ..http(target, user_agent) };
            let exchange = Exchange { detail: Detail::Http(Box::new(http)), ..exchange(role) };
            assert_eq!(Emits::shown_by(&exchange), expected, "{target} {user_agent} {status}");
        }
        let traces = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
        for (status, expected) in [(Some(0), true), (Some(14), false), (None, false)] {
            let rpc = RpcExchange { http: http(traces, "grpc-go/1.75"), status };
            let detail = Detail::Grpc(Box::new(rpc));
            let exchange = Exchange { detail, ..exchange(Role::Client) };
            assert_eq!(Emits::shown_by(&exchange), emits(expected, false));
        }
    }

    #[test]
    fn calls_of_the_collectors_services_are_exports() {
        let traces = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
        for (target, expected) in [(traces, Some(Export::Others)), ("/shop.Orders/Export", None)] {
            let rpc = RpcExchange { http: http(target, "grpc-go/1.75"), status: Some(0) };
            assert_eq!(of(Detail::Grpc(Box::new(rpc))), expected, "{target}");
        }
    }
}
