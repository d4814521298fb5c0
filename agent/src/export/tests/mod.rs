//! The whole of export against collectors in process, over real sockets on loopback. In every test the
//! account closes: [`finish`] sees to it.

pub(crate) mod collector;
mod cost;
mod delivery;
mod file;
mod outage;
mod pki;
mod proxy;
pub(crate) mod sample;
mod tls;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use self::{collector::Script, sample::sample};
use super::{
    Exporter, Exporters,
    settings::{RetrySettings, Settings},
    stats::{DropReason, LaneStats},
};
use crate::{
    attribute::Value,
    config::{Config, Flags},
    resource::Resource,
};

/// Long enough for a loaded machine; nothing waits that long when it works.
const PATIENCE: Duration = Duration::from_secs(10);

/// Bytes of a queue, in [`settings`].
const QUEUE_BYTES: &str = "QUEUE_BYTES";

/// Settings by variables named without `OTEL_EXPORTER_OTLP_`, retrying fast.
fn settings(vars: &[(&str, &str)]) -> Settings {
    let env = |name: &str| {
        let short = name.strip_prefix("OTEL_EXPORTER_OTLP_").unwrap_or(name);
        vars.iter().find(|(key, _)| *key == short).map(|(_, value)| (*value).to_owned())
    };
    let loaded = Config::load(&Flags::default(), env, None).unwrap();
    let mut settings = Settings::of(&loaded.config).unwrap();
    // Smaller than a configuration may ask for.
    if let Some((_, bytes)) = vars.iter().find(|(key, _)| *key == QUEUE_BYTES) {
        settings.queue.max_bytes = bytes.parse().unwrap();
    }
    settings.retry =
        RetrySettings { initial: Duration::from_millis(20), max: Duration::from_millis(50) };
    settings
}

fn spawn(settings: &Settings) -> Exporter {
    Exporters::build(settings).unwrap().spawn()
}

fn resource(name: &str) -> Arc<Resource> {
    Arc::new(Resource::new([("service.name".into(), Value::from(name))]))
}

/// Exports spans named by `numbers`.
fn spans(exporter: &Exporter, numbers: impl IntoIterator<Item = usize>) {
    let resource = resource("shop");
    numbers.into_iter().for_each(|number| exporter.span(&sample(&number.to_string(), &resource)));
}

fn names(numbers: impl IntoIterator<Item = usize>) -> Vec<String> {
    numbers.into_iter().map(|number| number.to_string()).collect()
}

/// Waits until `done`, looking often.
async fn until(what: &str, done: impl Fn() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < PATIENCE, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// The first account, which in most tests is the only one with anything in it.
fn account(exporter: &Exporter) -> LaneStats {
    let stats = exporter.stats();
    assert!(stats.iter().all(LaneStats::balances), "{stats:?}");
    stats[0]
}

/// Shuts down; every account closes with nothing queued. Returns the first one.
async fn finish(exporter: Exporter, within: Duration) -> LaneStats {
    let stats = exporter.shutdown(within).await;
    for lane in &stats {
        assert!(lane.balances() && lane.queued == 0 && lane.queued_bytes == 0, "{lane:?}");
    }
    stats[0]
}

/// Shuts down; `exported` spans arrived and none was dropped.
async fn finish_clean(exporter: Exporter, script: &Script, exported: u64) -> LaneStats {
    let lane = finish(exporter, PATIENCE).await;
    assert_eq!((lane.exported, lane.dropped.total()), (exported, 0), "{lane:?}");
    assert_eq!(script.span_names().len() as u64, exported);
    lane
}

fn dropped(lane: &LaneStats, reason: DropReason) -> u64 {
    assert_eq!(
        lane.dropped.total(),
        lane.dropped.get(reason),
        "only {reason:?} expected: {lane:?}"
    );
    lane.dropped.get(reason)
}
