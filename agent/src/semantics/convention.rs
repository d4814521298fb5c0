//! Which conventions describe an exchange.

use super::{db::System, postgres, redis};
use crate::{
    exchange::{DbExchange, Detail, HttpExchange, RpcExchange},
    span::Span,
};

/// The conventions that describe an exchange: several protocols may share them.
pub(super) enum Convention<'a> {
    Http(&'a HttpExchange),
    Rpc(&'a RpcExchange),
    Db(&'static System, &'a DbExchange),
}

impl<'a> From<&'a Detail> for Convention<'a> {
    fn from(detail: &'a Detail) -> Self {
        match detail {
            Detail::Http(http) => Self::Http(http),
            Detail::Grpc(rpc) => Self::Rpc(rpc),
            Detail::Redis(db) => Self::Db(&redis::SYSTEM, db),
            Detail::Postgres(db) => Self::Db(&postgres::SYSTEM, db),
        }
    }
}

impl<'a> Convention<'a> {
    #[inline]
    pub(super) fn of(span: &'a Span) -> Self {
        Self::from(&span.exchange.detail)
    }
}
