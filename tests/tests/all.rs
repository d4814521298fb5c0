//! `--all`: services of many kinds that start at any time, before the agent and after it, none missed.
//! Only in a guest, where every program is the test's own.

use std::{collections::BTreeMap, thread, time::Duration};

use remora_tests::{
    address,
    agent::Agent,
    client::Connection,
    collector::{Collector, Protocol},
    random::Random,
    services::{Kind, Service},
    skip,
    spans::{CLIENT, SERVER, Span},
};

/// One and the same course every time.
const SEED: u64 = 20_261_121;

/// Each service starts at some time within this.
const BUSY: Duration = Duration::from_secs(8);

const REQUESTS: usize = 12;

/// How many there are of the kind that ends after one request.
const SHORT_LIVED: usize = 4;

/// How often each line occurs.
fn tally<T: Ord>(lines: impl Iterator<Item = T>) -> BTreeMap<T, usize> {
    let mut tally = BTreeMap::new();
    lines.for_each(|line| *tally.entry(line).or_default() += 1);
    tally
}

/// What a client had answered by a service: its name, the request and its status, the query.
type Answered = (String, String, String);

/// Starts a service some time later and asks it.
fn service(kind: Kind, mut random: Random) -> (Service, Vec<Answered>) {
    thread::sleep(random.within(BUSY));
    let service = Service::start(kind);
    let answered = ask(&service, random);
    (service, answered)
}

fn ask(service: &Service, mut random: Random) -> Vec<Answered> {
    service.enter();
    let pause = || thread::sleep(random.within(Duration::from_millis(200)));
    let answered = service.visit(REQUESTS, pause).into_iter();
    let name = service.kind.service();
    answered.map(|(line, query)| (name.to_owned(), line, query)).collect()
}

/// How many runs of programs the kernel left out, by the books.
fn runs_left_out(log: &str) -> u64 {
    let count = log.split_whitespace().find_map(|word| word.strip_prefix("missed="));
    count.map_or(0, |count| count.parse().unwrap())
}

#[test]
fn no_service_of_a_whole_machine_is_missed() {
    if skip::without_root() || skip::outside_a_guest() || skip::without(&Kind::NEEDS) {
        return;
    }
    let mut random = Random::new(SEED);
    let early = Service::start(Kind::Nginx);
    let collector = Collector::start(Protocol::HttpProtobuf);
    let metrics = address::listener().1;
    let mut flags = vec!["--all".to_owned(), "--prometheus".to_owned(), metrics.to_string()];
    flags.extend(collector.flags());
    let agent = Agent::start("run", &flags);

    let others = Kind::ALL.into_iter().filter(|kind| *kind != Kind::Nginx);
    let others = others.chain(vec![Kind::Once; SHORT_LIVED - 1]);
    let (services, answered): (Vec<Service>, Vec<Vec<Answered>>) = thread::scope(|scope| {
        let threads: Vec<_> = others
            .map(|kind| {
                let random = random.split();
                scope.spawn(move || service(kind, random))
            })
            .collect();
        let first = (random.split(), &early);
        let first = scope.spawn(move || ask(first.1, first.0));
        let mut all: Vec<_> = threads.into_iter().map(|one| one.join().unwrap()).collect();
        let (services, mut answered): (Vec<_>, Vec<_>) = all.drain(..).unzip();
        answered.push(first.join().unwrap());
        (services, answered)
    });
    // The agent is a server too, and a client of the collector.
    assert_eq!(Connection::to(metrics).unwrap().get("/metrics", "").unwrap().status, 200);
    services.into_iter().chain([early]).for_each(Service::end);
    let own = agent.pid();
    let done = agent.stop();

    let answered = tally(answered.concat().into_iter());
    let of_services =
        |span: &&Span| span.kind == SERVER && span.text("url.query").starts_with("at=");
    let seen = tally(
        done.spans
            .iter()
            .filter(of_services)
            .map(|span| (span.service.clone(), span.line(), span.text("url.query").to_owned())),
    );
    let unseen: Vec<_> = answered.iter().filter(|one| seen.get(one.0) != Some(one.1)).collect();
    let more: Vec<_> = seen.iter().filter(|one| answered.get(one.0) != Some(one.1)).collect();
    // A kernel that puts a thread off in the middle of a program leaves out the runs of others there, and
    // says how many. They may cost a request, which is in the books then, or a process that lives for a request its
    // name: one whose exec is not told of goes by what started it until the agent looks. Not a service.
    let left_out = runs_left_out(&done.log);
    let [.., lost] = done.requests();
    assert!(unseen.len() as u64 <= left_out, "not seen: {unseen:#?}\n{}", done.log);
    let is_of_once =
        |one: &Answered| answered.contains_key(&("once".to_owned(), one.1.clone(), one.2.clone()));
    let misnamed = more.iter().all(|(one, _)| is_of_once(one));
    assert!(more.len() as u64 <= left_out && misnamed, "nobody asked for: {more:#?}\n{}", done.log);
    assert!(lost <= left_out, "{}", done.log);
    let services = tally(done.spans.iter().filter(of_services).map(|span| &*span.service));
    for kind in Kind::ALL {
        assert!(services.contains_key(kind.service()), "{kind:?} is missed:\n{}", done.log);
    }
    let asked = |span: &&Span| span.kind == CLIENT && span.text("url.full").contains("/metrics");
    assert_eq!(done.spans.iter().filter(asked).count(), 1, "the scrape is seen where it came from");
    let selves: Vec<&Span> = done.spans.iter().filter(|span| span.pid == i64::from(own)).collect();
    assert!(selves.is_empty(), "the agent watches itself: {selves:?}");
    println!("seen, by service: {services:?}; runs left out by the kernel: {left_out}");
}
