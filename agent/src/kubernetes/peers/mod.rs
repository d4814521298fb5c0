//! Whom clients talk to: the Services and pods of the whole cluster by their addresses.
//!
//! [`watch`] follows them, as objects of a few dozen bytes ([`slim`]), and keeps [`Peers`], which the worker asks when a
//! client's exchange has ended. It asks the store itself instead of being told, because most of what
//! happens in a cluster concerns no node in particular: an idle worker is not woken by it, and what is known
//! to be deleted names nothing from that moment on. The lock is held for one look or one change.

#[cfg(feature = "kubernetes")]
pub mod slim;
pub mod store;
#[cfg(feature = "kubernetes")]
pub mod watch;

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

pub use self::store::{Addresses, Kind, Seen, Store};
use crate::{clock::mono_ns, span::Peer};

/// How many are known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub services: usize,
    pub pods: usize,
    /// Different names.
    pub names: usize,
    /// What it all takes.
    pub bytes: usize,
    /// Why some are not followed now; of each kind that is so.
    pub away: Vec<Box<str>>,
    /// Kinds that were never listed.
    pub unlisted: Vec<&'static str>,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Peers(Arc<Mutex<Store>>);

impl Peers {
    fn store(&self) -> MutexGuard<'_, Store> {
        // A panic in between may have left an address without a name, no more.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who had the address when an exchange began, as far as it is known.
    #[must_use]
    pub fn find(&self, address: IpAddr, start_mono_ns: u64) -> Option<Arc<Peer>> {
        self.store().find(address, start_mono_ns).map(Arc::clone)
    }

    /// Takes what is true of an object now.
    pub fn put(&self, kind: Kind, seen: &Seen) {
        self.store().put(kind, seen, mono_ns());
    }

    /// An object was deleted.
    pub fn remove(&self, kind: Kind, uid: &str) {
        self.store().remove(kind, uid, mono_ns());
    }

    /// All objects of a kind are going to be put.
    pub fn begin_list(&self, kind: Kind) {
        self.store().begin_list(kind);
    }

    /// They were; returns how many are known.
    pub fn end_list(&self, kind: Kind) -> usize {
        self.store().end_list(kind, mono_ns())
    }

    /// Objects of a kind are not followed, or are again.
    pub fn away(&self, kind: Kind, why: Option<&str>) {
        self.store().away(kind, why);
    }

    /// Objects of a kind that are known.
    #[must_use]
    pub fn len(&self, kind: Kind) -> usize {
        self.store().len(kind)
    }

    #[must_use]
    pub fn counts(&self) -> Counts {
        self.store().counts()
    }
}
