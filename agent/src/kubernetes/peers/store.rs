//! Addresses and their names, for a whole cluster in some megabytes: an object is 40 bytes and an entry of four in
//! each index; names are shared.
//!
//! Addresses are used again. Who had one before is remembered for a while, so that an exchange gets the name
//! of whom it began with, or none: never that of a later holder, nor that of one that was known to be gone.

use std::{
    collections::VecDeque,
    hash::{BuildHasher, Hash},
    mem::size_of,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use foldhash::quality::RandomState;
use hashbrown::{HashMap, HashSet, HashTable};

use super::Counts;
use crate::span::Peer;

/// How long it is remembered who had an address before. An exchange that takes longer has no name.
const REMEMBER_NS: u64 = 600_000_000_000;
/// As many of them at most.
const REMEMBER: usize = 1 << 16;

/// What has addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    Service,
    Pod,
}

impl Kind {
    const ALL: [Self; 2] = [Self::Service, Self::Pod];

    /// For people.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Service => "Services",
            Self::Pod => "pods",
        }
    }
}

/// An object has at most one address of each family; unspecified: none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Addresses {
    v4: Ipv4Addr,
    v6: Ipv6Addr,
}

impl Addresses {
    pub const NONE: Self = Self { v4: Ipv4Addr::UNSPECIFIED, v6: Ipv6Addr::UNSPECIFIED };

    /// The first of each family. What is no address (`None`, empty) is none.
    pub fn of<'a>(texts: impl IntoIterator<Item = &'a str>) -> Self {
        let mut all = Self::NONE;
        for text in texts {
            match text.parse::<IpAddr>().map(|address| address.to_canonical()) {
                Ok(IpAddr::V4(address)) if all.v4.is_unspecified() => all.v4 = address,
                Ok(IpAddr::V6(address)) if all.v6.is_unspecified() => all.v6 = address,
                _ => {}
            }
        }
        all
    }

    fn iter(self) -> impl Iterator<Item = IpAddr> {
        let v4 = (!self.v4.is_unspecified()).then_some(IpAddr::V4(self.v4));
        let v6 = (!self.v6.is_unspecified()).then_some(IpAddr::V6(self.v6));
        v4.into_iter().chain(v6)
    }

    fn has(self, address: IpAddr) -> bool {
        self.iter().any(|one| one == address)
    }
}

/// What was told of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub uid: Box<str>,
    pub peer: Peer,
    pub addresses: Addresses,
    /// It is about to go: it may have lost its addresses already.
    pub leaving: bool,
}

/// An object with addresses.
#[derive(Debug)]
struct Slot {
    /// Hash of its uid: two of a million objects have the same with a probability of 10^-8.
    holder: u64,
    peer: Arc<Peer>,
    addresses: Addresses,
}

/// Who had an address, and since when, until when.
#[derive(Debug)]
struct Before {
    peer: Arc<Peer>,
    from_ns: u64,
    until_ns: u64,
}

/// Objects of one kind.
#[derive(Debug, Default)]
struct Objects {
    slots: Vec<Slot>,
    by_holder: HashTable<u32>,
    v4: HashTable<u32>,
    v6: HashTable<u32>,
    /// While they are listed: those that were.
    listed: Option<HashSet<u64>>,
    was_listed: bool,
    away: Option<Box<str>>,
    hasher: RandomState,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Store {
    services: Objects,
    pods: Objects,
    names: HashTable<Arc<Peer>>,
    /// Names in use when those that are not were last looked for.
    names_used: usize,
    before: HashMap<IpAddr, Before, RandomState>,
    /// What is in `before`, or was: until when, oldest first.
    order: VecDeque<(u64, IpAddr)>,
    /// What was before this is not remembered.
    forgotten_ns: u64,
    hasher: RandomState,
}

impl Store {
    /// Who had the address at `start_ns`, as far as it is known.
    #[must_use]
    pub fn find(&self, address: IpAddr, start_ns: u64) -> Option<&Arc<Peer>> {
        let address = address.to_canonical();
        if start_ns < self.forgotten_ns {
            return None;
        }
        if let Some(before) = self.before.get(&address)
            && start_ns < before.until_ns
        {
            return (start_ns >= before.from_ns).then_some(&before.peer);
        }
        let of_service = self.services.at(address);
        of_service.or_else(|| self.pods.at(address)).map(|slot| &slot.peer)
    }

    /// Takes what is true of an object now.
    pub fn put(&mut self, kind: Kind, seen: &Seen, now_ns: u64) {
        self.forget(now_ns);
        let holder = self.hasher.hash_one(&*seen.uid);
        if let Some(listed) = &mut self.objects(kind).listed {
            listed.insert(holder);
        }
        if seen.addresses == Addresses::NONE {
            return self.remove_holder(kind, holder, now_ns);
        }
        let found = self.position(kind, holder);
        let slot = found.map(|at| &self.objects_of(kind).slots[at as usize]);
        if slot.is_some_and(|slot| slot.addresses == seen.addresses && *slot.peer == seen.peer) {
            return;
        }
        let had = slot.map_or(Addresses::NONE, |slot| slot.addresses);
        let peer = self.name(&seen.peer);
        let at = match found {
            Some(at) => {
                for address in had.iter().filter(|one| !seen.addresses.has(*one)) {
                    self.release(kind, at, address, now_ns);
                }
                let slot = &mut self.objects(kind).slots[at as usize];
                slot.addresses = seen.addresses;
                let old = std::mem::replace(&mut slot.peer, peer);
                self.unname(old);
                at
            }
            None => self.insert(kind, Slot { holder, peer, addresses: seen.addresses }),
        };
        // What it has said before it does not take back from whoever has it since.
        for address in seen.addresses.iter().filter(|one| !had.has(*one)) {
            self.claim(kind, at, address, seen.leaving, now_ns);
        }
    }

    /// An object was deleted.
    pub fn remove(&mut self, kind: Kind, uid: &str, now_ns: u64) {
        self.forget(now_ns);
        let holder = self.hasher.hash_one(uid);
        self.remove_holder(kind, holder, now_ns);
    }

    /// All objects of a kind are going to be put.
    pub fn begin_list(&mut self, kind: Kind) {
        self.objects(kind).listed = Some(HashSet::new());
    }

    /// They were: others are gone. Returns how many there are.
    pub fn end_list(&mut self, kind: Kind, now_ns: u64) -> usize {
        self.forget(now_ns);
        let objects = self.objects(kind);
        objects.was_listed = true;
        if let Some(listed) = objects.listed.take() {
            let holders = objects.slots.iter().map(|slot| slot.holder);
            let gone: Vec<u64> = holders.filter(|holder| !listed.contains(holder)).collect();
            drop(listed);
            for holder in gone {
                self.remove_holder(kind, holder, now_ns);
            }
        }
        self.len(kind)
    }

    pub fn away(&mut self, kind: Kind, why: Option<&str>) {
        self.objects(kind).away = why.map(Into::into);
    }

    /// Objects of a kind.
    #[must_use]
    pub fn len(&self, kind: Kind) -> usize {
        self.objects_of(kind).slots.len()
    }

    #[must_use]
    pub fn counts(&self) -> Counts {
        let kinds = || Kind::ALL.into_iter().map(|kind| (kind, self.objects_of(kind)));
        let away = |(kind, objects): (Kind, &Objects)| {
            objects.away.as_ref().map(|why| format!("{}: {why}", kind.as_str()).into())
        };
        let unlisted =
            kinds().filter(|(_, objects)| !objects.was_listed).map(|(kind, _)| kind.as_str());
        Counts {
            services: self.len(Kind::Service),
            pods: self.len(Kind::Pod),
            names: self.names.len(),
            bytes: self.bytes(),
            unlisted: unlisted.collect(),
            away: kinds().filter_map(away).collect(),
        }
    }

    /// What it takes, without what allocators add.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let counts = 2 * size_of::<usize>();
        let name =
            |peer: &Arc<Peer>| counts + size_of::<Peer>() + peer.name.len() + peer.namespace.len();
        let before = size_of::<(IpAddr, Before)>() + size_of::<(u64, IpAddr)>();
        self.services.bytes()
            + self.pods.bytes()
            + self.names.allocation_size()
            + self.names.iter().map(name).sum::<usize>()
            + self.order.len() * before
    }

    fn objects(&mut self, kind: Kind) -> &mut Objects {
        match kind {
            Kind::Service => &mut self.services,
            Kind::Pod => &mut self.pods,
        }
    }

    fn objects_of(&self, kind: Kind) -> &Objects {
        match kind {
            Kind::Service => &self.services,
            Kind::Pod => &self.pods,
        }
    }

    fn position(&self, kind: Kind, holder: u64) -> Option<u32> {
        let Objects { by_holder, slots, .. } = self.objects_of(kind);
        by_holder.find(holder, |&at| slots[at as usize].holder == holder).copied()
    }

    /// The name as others have it, too.
    fn name(&mut self, peer: &Peer) -> Arc<Peer> {
        let Self { names, hasher, .. } = self;
        let hash = hasher.hash_one(peer);
        let entry = names.entry(hash, |one| **one == *peer, |one| hasher.hash_one(&**one));
        Arc::clone(entry.or_insert_with(|| Arc::new(peer.clone())).get())
    }

    /// Somebody does not use this name any more.
    fn unname(&mut self, peer: Arc<Peer>) {
        let Self { names, names_used, hasher, .. } = self;
        if Arc::strong_count(&peer) == 2
            && let Ok(entry) = names.find_entry(hasher.hash_one(&*peer), |one| *one == peer)
        {
            entry.remove();
        }
        drop(peer);
        // Those that spans held a moment longer.
        if names.len() > 2 * *names_used + 1024 {
            names.retain(|one| Arc::strong_count(one) > 1);
            *names_used = names.len();
        }
    }

    fn insert(&mut self, kind: Kind, slot: Slot) -> u32 {
        let Objects { slots, by_holder, .. } = self.objects(kind);
        let at = u32::try_from(slots.len()).expect("fewer than there are IPv4 addresses");
        if slots.len() == slots.capacity() {
            // Doubling would cost megabytes.
            slots.reserve_exact((slots.len() / 8).max(16));
        }
        by_holder.insert_unique(slot.holder, at, |&at| slots[at as usize].holder);
        slots.push(slot);
        at
    }

    /// The object has the address from now on, unless another has it and this one is about to go.
    fn claim(&mut self, kind: Kind, at: u32, address: IpAddr, leaving: bool, now_ns: u64) {
        let holds = self.holder_of(kind, address);
        match holds {
            Some(other) if other == at || leaving => return,
            Some(other) => self.release(kind, other, address, now_ns),
            None => {}
        }
        self.objects(kind).index(address, at);
    }

    fn holder_of(&self, kind: Kind, address: IpAddr) -> Option<u32> {
        self.objects_of(kind).position_at(address)
    }

    /// The object does not have the address any more.
    fn release(&mut self, kind: Kind, at: u32, address: IpAddr, now_ns: u64) {
        if self.holder_of(kind, address) != Some(at) {
            return;
        }
        let objects = self.objects(kind);
        objects.unindex(address, at);
        let peer = Arc::clone(&objects.slots[at as usize].peer);
        let from_ns = self.before.get(&address).map_or(0, |before| before.until_ns);
        self.order.push_back((now_ns, address));
        self.before.insert(address, Before { peer, from_ns, until_ns: now_ns });
    }

    fn remove_holder(&mut self, kind: Kind, holder: u64, now_ns: u64) {
        let Some(at) = self.position(kind, holder) else { return };
        for address in self.objects_of(kind).slots[at as usize].addresses.iter() {
            self.release(kind, at, address, now_ns);
        }
        let gone = self.objects(kind).take(at);
        self.unname(gone.peer);
    }

    /// Forgets who had addresses long ago.
    fn forget(&mut self, now_ns: u64) {
        while let Some(&(until_ns, address)) = self.order.front() {
            if now_ns.saturating_sub(until_ns) < REMEMBER_NS && self.order.len() <= REMEMBER {
                return;
            }
            self.order.pop_front();
            self.forgotten_ns = until_ns;
            if self.before.get(&address).is_some_and(|before| before.until_ns == until_ns)
                && let Some(before) = self.before.remove(&address)
            {
                self.unname(before.peer);
            }
        }
    }
}

impl Objects {
    fn at(&self, address: IpAddr) -> Option<&Slot> {
        self.position_at(address).map(|at| &self.slots[at as usize])
    }

    fn position_at(&self, address: IpAddr) -> Option<u32> {
        let Self { slots, v4, v6, hasher, .. } = self;
        let found = match address {
            IpAddr::V4(address) => {
                v4.find(hash(hasher, address), |&at| slots[at as usize].addresses.v4 == address)
            }
            IpAddr::V6(address) => {
                v6.find(hash(hasher, address), |&at| slots[at as usize].addresses.v6 == address)
            }
        };
        found.copied()
    }

    fn index(&mut self, address: IpAddr, at: u32) {
        let Self { slots, v4, v6, hasher, .. } = self;
        let of = |at: u32| slots[at as usize].addresses;
        match address {
            IpAddr::V4(address) => {
                v4.insert_unique(hash(hasher, address), at, |&at| hash(hasher, of(at).v4));
            }
            IpAddr::V6(address) => {
                v6.insert_unique(hash(hasher, address), at, |&at| hash(hasher, of(at).v6));
            }
        }
    }

    fn unindex(&mut self, address: IpAddr, at: u32) {
        let Self { v4, v6, hasher, .. } = self;
        let found = match address {
            IpAddr::V4(address) => v4.find_entry(hash(hasher, address), |&one| one == at),
            IpAddr::V6(address) => v6.find_entry(hash(hasher, address), |&one| one == at),
        };
        if let Ok(entry) = found {
            entry.remove();
        }
    }

    /// Takes an object out that has no address any more; the last one gets its place.
    fn take(&mut self, at: u32) -> Slot {
        let Self { slots, by_holder, v4, v6, hasher, .. } = self;
        let last = u32::try_from(slots.len() - 1).expect("no more than were inserted");
        let holder = slots[at as usize].holder;
        if let Ok(entry) = by_holder.find_entry(holder, |&one| one == at) {
            entry.remove();
        }
        if last != at {
            let Slot { holder, addresses, .. } = slots[last as usize];
            for (index, hash) in [
                (by_holder, holder),
                (v4, hash(hasher, addresses.v4)),
                (v6, hash(hasher, addresses.v6)),
            ] {
                if let Some(entry) = index.find_mut(hash, |&one| one == last) {
                    *entry = at;
                }
            }
        }
        slots.swap_remove(at as usize)
    }

    fn bytes(&self) -> usize {
        let Self { slots, by_holder, v4, v6, listed, .. } = self;
        let tables = [by_holder, v4, v6].map(HashTable::allocation_size).iter().sum::<usize>();
        let listed = listed.as_ref().map_or(0, HashSet::allocation_size);
        slots.capacity() * size_of::<Slot>() + tables + listed
    }
}

fn hash(hasher: &RandomState, address: impl Hash) -> u64 {
    hasher.hash_one(address)
}

#[cfg(test)]
mod tests;
