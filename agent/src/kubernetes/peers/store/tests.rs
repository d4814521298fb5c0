//! Who is named by an address, and when.

use super::*;

fn seen(uid: &str, name: &str, addresses: &[&str]) -> Seen {
    Seen {
        uid: uid.into(),
        peer: Peer { name: name.into(), namespace: "shop".into(), is_pod: false },
        addresses: Addresses::of(addresses.iter().copied()),
        leaving: false,
    }
}

fn find(store: &Store, address: &str, start_ns: u64) -> String {
    let found = store.find(address.parse().unwrap(), start_ns);
    found.map_or_else(String::new, |peer| peer.name.to_string())
}

#[test]
fn both_families_have_the_name_and_mapped_addresses_too() {
    let mut store = Store::default();
    store.put(Kind::Service, &seen("s", "web", &["10.96.0.7", "fd00::7"]), 1);
    for address in ["10.96.0.7", "fd00::7", "::ffff:10.96.0.7"] {
        assert_eq!(find(&store, address, 5), "web", "{address}");
    }
    assert_eq!(find(&store, "10.96.0.8", 5), "");
    store.remove(Kind::Service, "s", 9);
    assert_eq!((find(&store, "10.96.0.7", 9), find(&store, "fd00::7", 9)), ("".into(), "".into()));
}

#[test]
fn what_is_no_address_has_no_name() {
    for texts in [&["None"][..], &[""], &[], &["0.0.0.0"], &["example.com"]] {
        assert_eq!(Addresses::of(texts.iter().copied()), Addresses::NONE, "{texts:?}");
    }
    let mut store = Store::default();
    store.put(Kind::Service, &seen("headless", "db", &["None"]), 1);
    assert_eq!((store.len(Kind::Service), find(&store, "0.0.0.0", 1)), (0, String::new()));
    // A Service may become one.
    store.put(Kind::Service, &seen("s", "db", &["10.96.0.7"]), 2);
    store.put(Kind::Service, &seen("s", "db", &["None"]), 3);
    assert_eq!((store.len(Kind::Service), find(&store, "10.96.0.7", 3)), (0, String::new()));
}

#[test]
fn an_address_that_is_used_again_names_whoever_had_it_when_the_exchange_began() {
    let mut store = Store::default();
    store.put(Kind::Pod, &seen("a", "old", &["10.0.0.1"]), 10);
    store.remove(Kind::Pod, "a", 20);
    // Gone: what began before has its name still, what began after has none.
    assert_eq!(find(&store, "10.0.0.1", 19), "old");
    assert_eq!(find(&store, "10.0.0.1", 20), "");
    store.put(Kind::Pod, &seen("b", "new", &["10.0.0.1"]), 30);
    assert_eq!(find(&store, "10.0.0.1", 19), "old");
    // Nobody but the new one can have answered.
    assert_eq!(find(&store, "10.0.0.1", 25), "new");
    store.remove(Kind::Pod, "b", 40);
    store.put(Kind::Pod, &seen("c", "newest", &["10.0.0.1"]), 50);
    assert_eq!(find(&store, "10.0.0.1", 39), "new");
    assert_eq!(find(&store, "10.0.0.1", 45), "newest");
    // Two holders ago is not remembered, and nobody else's name is given.
    assert_eq!(find(&store, "10.0.0.1", 19), "");
}

#[test]
fn a_pod_that_goes_leaves_the_address_to_whoever_has_it_already() {
    let mut store = Store::default();
    let old = seen("a", "web", &["10.0.0.1"]);
    let leaving = Seen { leaving: true, ..old.clone() };
    store.put(Kind::Pod, &old, 10);
    // Told of before the old one's end, which may be told of several times.
    store.put(Kind::Pod, &seen("b", "mail", &["10.0.0.1"]), 20);
    store.put(Kind::Pod, &leaving, 21);
    store.put(Kind::Pod, &Seen { peer: seen("", "renamed", &[]).peer, ..old.clone() }, 22);
    assert_eq!(
        (find(&store, "10.0.0.1", 25), find(&store, "10.0.0.1", 15)),
        ("mail".into(), "web".into())
    );
    store.remove(Kind::Pod, "a", 30);
    assert_eq!(find(&store, "10.0.0.1", 35), "mail");
    // In a list, they come in any order.
    let mut store = Store::default();
    store.put(Kind::Pod, &seen("b", "mail", &["10.0.0.1"]), 10);
    store.put(Kind::Pod, &leaving, 11);
    assert_eq!(find(&store, "10.0.0.1", 12), "mail");
    store.remove(Kind::Pod, "b", 13);
    assert_eq!(find(&store, "10.0.0.1", 14), "");
}

#[test]
fn a_pod_of_the_same_workload_that_takes_the_address_keeps_it() {
    let mut store = Store::default();
    store.put(Kind::Pod, &seen("a", "web", &["10.0.0.1"]), 10);
    store.put(Kind::Pod, &seen("b", "web", &["10.0.0.1"]), 20);
    store.remove(Kind::Pod, "a", 30);
    assert_eq!((find(&store, "10.0.0.1", 31), store.len(Kind::Pod)), ("web".into(), 1));
}

#[test]
fn a_pod_with_a_new_address_gives_the_old_one_back() {
    let mut store = Store::default();
    store.put(Kind::Pod, &seen("a", "web", &["10.0.0.1", "fd00::1"]), 10);
    store.put(Kind::Pod, &seen("a", "web", &["10.0.0.2", "fd00::1"]), 20);
    let found = ["10.0.0.1", "10.0.0.2", "fd00::1"].map(|one| find(&store, one, 25));
    assert_eq!(found, ["", "web", "web"]);
    assert_eq!(find(&store, "10.0.0.1", 15), "web");
    store.put(Kind::Pod, &seen("a", "renamed", &["10.0.0.2", "fd00::1"]), 30);
    assert_eq!(find(&store, "10.0.0.2", 15), "renamed");
    assert_eq!(store.counts().names, 2, "the old name names who had the old address");
}

#[test]
fn what_is_not_listed_again_is_gone_and_only_that() {
    let mut store = Store::default();
    store.put(Kind::Service, &seen("s", "web", &["10.96.0.1"]), 1);
    for at in 0..100 {
        store.put(Kind::Pod, &seen(&format!("p{at}"), "web", &[&format!("10.0.0.{at}")]), 2);
    }
    assert_eq!(store.counts().unlisted, ["Services", "pods"]);
    store.begin_list(Kind::Pod);
    for at in (0..100).step_by(3) {
        store.put(Kind::Pod, &seen(&format!("p{at}"), "web", &[&format!("10.0.0.{at}")]), 3);
    }
    // One that was given the address of one that went.
    store.put(Kind::Pod, &seen("new", "mail", &["10.0.0.1"]), 3);
    assert_eq!(store.end_list(Kind::Pod, 4), 35);
    assert_eq!(store.counts().unlisted, ["Services"]);
    for at in 0..100 {
        let expected = match at {
            1 => "mail",
            at if at % 3 == 0 => "web",
            _ => "",
        };
        // The unspecified address is nobody's.
        assert_eq!(find(&store, &format!("10.0.0.{at}"), 5), expected, "{at}");
    }
    assert_eq!(find(&store, "10.96.0.1", 5), "web");
    store.begin_list(Kind::Pod);
    store.end_list(Kind::Pod, 6);
    let Counts { services, pods, .. } = store.counts();
    assert_eq!((services, pods), (1, 0));
}

#[test]
fn what_was_before_is_forgotten_after_ten_minutes_and_never_guessed() {
    let mut store = Store::default();
    store.put(Kind::Pod, &seen("a", "old", &["10.0.0.1"]), 10);
    store.remove(Kind::Pod, "a", 20);
    store.put(Kind::Pod, &seen("b", "new", &["10.0.0.1"]), 30);
    store.put(Kind::Pod, &seen("c", "other", &["10.0.0.2"]), 20 + REMEMBER_NS);
    assert_eq!(store.before.len(), 0);
    assert_eq!(
        (find(&store, "10.0.0.1", 15), find(&store, "10.0.0.1", 20)),
        ("".into(), "new".into())
    );
    assert_eq!(store.counts().names, 2);
    for at in 0..=REMEMBER as u32 {
        let address = Ipv4Addr::from_bits(0x0a01_0000 + at).to_string();
        store.put(Kind::Pod, &seen("d", "moving", &[&address]), 40 + REMEMBER_NS);
    }
    store.put(Kind::Pod, &seen("d", "moving", &["10.9.9.9"]), 41 + REMEMBER_NS);
    // One more may have come since it was looked at.
    assert!(store.before.len() <= REMEMBER + 1 && store.order.len() <= REMEMBER + 1);
}

#[test]
fn names_are_kept_while_somebody_has_them() {
    let mut store = Store::default();
    for at in 0..10_000_u32 {
        let address = Ipv4Addr::from_bits(0x0a00_0000 + at).to_string();
        store.put(Kind::Pod, &seen(&at.to_string(), &format!("n{}", at % 10), &[&address]), 1);
    }
    assert_eq!(store.counts().names, 10);
    let held = Arc::clone(store.find("10.0.0.3".parse().unwrap(), 1).unwrap());
    for at in 0..10_000 {
        store.remove(Kind::Pod, &at.to_string(), 2);
    }
    // Those who had addresses are remembered for a while.
    assert!(store.counts().names <= 10);
    store.put(Kind::Pod, &seen("last", "last", &["10.1.1.1"]), 3 + REMEMBER_NS);
    assert!(store.counts().names <= 2, "one that a span holds, and the new one");
    assert_eq!(&*held.name, "n3");
}

/// 150,000 pods of 20,000 workloads, and 10,000 Services.
#[test]
fn a_large_cluster_takes_some_megabytes() {
    const PODS: u32 = 150_000;
    const SERVICES: u32 = 10_000;
    for dual in [false, true] {
        let mut store = Store::default();
        let put = |store: &mut Store, kind, base: u32, at: u32, name: String| {
            let v4 = Ipv4Addr::from_bits(base + at).to_string();
            let v6 = Ipv6Addr::from_bits(0xfd << 120 | u128::from(base + at)).to_string();
            let both = [&*v4, &*v6];
            let uid = format!("{base:08x}-0000-4000-8000-{at:012x}");
            let shown = if dual { &both[..] } else { &both[..1] };
            store.put(kind, &seen(&uid, &name, shown), 1);
        };
        for kind in [Kind::Service, Kind::Pod] {
            store.begin_list(kind);
            let (count, base) = match kind {
                Kind::Service => (SERVICES, 0x0a60_0000),
                Kind::Pod => (PODS, 0x0a80_0000),
            };
            for at in 0..count {
                put(&mut store, kind, base, at, format!("a-service-of-ours-{}", at % 20_000));
            }
            store.end_list(kind, 2);
        }
        let Counts { services, pods, names, bytes, .. } = store.counts();
        assert_eq!((services, pods, names), (10_000, 150_000, 20_000));
        let each = bytes / (PODS + SERVICES) as usize;
        println!(
            "{pods} pods, {services} Services, dual stack {dual}: {bytes} bytes, {each} for each"
        );
        assert!(bytes < if dual { 20 << 20 } else { 16 << 20 }, "{bytes}");
        let begin = std::time::Instant::now();
        let found = (0..PODS).filter(|at| {
            let address = IpAddr::V4(Ipv4Addr::from_bits(0x0a80_0000 + at));
            store.find(address, 5).is_some()
        });
        assert_eq!(found.count(), PODS as usize);
        println!("{:?} for a look", begin.elapsed() / PODS);
    }
}
