//! The demo's visitors: a bounded number of orders for a bounded time.
//!
//! `traffic ADDRESS SECONDS [REQUESTS_PER_SECOND]` asks for orders on two connections and prints
//! what came back, as the count to compare the agent's with.

mod http {
    pub(crate) mod client;
    pub(crate) mod message;
}

use std::{
    collections::BTreeMap,
    env,
    error::Error,
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

use http::client::Client;

const CONNECTIONS: u32 = 2;

fn main() -> Result<(), Box<dyn Error>> {
    const USAGE: &str = "usage: traffic ADDRESS SECONDS [REQUESTS_PER_SECOND]";
    let mut args = env::args().skip(1);
    let address: SocketAddr = args.next().ok_or(USAGE)?.parse()?;
    let seconds: u64 = args.next().ok_or(USAGE)?.parse()?;
    let rate: f64 = args.next().map_or(Ok(8.0), |rate| rate.parse())?;
    if !(rate > 0.0 && rate.is_finite()) {
        return Err(format!("REQUESTS_PER_SECOND is {rate}, expected more than 0").into());
    }

    let end = Instant::now() + Duration::from_secs(seconds);
    let pause = Duration::from_secs_f64(f64::from(CONNECTIONS) / rate);
    let visitors: Vec<_> = (0..CONNECTIONS)
        .map(|number| thread::spawn(move || visit(address, number, end, pause)))
        .collect();
    let mut outcomes: BTreeMap<String, u32> = BTreeMap::new();
    for visitor in visitors {
        for (outcome, count) in visitor.join().map_err(|_| "a visitor panicked")? {
            *outcomes.entry(outcome).or_default() += count;
        }
    }
    let total: u32 = outcomes.values().sum();
    let list: Vec<_> = outcomes.iter().map(|(what, count)| format!("{count} × {what}")).collect();
    println!("{total} requests: {}", list.join(", "));
    Ok(())
}

/// Asks for every `CONNECTIONS`-th order until `end`; returns how often each outcome was seen.
fn visit(address: SocketAddr, first: u32, end: Instant, pause: Duration) -> BTreeMap<String, u32> {
    let mut client = Client::new(address);
    let mut outcomes = BTreeMap::new();
    let mut order = first;
    while Instant::now() < end {
        let outcome = match client.send("GET", &format!("/orders/{order}"), "") {
            Ok((status, _)) => status.to_string(),
            Err(error) => error.to_string(),
        };
        *outcomes.entry(outcome).or_default() += 1;
        order += CONNECTIONS;
        thread::sleep(pause);
    }
    outcomes
}
