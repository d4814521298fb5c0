//! The agent's own metrics, under its own resource: the books, the queues, and what it costs.

mod tail;

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use super::books::Books;
use crate::{
    accounting::Lost,
    attribute::Value,
    bpf::KernelUsage,
    discover::{Host, instance_uuid},
    export::stats::LaneStats,
    kubernetes::peers::Counts,
    metrics_data::{
        Attributes, Data, Metric, MetricBatch, Number, NumberPoint, Point, Temporality,
    },
    resource::Resource,
};

/// Makes batches of what the agent knows of itself.
pub(super) struct Telemetry {
    resource: Arc<Resource>,
    start_unix_ns: u64,
}

/// What is looked at besides the books.
pub(super) struct Observed<'a> {
    pub(super) lanes: &'a [LaneStats],
    /// Selected processes, and connections that are followed.
    pub(super) processes: usize,
    pub(super) connections: usize,
    /// Most bytes that waited in the ring since the last time.
    pub(super) ring_peak: u64,
    /// Processes by TLS library that is not seen.
    pub(super) blind_spots: BTreeMap<&'static str, u64>,
    /// Processes of which nothing is seen.
    pub(super) unseen: usize,
    pub(super) peers: Option<Counts>,
}

/// One value with its attributes.
type Row = (Vec<(&'static str, Value)>, Number);

impl Telemetry {
    pub(super) fn new(host: &Host, start_unix_ns: u64) -> Self {
        let pid = std::process::id();
        let instance = format!("{}/{pid}/{start_unix_ns}", host.boot_id);
        let own: [(Box<str>, Value); 4] = [
            ("service.name".into(), "remora".into()),
            ("service.version".into(), env!("CARGO_PKG_VERSION").into()),
            ("service.instance.id".into(), instance_uuid(&instance).into()),
            ("process.pid".into(), i64::from(pid).into()),
        ];
        // Where it runs is said of the agent, too: its environment, its cluster.
        let said = host.agent_attributes.iter().cloned();
        let resource = Resource::new(own.into_iter().chain(said).chain(host.attributes.clone()));
        Self { resource: Arc::new(resource), start_unix_ns }
    }

    /// Everything as it is now.
    pub(super) fn collect(
        &self,
        now_unix_ns: u64,
        books: &Books,
        observed: &Observed<'_>,
    ) -> MetricBatch {
        let Observed { lanes, processes, connections, ring_peak, blind_spots, unseen, peers } =
            observed;
        let stats = &books.assembled;
        let sum = |name, unit, description, rows: Vec<Row>| {
            self.sum(now_unix_ns, name, unit, description, rows)
        };
        let gauge =
            |name: &'static str, unit: &'static str, description: &'static str, rows: Vec<Row>| {
                let data = Data::Gauge { points: points(rows, 0, now_unix_ns) };
                metric(name, unit, description, data)
            };
        let reason = |name: &str, count: u64| labelled("reason", name, int(count));
        let plain = |count: u64| vec![(vec![], int(count))];
        let lane_rows = |value: fn(&LaneStats) -> u64| -> Vec<Row> {
            lanes.iter().map(|lane| (lane_attributes(lane), int(value(lane)))).collect()
        };
        let mut metrics = vec![
            sum("remora.records", "{record}", "Records read from the kernel", plain(books.records)),
            sum(
                "remora.records.ignored",
                "{record}",
                "Records read that took no part in an exchange",
                books.ignored().map(|(name, count)| reason(name, count)).collect(),
            ),
            sum(
                "remora.kernel.drops",
                "{drop}",
                "What the kernel side gave up on",
                books.drops.iter().map(|(name, count)| reason(name, *count)).collect(),
            ),
            sum("remora.traffic", "By", "Application bytes seen", plain(stats.bytes)),
            sum(
                "remora.traffic.captured",
                "By",
                "Application bytes copied",
                plain(stats.bytes_captured),
            ),
            sum(
                "remora.traffic.missed",
                "By",
                "Application bytes that moved while records were lost",
                plain(stats.gap_bytes),
            ),
            sum(
                "remora.exchanges",
                "{exchange}",
                "Exchanges that became spans",
                plain(books.counts.spans),
            ),
            sum(
                "remora.exchanges.sampled_out",
                "{exchange}",
                "Exchanges that sampling left out",
                tail::sampled_out(books),
            ),
            sum(
                "remora.exchanges.filtered",
                "{exchange}",
                "Exchanges that filters left out of a signal",
                vec![
                    labelled("signal", "traces", int(books.counts.filtered)),
                    labelled("signal", "metrics", int(books.counts.unmeasured)),
                ],
            ),
            sum(
                "remora.exchanges.lost",
                "{exchange}",
                "Exchanges that did not become spans",
                Lost::ALL
                    .iter()
                    .map(|&lost| reason(lost.as_str(), books.counts.lost(lost)))
                    .collect(),
            ),
            sum(
                "remora.left_out",
                "{item}",
                "What was forgotten, cut or not measured to keep within bounds",
                books.left_out().map(|(name, count)| reason(name, count)).into(),
            ),
            sum(
                "remora.export.accepted",
                "{item}",
                "Spans and points to export",
                lane_rows(|l| l.accepted),
            ),
            sum(
                "remora.export.exported",
                "{item}",
                "Spans and points exported",
                lane_rows(|l| l.exported),
            ),
            sum(
                "remora.export.dropped",
                "{item}",
                "Spans and points dropped",
                lane_rows(|lane| lane.dropped.total()),
            ),
            sum(
                "remora.export.failed_attempts",
                "{attempt}",
                "Attempts that are repeated",
                lane_rows(|lane| lane.failed_attempts),
            ),
            gauge(
                "remora.export.queue.size",
                "By",
                "Encoded bytes that wait",
                lane_rows(|lane| lane.queued_bytes as u64),
            ),
            gauge("remora.processes", "{process}", "Selected processes", plain(*processes as u64)),
            gauge(
                "remora.connections",
                "{connection}",
                "Connections followed",
                plain(*connections as u64),
            ),
            gauge(
                "remora.tls.blind_spots",
                "{process}",
                "Selected processes whose TLS is not seen",
                blind_spots.iter().map(|(name, n)| labelled("library", name, int(*n))).collect(),
            ),
            gauge(
                "remora.processes.unseen",
                "{process}",
                "Selected processes of which nothing is seen",
                vec![labelled("reason", "32_bit", int(*unseen as u64))],
            ),
            gauge(
                "remora.kernel.ring.peak",
                "By",
                "Most bytes that waited in the ring at once since the last collection",
                plain(*ring_peak),
            ),
        ];
        if let Some(Counts { services, pods, bytes, .. }) = peers {
            let kinds = [("service", *services), ("pod", *pods)];
            let rows = kinds.map(|(kind, count)| labelled("kind", kind, int(count as u64)));
            let about = "Services and pods of the cluster whose addresses have names";
            metrics.push(gauge("remora.peers", "{object}", about, rows.into()));
            let about = "Memory of the names of addresses";
            metrics.push(gauge("remora.peers.memory", "By", about, plain(*bytes as u64)));
        }
        metrics.extend(books.tail.iter().flat_map(|tail| self.tail(now_unix_ns, tail)));
        metrics.extend(self.kernel(now_unix_ns, &books.kernel));
        if let Ok(usage) = procfs::process::Process::myself().and_then(|process| process.stat()) {
            let ticks = procfs::ticks_per_second() as f64;
            let seconds = |ticks_used: u64| Number::Double(ticks_used as f64 / ticks);
            let mode = |name: &str| vec![("cpu.mode", Value::from(name))];
            let rows =
                vec![(mode("user"), seconds(usage.utime)), (mode("system"), seconds(usage.stime))];
            metrics.push(sum("process.cpu.time", "s", "CPU time of the agent", rows));
            let resident = usage.rss * procfs::page_size();
            // An UpDownCounter (semantic conventions, "Process metrics").
            let points = points(plain(resident), self.start_unix_ns, now_unix_ns);
            let temporality = Temporality::Cumulative;
            let data = Data::Sum { points, temporality, monotonic: false };
            metrics.push(metric(
                "process.memory.usage",
                "By",
                "Resident memory of the agent",
                data,
            ));
        }
        metrics.retain(|metric| !metric.data.is_empty());
        MetricBatch { resource: Arc::clone(&self.resource), metrics }
    }

    /// Memory and fill of the maps; runs and run time of the programs, where the kernel measures them.
    fn kernel(&self, now_unix_ns: u64, kernel: &KernelUsage) -> [Metric; 5] {
        let KernelUsage { maps, programs } = kernel;
        let gauge = |name, unit, description, rows| {
            let data = Data::Gauge { points: points(rows, 0, now_unix_ns) };
            metric(name, unit, description, data)
        };
        let map = |name: &str, value| labelled("map", name, value);
        let filled = maps.iter().filter_map(|map| Some((map.name.as_str(), map.fill?)));
        let measured = || programs.iter().filter(|program| program.runs > 0);
        [
            gauge(
                "remora.kernel.map.memory",
                "By",
                "Memory of the maps",
                maps.iter().map(|m| map(&m.name, int(m.bytes))).collect(),
            ),
            gauge(
                "remora.kernel.map.entries",
                "{entry}",
                "Entries in use",
                filled.clone().map(|(name, (used, _))| map(name, int(used))).collect(),
            ),
            gauge(
                "remora.kernel.map.max_entries",
                "{entry}",
                "Entries that there can be",
                filled.map(|(name, (_, most))| map(name, int(most))).collect(),
            ),
            self.sum(
                now_unix_ns,
                "remora.kernel.program.runs",
                "{run}",
                "Runs of the programs, while the kernel measures them",
                measured().map(|p| labelled("program", &p.name, int(p.runs))).collect(),
            ),
            self.sum(
                now_unix_ns,
                "remora.kernel.program.run_time",
                "s",
                "Time that those runs took",
                measured()
                    .map(|p| labelled("program", &p.name, Number::Double(p.run_time.as_secs_f64())))
                    .collect(),
            ),
        ]
    }

    fn sum(
        &self,
        now_unix_ns: u64,
        name: &'static str,
        unit: &'static str,
        description: &'static str,
        rows: Vec<Row>,
    ) -> Metric {
        let points = points(rows, self.start_unix_ns, now_unix_ns);
        let data = Data::Sum { points, temporality: Temporality::Cumulative, monotonic: true };
        metric(name, unit, description, data)
    }
}

fn metric(name: &'static str, unit: &'static str, description: &'static str, data: Data) -> Metric {
    let (name, unit) = (Cow::Borrowed(name), Cow::Borrowed(unit));
    Metric { name, unit, description: Cow::Borrowed(description), data }
}

fn labelled(key: &'static str, value: &str, number: Number) -> Row {
    (vec![(key, Value::from(value))], number)
}

fn points(rows: Vec<Row>, start_unix_ns: u64, time_unix_ns: u64) -> Vec<NumberPoint> {
    let point = |(attributes, value): Row| NumberPoint {
        point: Point {
            attributes: attributes.into_iter().collect::<Attributes>(),
            start_unix_ns,
            time_unix_ns,
            exemplars: Vec::new(),
        },
        value,
    };
    rows.into_iter().map(point).collect()
}

fn int(count: u64) -> Number {
    Number::Int(i64::try_from(count).unwrap_or(i64::MAX))
}

fn lane_attributes(lane: &LaneStats) -> Vec<(&'static str, Value)> {
    vec![
        ("signal", Value::from(lane.signal.as_str())),
        ("destination", Value::from(lane.destination.as_str())),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_of_the_agent_is_a_sum_that_falls_too() {
        let observed = Observed {
            lanes: &[],
            processes: 0,
            connections: 0,
            ring_peak: 0,
            blind_spots: BTreeMap::new(),
            unseen: 0,
            peers: None,
        };
        let telemetry = Telemetry { resource: Arc::default(), start_unix_ns: 1 };
        let batch = telemetry.collect(2, &Books::default(), &observed);
        let memory = batch.metrics.iter().find(|metric| metric.name == "process.memory.usage");
        let Data::Sum { monotonic, temporality, .. } = &memory.unwrap().data else {
            panic!("{memory:?}")
        };
        assert_eq!((*monotonic, *temporality), (false, Temporality::Cumulative));
    }
}
