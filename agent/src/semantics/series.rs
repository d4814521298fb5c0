//! What the series of all conventions have in common: a list of attributes, and who served.

use std::{
    hash::{Hash, Hasher},
    net::IpAddr,
    sync::Arc,
};

use opentelemetry_semantic_conventions::attribute as key;

use super::{
    chosen::{LeftOut, bit},
    network::Address,
};
use crate::{
    attribute::Value,
    span::{Peer, Span},
};

/// The attributes of a series.
pub type AttributeList = Vec<(&'static str, Value)>;

pub(super) fn text(value: &str) -> Value {
    Value::Str(value.into())
}

/// Who served an exchange, where a series says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) struct Server<'a> {
    pub(super) address: Option<Address<'a>>,
    pub(super) port: Option<u16>,
    /// Not those that are called like one pod.
    peer: Option<&'a Arc<Peer>>,
}

impl<'a> Server<'a> {
    #[inline]
    pub(super) fn of((address, port): (Option<Address<'a>>, Option<u16>), span: &'a Span) -> Self {
        Self { address, port, peer: span.peer.as_ref().filter(|peer| !peer.is_pod) }
    }

    /// Without what series do not have.
    pub(super) fn leave_out(&mut self, left_out: LeftOut) {
        if left_out.has(const { bit(key::SERVER_ADDRESS) }) {
            self.address = None;
        }
        if left_out.has(const { bit(key::SERVER_PORT) }) {
            self.port = None;
        }
        let of_peer = const { [bit(key::SERVICE_PEER_NAME), bit(key::SERVICE_PEER_NAMESPACE)] };
        if of_peer.into_iter().all(|bit| left_out.has(bit)) {
            self.peer = None;
        }
    }

    /// All but the port, for which keys have a place among what is short.
    pub(super) fn hash_names<H: Hasher>(&self, state: &mut H) {
        match self.address {
            Some(Address::Name(name)) => state.write(name.as_bytes()),
            Some(Address::Ip(ip)) => ip.hash(state),
            None => {}
        }
        state.write(self.peer.map_or(&[], |peer| peer.name.as_bytes()));
    }

    pub(super) fn add_to(&self, list: &mut AttributeList) {
        match self.address {
            Some(Address::Name(name)) => list.push((key::SERVER_ADDRESS, text(name))),
            Some(Address::Ip(ip)) => list.push((key::SERVER_ADDRESS, text(&ip.to_string()))),
            None => {}
        }
        if let Some(port) = self.port {
            list.push((key::SERVER_PORT, Value::Int(i64::from(port))));
        }
        if let Some(peer) = self.peer {
            list.push((key::SERVICE_PEER_NAME, text(&peer.name)));
            list.push((key::SERVICE_PEER_NAMESPACE, text(&peer.namespace)));
        }
    }
}

/// A [`Server`] that stays.
#[derive(Debug)]
pub(super) struct OwnedServer {
    address: Option<OwnedAddress>,
    port: Option<u16>,
    peer: Option<Arc<Peer>>,
}

#[derive(Debug)]
enum OwnedAddress {
    Name(Box<str>),
    Ip(IpAddr),
}

impl OwnedServer {
    pub(super) fn of(server: &Server<'_>) -> Self {
        let address = server.address.map(|address| match address {
            Address::Name(name) => OwnedAddress::Name(name.into()),
            Address::Ip(ip) => OwnedAddress::Ip(ip),
        });
        Self { address, port: server.port, peer: server.peer.map(Arc::clone) }
    }

    #[inline]
    pub(super) fn borrow(&self) -> Server<'_> {
        let address = self.address.as_ref().map(|address| match address {
            OwnedAddress::Name(name) => Address::Name(name),
            OwnedAddress::Ip(ip) => Address::Ip(*ip),
        });
        Server { address, port: self.port, peer: self.peer.as_ref() }
    }
}
