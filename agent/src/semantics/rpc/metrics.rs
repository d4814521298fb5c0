//! Metrics of calls by the semantic conventions for RPC (schema 1.42, "RPC metrics").

use std::hash::{Hash, Hasher};

use opentelemetry_semantic_conventions::{attribute as key, metric};

use super::{STATUS_CODE, SYSTEM, code_name, error, method, status};
use crate::{
    exchange::{Role, RpcExchange},
    semantics::{
        chosen::{LeftOut, bit},
        http::addressed::Addressed,
        instrument::{Instrument, Measure},
        series::{AttributeList, OwnedServer, Server, text},
    },
    span::Span,
};

/// Bucket bounds that the conventions advise, seconds.
const DURATION_BOUNDS: &[f64] =
    &[0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];

pub(crate) const SERVER: &[Instrument] = &[Instrument {
    name: metric::RPC_SERVER_CALL_DURATION,
    unit: "s",
    description: "Duration of calls that a server received.",
    bounds: DURATION_BOUNDS,
    measure: Measure::Duration,
}];

pub(crate) const CLIENT: &[Instrument] = &[Instrument {
    name: metric::RPC_CLIENT_CALL_DURATION,
    unit: "s",
    description: "Duration of calls that a client made.",
    bounds: DURATION_BOUNDS,
    measure: Measure::Duration,
}];

/// The attributes of metrics of calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key<'a> {
    /// Empty if it is not known.
    method: &'a str,
    status: Option<u32>,
    error: Option<&'static str>,
    /// CLIENT only: on servers anybody can write anything into `:authority`.
    server: Server<'a>,
}

impl Hash for Key<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(self.method.as_bytes());
        self.server.hash_names(state);
        let status = self.status.map_or(u64::MAX >> 32, u64::from);
        let failed = u64::from(self.error.is_some()) << 48;
        state.write_u64(status | u64::from(self.server.port.unwrap_or_default()) << 32 | failed);
    }
}

impl<'a> Key<'a> {
    #[inline]
    pub(crate) fn of(span: &'a Span, rpc: &'a RpcExchange) -> Self {
        let exchange = &span.exchange;
        let server = match exchange.role {
            Role::Server => Server::default(),
            Role::Client => Server::of(Addressed::of(exchange, &rpc.http).server(), span),
        };
        let status = status(exchange, rpc);
        Self {
            method: method(exchange.role, rpc).unwrap_or_default(),
            status,
            error: error(exchange.role, status, exchange.failure),
            server,
        }
    }

    pub(crate) fn leave_out(&mut self, left_out: LeftOut) {
        if left_out.has(const { bit(key::RPC_METHOD) }) {
            self.method = "";
        }
        if left_out.has(const { bit(STATUS_CODE) }) {
            self.status = None;
        }
        if left_out.has(const { bit(key::ERROR_TYPE) }) {
            self.error = None;
        }
        self.server.leave_out(left_out);
    }

    pub(crate) fn attributes(&self) -> AttributeList {
        let mut list = vec![(key::RPC_SYSTEM_NAME, text(SYSTEM))];
        if !self.method.is_empty() {
            list.push((key::RPC_METHOD, text(self.method)));
        }
        if let Some(code) = self.status {
            list.push((STATUS_CODE, text(code_name(code))));
        }
        if let Some(error) = self.error {
            list.push((key::ERROR_TYPE, text(error)));
        }
        self.server.add_to(&mut list);
        list
    }
}

/// A [`Key`] that stays.
#[derive(Debug)]
pub struct OwnedKey {
    fixed: Key<'static>,
    method: Box<str>,
    server: OwnedServer,
}

impl OwnedKey {
    pub(crate) fn of(key: &Key<'_>) -> Self {
        Self {
            fixed: Key { method: "", server: Server::default(), ..*key },
            method: key.method.into(),
            server: OwnedServer::of(&key.server),
        }
    }

    #[inline]
    pub(crate) fn is(&self, key: &Key<'_>) -> bool {
        self.borrow() == *key
    }

    pub(crate) fn borrow(&self) -> Key<'_> {
        Key { method: &self.method, server: self.server.borrow(), ..self.fixed }
    }
}

/// `shop.Stock/Count`: without the server, which rows of all conventions have.
pub(crate) fn row(find: &dyn Fn(&str) -> Option<String>) -> String {
    find(key::RPC_METHOD).unwrap_or_else(|| SYSTEM.into())
}
