//! HTTP metrics by the stable semantic conventions (schema 1.42, "HTTP metrics"): the histograms of an
//! exchange, and which series it belongs to.

use std::hash::{Hash, Hasher};

use opentelemetry_semantic_conventions::{attribute as key, metric};

use super::{Addressed, ErrorType, addressed::server_scheme, known_method, protocol_version};
use crate::{
    attribute::Value,
    exchange::{HttpExchange, Role},
    semantics::{
        chosen::{LeftOut, bit},
        instrument::{Instrument, Measure},
        series::{AttributeList, OwnedServer, Server, text},
    },
    span::Span,
};

/// Bucket bounds of durations that the conventions advise, seconds.
const DURATION_BOUNDS: &[f64] =
    &[0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];

/// Bucket bounds of body sizes, bytes: the conventions advise none, and the SDKs' default ends at 10 kB.
/// From an empty body to 1 GiB, by factors of 4 and 8.
const SIZE_BOUNDS: &[f64] = &[
    0.0,
    128.0,
    512.0,
    1024.0,
    4096.0,
    16_384.0,
    65_536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
    67_108_864.0,
    268_435_456.0,
    1_073_741_824.0,
];

pub(crate) const SERVER: &[Instrument] = &[
    Instrument {
        name: metric::HTTP_SERVER_REQUEST_DURATION,
        unit: "s",
        description: "Duration of HTTP server requests.",
        bounds: DURATION_BOUNDS,
        measure: Measure::Duration,
    },
    Instrument {
        name: metric::HTTP_SERVER_REQUEST_BODY_SIZE,
        unit: "By",
        description: "Size of HTTP server request bodies.",
        bounds: SIZE_BOUNDS,
        measure: Measure::RequestContent,
    },
    Instrument {
        name: metric::HTTP_SERVER_RESPONSE_BODY_SIZE,
        unit: "By",
        description: "Size of HTTP server response bodies.",
        bounds: SIZE_BOUNDS,
        measure: Measure::ResponseContent,
    },
];

pub(crate) const CLIENT: &[Instrument] = &[
    Instrument {
        name: metric::HTTP_CLIENT_REQUEST_DURATION,
        unit: "s",
        description: "Duration of HTTP client requests.",
        bounds: DURATION_BOUNDS,
        measure: Measure::Duration,
    },
    Instrument {
        name: metric::HTTP_CLIENT_REQUEST_BODY_SIZE,
        unit: "By",
        description: "Size of HTTP client request bodies.",
        bounds: SIZE_BOUNDS,
        measure: Measure::RequestContent,
    },
    Instrument {
        name: metric::HTTP_CLIENT_RESPONSE_BODY_SIZE,
        unit: "By",
        description: "Size of HTTP client response bodies.",
        bounds: SIZE_BOUNDS,
        measure: Measure::ResponseContent,
    },
];

/// The attributes of HTTP metrics: required, conditionally required and recommended ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key<'a> {
    method: &'static str,
    scheme: &'static str,
    version: &'static str,
    status: u16,
    error: Option<ErrorType>,
    /// SERVER only.
    route: Option<&'a str>,
    /// CLIENT only: on servers it is opt-in, and anybody can write anything into `Host`.
    server: Server<'a>,
}

impl Hash for Key<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(self.method.as_bytes());
        state.write(self.route.unwrap_or_default().as_bytes());
        self.server.hash_names(state);
        // What is short goes into one word; `error` follows from status and failure kind, where series have these.
        let failed = matches!(self.error, Some(ErrorType::Failure(_)));
        state.write_u64(
            u64::from(self.status)
                | u64::from(self.server.port.unwrap_or_default()) << 16
                | (self.scheme.len() as u64) << 32
                | u64::from(self.version.bytes().last().unwrap_or_default()) << 40
                | u64::from(failed) << 48,
        );
    }
}

impl<'a> Key<'a> {
    #[inline]
    pub(crate) fn of(span: &'a Span, http: &'a HttpExchange) -> Self {
        let role = span.exchange.role;
        let (scheme, server) = match role {
            Role::Server => (server_scheme(&span.exchange, http), Server::default()),
            Role::Client => {
                let addressed = Addressed::of(&span.exchange, http);
                (addressed.scheme, Server::of(addressed.server(), span))
            }
        };
        Self {
            method: known_method(&http.method),
            scheme,
            version: protocol_version(http.version),
            status: http.status,
            error: ErrorType::of(role, http.status, span.exchange.failure),
            route: span.route.as_deref(),
            server,
        }
    }

    /// Without what series do not have.
    pub(crate) fn leave_out(&mut self, left_out: LeftOut) {
        if left_out.has(const { bit(key::HTTP_REQUEST_METHOD) }) {
            self.method = "";
        }
        if left_out.has(const { bit(key::URL_SCHEME) }) {
            self.scheme = "";
        }
        if left_out.has(const { bit(key::NETWORK_PROTOCOL_VERSION) }) {
            self.version = "";
        }
        if left_out.has(const { bit(key::HTTP_ROUTE) }) {
            self.route = None;
        }
        if left_out.has(const { bit(key::HTTP_RESPONSE_STATUS_CODE) }) {
            self.status = 0;
        }
        if left_out.has(const { bit(key::ERROR_TYPE) }) {
            self.error = None;
        }
        self.server.leave_out(left_out);
    }

    pub(crate) fn attributes(&self) -> AttributeList {
        let mut list = vec![
            (key::HTTP_REQUEST_METHOD, text(self.method)),
            (key::URL_SCHEME, text(self.scheme)),
            (key::NETWORK_PROTOCOL_NAME, text("http")),
        ];
        if !self.version.is_empty() {
            list.push((key::NETWORK_PROTOCOL_VERSION, text(self.version)));
        }
        if let Some(route) = self.route {
            list.push((key::HTTP_ROUTE, text(route)));
        }
        if self.status != 0 {
            list.push((key::HTTP_RESPONSE_STATUS_CODE, Value::Int(i64::from(self.status))));
        }
        if let Some(error) = self.error {
            list.push((key::ERROR_TYPE, text(&error.as_str())));
        }
        self.server.add_to(&mut list);
        list
    }
}

/// A [`Key`] that stays.
#[derive(Debug)]
pub struct OwnedKey {
    fixed: Key<'static>,
    route: Option<Box<str>>,
    server: OwnedServer,
}

impl OwnedKey {
    pub(crate) fn of(key: &Key<'_>) -> Self {
        Self {
            fixed: Key { route: None, server: Server::default(), ..*key },
            route: key.route.map(Into::into),
            server: OwnedServer::of(&key.server),
        }
    }

    /// Whether `key` is the one that this was made of: compared in place, since it is on the hot path.
    #[inline]
    pub(crate) fn is(&self, key: &Key<'_>) -> bool {
        let Key { method, scheme, version, status, error, route, server } = *key;
        let fixed = &self.fixed;
        (fixed.status, fixed.error) == (status, error)
            && (fixed.method, fixed.scheme, fixed.version) == (method, scheme, version)
            && self.route.as_deref() == route
            && self.server.borrow() == server
    }

    pub(crate) fn borrow(&self) -> Key<'_> {
        Key { route: self.route.as_deref(), server: self.server.borrow(), ..self.fixed }
    }
}

/// `GET /users/{id}`, `GET`: without the server, which rows of all conventions have.
pub(crate) fn row(find: &dyn Fn(&str) -> Option<String>) -> String {
    let method = find(key::HTTP_REQUEST_METHOD).unwrap_or_default();
    match find(key::HTTP_ROUTE) {
        Some(route) => format!("{method} {route}"),
        None => method,
    }
}
