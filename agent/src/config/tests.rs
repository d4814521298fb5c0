//! Claims about the whole of configuration: what wrong files say, and who overrides whom.

use std::{path::Path, time::Duration};

use super::*;
use crate::cli::{Flags, OutputArgs, SelectionArgs};

fn env_of(pairs: &[(&str, &str)]) -> impl Fn(&str) -> Option<String> {
    let pairs: Vec<_> = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    move |name| pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone())
}

fn load(text: &str) -> Result<Loaded, ConfigError> {
    load_with(text, &[], &Flags::default())
}

fn load_with(text: &str, env: &[(&str, &str)], flags: &Flags) -> Result<Loaded, ConfigError> {
    Config::load(flags, env_of(env), Some((Path::new("remora.yaml"), text)))
}

fn config(text: &str) -> Config {
    load(text).unwrap().config
}

/// A file and all that is wrong with it, `line:column: …`.
const WRONG: &[(&str, &[&str])] = &[
    ("a: [1, 2", &["1:4: not YAML: "]),
    ("just text", &["1:1: found `just text`, expected a mapping of settings"]),
    ("limit:\n  ring: 8MiB\n", &["1:1: limit: unknown setting, did you mean `limits`?"]),
    (
        "limits:\n  rings: 8MiB\n  databases: 3\n",
        &[
            "2:3: limits.rings: unknown setting, did you mean `ring`?",
            "3:3: limits.databases: unknown setting, expected one of queue, connections, ring",
        ],
    ),
    (
        "limits:\n  ring: 8MB\n",
        &["2:9: limits.ring: found `8MB`, expected a size such as 4096, 64KiB or 16MiB"],
    ),
    (
        "limits:\n  ring: 3MiB\n",
        &["2:9: limits.ring: found 3MiB, expected a power of two such as 2MiB or 4MiB"],
    ),
    ("limits:\n  connections: 1\n", &["2:16: limits.connections: found 1, expected 16 to 4194304"]),
    ("limits: 5\n", &["1:9: limits: found `5`, expected a mapping of settings"]),
    (
        "limits:\n  queue: [1]\n",
        &["2:10: limits.queue: found a list of 1, expected a size such as 4096, 64KiB or 16MiB"],
    ),
    ("limits:\n  queue:\n", &["limits.queue: found nothing, expected a size such as"]),
    (
        "selectors:\n  - name: shop\n",
        &[
            "2:5: selectors[0]: found no criterion, expected at least one of exe, cmd, port, pid, cgroup, all",
        ],
    ),
    (
        "selectors:\n  - exe: /srv/[a\n    port: 80-http\n",
        &[
            "2:10: selectors[0].exe: found `/srv/[a`, expected a glob such as /srv/*/shop: ",
            "3:11: selectors[0].port: found `80-http`, expected ports and ranges such as 80,8000-8099 (1 to 65535)",
        ],
    ),
    (
        "selectors:\n  - pid: [12, minus]\n    exclude:\n      - exes: x\n",
        &[
            "2:15: selectors[0].pid[1]: found `minus`, expected a whole number up to 4294967295",
            "4:9: selectors[0].exclude[0].exes: unknown setting, did you mean `exe`?",
        ],
    ),
    (
        "selectors:\n  - all: maybe\n",
        &["2:10: selectors[0].all: found `maybe`, expected true or false"],
    ),
    (
        "routes:\n  patterns: [users, '/a/{id']\n  mode: pattern\n",
        &[
            "2:14: routes.patterns[0]: found `users`, expected a route that begins with /",
            "2:21: routes.patterns[1]: found `/a/{id`, expected every { closed by a } in the same segment",
            "3:9: routes.mode: found `pattern`, expected one of heuristic, patterns, off (did you mean patterns?)",
        ],
    ),
    (
        "metrics:\n  interval: 10\n  histogram: exp\n",
        &[
            "2:13: metrics.interval: found `10`, expected a time such as 500ms, 10s or 5m",
            "3:14: metrics.histogram: found `exp`, expected one of explicit, exponential",
        ],
    ),
    (
        "metrics:\n  interval: 1ms\n",
        &["2:13: metrics.interval: found 1ms, expected 100ms to 86400s"],
    ),
    (
        "traces:\n  sampler: traceidratio\n  ratio: 1.5\n",
        &["3:10: traces.ratio: found 1.5, expected 0 to 1"],
    ),
    (
        "capture:\n  max_head: 2MiB\n",
        &["2:13: capture.max_head: found 2MiB, expected 1KiB to 1MiB"],
    ),
    (
        "output:\n  otlp:\n    endpoint: localhost:4317\n    protocol: http\n    headers: token\n",
        &[
            "3:15: output.otlp.endpoint: found `localhost:4317`, expected a URL such as http://localhost:4317",
            "4:15: output.otlp.protocol: found `http`, expected one of grpc, http/protobuf, http/json",
            "5:14: output.otlp.headers: found `token`, expected a mapping of settings",
        ],
    ),
    (
        "output:\n  otlp:\n    endpoint: https://h\n    client_key: k.pem\n",
        &["4:17: output.otlp.client_key: found without client_certificate, expected both"],
    ),
    (
        "output:\n  prometheus: 9464\n  print: yes please\n",
        &[
            "2:15: output.prometheus: found `9464`, expected an address and a port such as 127.0.0.1:9464",
            "3:10: output.print: found `yes please`, expected one of spans, none",
        ],
    ),
    (
        "output: {otlp_file: '-', print: spans}\n",
        &[
            "1:21: output.otlp_file: found `-` while spans are printed there, expected a file or print: none",
        ],
    ),
    (
        "log_level: remora=loud\n",
        &["1:12: log_level: found `remora=loud`, expected a level such as debug"],
    ),
    (
        "kernel:\n  door: fexitt\n",
        &[
            "2:9: kernel.door: found `fexitt`, expected one of auto, socket, fexit, tp-btf, raw-tp, tracepoint (did you mean fexit?)",
        ],
    ),
];

#[test]
fn wrong_files_name_every_mistake_with_its_place() {
    for (text, expected) in WRONG {
        let ConfigError(problems) = load(text).expect_err(text);
        let found: Vec<String> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(found.len(), expected.len(), "{text}\n{found:#?}");
        for (found, expected) in found.iter().zip(*expected) {
            let rest = found.strip_prefix("remora.yaml:").unwrap_or(found);
            let rest = if expected.starts_with(|c: char| c.is_ascii_digit()) {
                rest
            } else {
                rest.splitn(3, ':').nth(2).unwrap_or_default().trim_start()
            };
            assert!(rest.starts_with(expected), "{text}\nfound    {rest}\nexpected {expected}");
        }
    }
}

#[test]
fn an_empty_file_is_the_defaults() {
    for text in ["", "# nothing yet\n", "limits:\nselectors: []\n"] {
        assert_eq!(config(text), Config::default(), "{text:?}");
    }
}

#[test]
fn the_sample_file_is_right() {
    let config = config(include_str!("../../../deploy/remora.yaml"));
    assert_eq!(config.selection.selectors[0].criteria.ports.to_string(), "80,443,8000-8999");
    assert_eq!(config.selection.exclude.len(), 1);
    assert_eq!(config.output.otlp.traces.unwrap().url.as_str(), "http://127.0.0.1:4317");
}

#[test]
fn a_full_file_sets_everything() {
    let config = config(FULL);
    let [shop, db] = &*config.selection.selectors else { panic!("{:?}", config.selection) };
    assert_eq!(shop.name.as_deref(), Some("shop"));
    assert_eq!(shop.criteria.exe[0].to_string(), "/srv/shop/*");
    assert_eq!(shop.criteria.ports.to_string(), "8080,8443-8445");
    assert_eq!(shop.exclude[0].comm[0].to_string(), "backup");
    assert_eq!(db.criteria.pids, [4711]);
    assert_eq!(db.criteria.cgroups, [Path::new("/system.slice/db.service")]);
    assert_eq!(config.selection.exclude.len(), 1);
    assert_eq!(config.capture.max_head, Size::kib(32));
    assert_eq!((config.routes.mode, config.routes.max), (RouteMode::Patterns, 50));
    assert_eq!(config.redaction.query_keys, ["session"]);
    let traces = config.output.otlp.traces.as_ref().unwrap();
    assert_eq!(traces.url.as_str(), "https://otel:4318/v1/traces");
    assert_eq!(traces.headers, [("authorization".to_owned(), "Bearer x".to_owned())]);
    assert_eq!((traces.timeout, traces.compression), (Duration::from_secs(5), Compression::Zstd));
    let metrics = config.output.otlp.metrics.as_ref().unwrap();
    assert_eq!(metrics.url.as_str(), "http://prometheus:9090/api/v1/otlp");
    assert_eq!(config.output.otlp_file.as_deref(), Some(Path::new("spans.jsonl")));
    assert!(config.output.prints_spans());
    assert_eq!(config.output.prometheus, Some("127.0.0.1:9464".parse().unwrap()));
    assert_eq!(config.output.batch.delay, Duration::from_millis(200));
    assert_eq!((config.limits.queue, config.limits.ring), (Size::mib(64), Size::mib(4)));
    assert_eq!(config.metrics.histogram, Histogram::Exponential);
    assert_eq!(config.metrics.temporality, Temporality::Delta);
    assert_eq!(config.metrics.exemplars, Exemplars::AlwaysOff);
    assert_eq!(config.traces, Traces { sampler: Sampler::ParentBasedTraceIdRatio, ratio: 0.25 });
    assert_eq!(config.kernel.door, Door::Tracepoint);
    assert!(config.kernel.run_time);
    assert_eq!(config.resource, [("deployment.environment.name".to_owned(), "test".to_owned())]);
    assert_eq!(config.log_level, Some("debug".parse().unwrap()));
}

const FULL: &str = "
selectors:
  - name: shop
    exe: /srv/shop/*
    port: [8080, 8443-8445]
    exclude:
      - cmd: backup
  - pid: 4711
    cgroup: /system.slice/db.service
exclude:
  - exe: [curl, wget]
capture:
  max_head: 32KiB
routes:
  mode: patterns
  patterns: ['/users/{id}']
  max: 50
redaction:
  query_keys: [session]
output:
  otlp:
    endpoint: https://otel:4318
    protocol: http/protobuf
    headers: {authorization: Bearer x}
    timeout: 5s
    compression: zstd
    metrics:
      endpoint: http://prometheus:9090/api/v1/otlp
  otlp_file: spans.jsonl
  print: spans
  prometheus: :9464
  batch: {delay: 200ms, max_spans: 100}
limits: {queue: 64MiB, connections: 1000, ring: 4MiB}
metrics:
  histogram: exponential
  temporality: delta
  interval: 10s
  exemplars: always_off
  max_series: 100
  idle: 1m
traces: {sampler: parentbased_traceidratio, ratio: 0.25}
kernel: {door: tracepoint, run_time: true}
resource: {deployment.environment.name: test}
log_level: debug
";

#[test]
fn flags_override_environment_and_environment_overrides_the_file() {
    let file = "
output: {otlp: {endpoint: 'http://file', traces: {endpoint: 'http://file/t'}}}
traces: {sampler: always_off}
metrics: {interval: 10s}
";
    let env = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://env"),
        ("OTEL_TRACES_SAMPLER", "traceidratio"),
        ("OTEL_TRACES_SAMPLER_ARG", "0.5"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "20000"),
    ];
    let traces = |config: &Config| {
        config.output.otlp.traces.as_ref().map(|signal| signal.url.as_str().to_owned())
    };

    let found = load_with(file, &[], &Flags::default()).unwrap().config;
    assert_eq!(traces(&found).as_deref(), Some("http://file/t"));

    let found = load_with(file, &env, &Flags::default()).unwrap().config;
    assert_eq!(traces(&found).as_deref(), Some("http://env/v1/traces"));
    assert_eq!(found.traces, Traces { sampler: Sampler::TraceIdRatio, ratio: 0.5 });
    assert_eq!(found.metrics.interval, Duration::from_secs(20));

    let mut flags = Flags::default();
    flags.output.otlp_endpoint = Some("http://flag:4317".into());
    flags.traces.sampler = Some("always_on".into());
    let found = load_with(file, &env, &flags).unwrap().config;
    assert_eq!(traces(&found).as_deref(), Some("http://flag:4317"));
    assert_eq!(found.traces.sampler, Sampler::AlwaysOn);
}

#[test]
fn selection_flags_replace_the_files_selectors_and_exclusions_add_up() {
    let file = "selectors: [{exe: a}]\nexclude: [{exe: b}]\n";
    let selection = SelectionArgs {
        port: vec!["80".into()],
        pid: vec!["1, 2".into()],
        exclude: vec!["c".into()],
        service_name: Some("edge".into()),
        ..SelectionArgs::default()
    };
    let flags = Flags { selection, ..Flags::default() };
    let found = load_with(file, &[], &flags).unwrap().config.selection;
    assert_eq!(found.exclude.len(), 2);
    let pids: Vec<_> = found.selectors.iter().map(|s| s.criteria.pids.clone()).collect();
    assert_eq!(pids, [vec![1], vec![2], vec![]]);
    assert!(found.selectors.iter().all(|s| s.name.as_deref() == Some("edge")));
}

#[test]
fn mistakes_of_file_and_flags_come_in_one_report() {
    let mut flags = Flags { needs_selection: true, ..Flags::default() };
    flags.selection.port = vec!["http".into()];
    flags.output.prometheus = Some("x".into());
    let error = load_with("limits: {ring: 1}\n", &[], &flags).unwrap_err();
    let expected = "\
3 mistakes in the configuration
  remora.yaml:1:16: limits.ring: found 1, expected 64KiB to 1GiB
  --port: found `http`, expected ports and ranges such as 80,8000-8099 (1 to 65535)
  --prometheus: found `x`, expected an address and a port such as 127.0.0.1:9464";
    assert_eq!(error.to_string(), expected);
}

#[test]
fn run_without_selection_says_what_to_do() {
    let flags = Flags { needs_selection: true, ..Flags::default() };
    let error = load_with("", &[], &flags).unwrap_err().to_string();
    assert!(error.contains("--exe GLOB") && error.contains("--all"), "{error}");
    assert!(load_with("selectors: [{all: true}]", &[], &flags).is_ok());
}

#[test]
fn unusable_otel_variables_are_warnings() {
    let env = [
        ("OTEL_TRACES_SAMPLER", "jaeger_remote"),
        ("OTEL_TRACES_SAMPLER_ARG", "endpoint=http://x"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "1s"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "secret-token"),
        ("OTEL_RESOURCE_ATTRIBUTES", "a=%zz"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", ""),
    ];
    let loaded = load_with("", &env, &Flags::default()).unwrap();
    assert_eq!(loaded.config, Config::default());
    let warnings: Vec<_> = loaded.warnings.iter().map(ToString::to_string).collect();
    let found: Vec<_> = warnings.iter().filter_map(|text| text.split_once(':')).collect();
    let names: Vec<_> = found.iter().map(|(name, _)| *name).collect();
    let expected = [
        "OTEL_EXPORTER_OTLP_HEADERS",
        "OTEL_TRACES_SAMPLER",
        "OTEL_METRIC_EXPORT_INTERVAL",
        "OTEL_RESOURCE_ATTRIBUTES",
    ];
    assert_eq!(names, expected);
    assert!(!warnings[0].contains("secret"), "{}", warnings[0]);
}

#[test]
fn otel_variables_have_their_specified_meaning() {
    let env = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://h:4318"),
        ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "http://m/exact"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "api-key=a%20b,x=1"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "2500"),
        ("OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "gzip"),
        ("OTEL_METRICS_EXEMPLAR_FILTER", "always_on"),
        ("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "delta"),
        (
            "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION",
            "base2_exponential_bucket_histogram",
        ),
        ("OTEL_RESOURCE_ATTRIBUTES", "team=blue"),
        ("OTEL_BSP_SCHEDULE_DELAY", "100"),
    ];
    let loaded = load_with("resource: {team: red, zone: a}\n", &env, &Flags::default()).unwrap();
    assert_eq!(loaded.warnings, []);
    let config = loaded.config;
    let (traces, metrics) =
        (config.output.otlp.traces.unwrap(), config.output.otlp.metrics.unwrap());
    assert_eq!(traces.url.as_str(), "http://h:4318/v1/traces");
    assert_eq!(metrics.url.as_str(), "http://m/exact");
    assert_eq!(traces.headers[0], ("api-key".to_owned(), "a b".to_owned()));
    assert_eq!(traces.timeout, Duration::from_millis(2500));
    assert_eq!((traces.compression, metrics.compression), (Compression::Gzip, Compression::None));
    assert_eq!(config.metrics.exemplars, Exemplars::AlwaysOn);
    assert_eq!(config.metrics.temporality, Temporality::Delta);
    assert_eq!(config.metrics.histogram, Histogram::Exponential);
    let pairs: Vec<_> = config.resource.iter().map(|(k, v)| (&**k, &**v)).collect();
    assert_eq!(pairs, [("zone", "a"), ("team", "blue")]);
    assert_eq!(config.output.batch.delay, Duration::from_millis(100));
}

#[test]
fn spans_are_printed_when_nothing_else_was_chosen() {
    let prints = |env: &[(&str, &str)], output: OutputArgs| {
        let flags = Flags { output, ..Flags::default() };
        load_with("", env, &flags).unwrap().config.output.prints_spans()
    };
    let none = OutputArgs::default;
    assert!(prints(&[], none()));
    assert!(!prints(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://h")], none()));
    assert!(prints(&[("OTEL_TRACES_EXPORTER", "otlp,console")], none()));
    assert!(!prints(&[], OutputArgs { otlp_file: Some("f".into()), ..none() }));
    assert!(!prints(&[], OutputArgs { print: Some("none".into()), ..none() }));
    assert!(!prints(&[], OutputArgs { otlp_file: Some("-".into()), ..none() }));
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let flags = Flags { config_file: Some("/nonexistent/remora.yaml".into()), ..Flags::default() };
    let error = Config::load_here(&flags).unwrap_err().to_string();
    assert!(error.starts_with("/nonexistent/remora.yaml: configuration file cannot be read: "));
}
