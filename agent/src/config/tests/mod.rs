//! Claims about the whole of configuration: what wrong files say, and who overrides whom.

use std::{path::Path, time::Duration};

use super::*;
use crate::semantics::filter::{Signal, StatusRange};

mod described;
mod destinations;
mod precedence;
mod tail;
mod wrong;

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

/// Flags that set one key each.
fn flags(settings: &[(&'static str, &str)]) -> Flags {
    let settings = settings.iter().map(|(flag, text)| (*flag, (*text).to_owned()));
    Flags { settings: settings.collect(), ..Flags::default() }
}

fn config(text: &str) -> Config {
    load(text).unwrap().config
}

#[test]
fn an_empty_file_is_the_defaults() {
    for text in ["", "# nothing yet\n", "limits:\nselectors: []\n"] {
        assert_eq!(config(text), Config::default(), "{text:?}");
    }
}

#[test]
fn the_sample_file_is_right() {
    let config = config(include_str!("../../../../deploy/remora.yaml"));
    assert_eq!(config.selectors[0].takes.criteria.ports.to_string(), "80,443,8000-8999");
    assert_eq!(config.exclude.len(), 1);
    assert_eq!(config.otlp().traces.unwrap().url.as_str(), "http://127.0.0.1:4317");
}

#[test]
fn a_full_file_sets_everything() {
    let config = config(FULL);
    let [shop, db] = &*config.selectors else { panic!("{:?}", config.selectors) };
    assert_eq!(shop.takes.name.as_deref(), Some("shop"));
    assert_eq!(shop.takes.criteria.exe[0].to_string(), "/srv/shop/*");
    assert_eq!(shop.takes.criteria.ports.to_string(), "8080,8443-8445");
    assert_eq!(shop.takes.exclude[0].comm[0].to_string(), "backup");
    assert_eq!(shop.takes.namespace.as_deref(), Some("web"));
    assert_eq!(shop.takes.version.as_deref(), Some("1.2"));
    let own = &shop.filter.exclude.as_ref().unwrap()[0];
    assert_eq!((own.signal, own.paths[0].pattern.to_string()), (Signal::Traces, "/own".to_owned()));
    assert!(shop.filter.include.is_none() && db.filter.exclude.is_none());
    assert_eq!(shop.attributes.network_local, Some(true));
    assert_eq!(shop.attributes.metrics.exclude, Some(vec![]));
    let [health, probes] = &*config.filter.exclude else { panic!("{:?}", config.filter) };
    assert_eq!(health.paths.iter().map(|glob| glob.negated).collect::<Vec<_>>(), [false, true]);
    let of = |first, last, negated| StatusRange { first, last, negated };
    let statuses = [of(200, 299, false), of(204, 204, true), of(404, 404, false)];
    assert_eq!((&*health.statuses, health.signal), (&statuses[..], Signal::All));
    assert_eq!((probes.attributes.len(), probes.signal), (2, Signal::Metrics));
    assert_eq!(probes.attributes[1].1.pattern.to_string(), "8080");
    assert!(config.filter.include[0].methods[0].negated);
    assert_eq!(config.attributes.metrics.exclude[0].to_string(), "server.port");
    assert_eq!(db.takes.criteria.pids, [4711]);
    assert_eq!(db.takes.criteria.cgroups, [Path::new("/system.slice/db.service")]);
    assert_eq!(config.exclude.len(), 1);
    assert_eq!(config.capture.max_head, Size::kib(32));
    assert_eq!((config.routes.mode, config.routes.max), (route::Mode::Patterns, 50));
    assert_eq!(config.redaction.query_keys, ["session"]);
    let otlp = config.otlp();
    let traces = otlp.traces.as_ref().unwrap();
    assert_eq!(traces.url.as_str(), "https://otel:4318/v1/traces");
    assert_eq!(traces.headers, [("authorization".to_owned(), "Bearer x".to_owned())]);
    assert_eq!((traces.timeout, traces.compression), (Duration::from_secs(5), Compression::Zstd));
    let metrics = otlp.metrics.as_ref().unwrap();
    assert_eq!(metrics.url.as_str(), "http://prometheus:9090/api/v1/otlp");
    assert_eq!(config.output.otlp_file.as_deref(), Some(Path::new("spans.jsonl")));
    assert!(config.prints_spans());
    assert_eq!(config.output.prometheus, Some("[::]:9464".parse().unwrap()));
    assert_eq!(config.output.batch.delay, Duration::from_millis(200));
    assert_eq!((config.limits.queue, config.limits.ring), (Size::mib(64), Size::mib(4)));
    assert_eq!(config.metrics.histogram, HistogramKind::Exponential);
    assert_eq!(config.metrics.temporality, Temporality::Delta);
    assert_eq!(config.metrics.exemplars, ExemplarFilter::AlwaysOff);
    assert_eq!(config.traces.sampler, Sampler::ParentBasedTraceIdRatio);
    assert_eq!(config.traces.ratio, 0.25);
    assert_eq!(config.kernel.door, Doors::Only(Door::Tracepoint));
    assert!(config.kernel.run_time);
    assert_eq!(config.resource, [("deployment.environment.name".to_owned(), "test".to_owned())]);
    assert_eq!(config.listen, Some("127.0.0.1:9465".parse().unwrap()));
    assert!(config.tail_sampling.settings(config.limits.tail_sampling).is_some());
    assert_eq!(config.log_level, Some("debug".parse().unwrap()));
}

#[test]
fn a_file_refers_to_variables() {
    let text = "
output:
  otlp:
    endpoint: ${SCHEME:-https}://${HOST}
    headers: {authorization: 'Bearer ${env:TOKEN}', x-price: 5$$}
selectors:
  - port: ['${PORT}', 81]
limits:
  connections: ${COUNT}
resource: {'${HOST}': key}
";
    let env = [("HOST", "h:1"), ("TOKEN", "s3cret: {x}"), ("PORT", "80"), ("COUNT", "100")];
    let config = load_with(text, &env, &Flags::default()).unwrap().config;
    let traces = config.otlp().traces.unwrap();
    assert_eq!(traces.url.as_str(), "https://h:1/v1/traces");
    let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    let expected = [pair("authorization", "Bearer s3cret: {x}"), pair("x-price", "5$")];
    assert_eq!(config.resource, [pair("${HOST}", "key")]);
    assert_eq!(traces.headers, expected);
    assert_eq!(config.selectors[0].takes.criteria.ports.to_string(), "80,81");
    assert_eq!(config.limits.connections, 100);
}

#[test]
fn what_a_file_refers_to_in_vain_is_named_with_its_place_and_no_value_is_repeated() {
    let text = "
service_name: ${NAME}
output:
  otlp:
    headers: {authorization: 'Bearer ${TOKEN}'}
limits:
  connections: ${COUNT}
  queue: '${1X}'
";
    let wrong = load_with(text, &[("COUNT", "s3cret")], &Flags::default()).unwrap_err();
    let expected = "4 mistakes in the configuration
  remora.yaml:2:15: variable NAME is not set, expected it or a default: ${NAME:-default}
  remora.yaml:5:30: variable TOKEN is not set, expected it or a default: ${TOKEN:-default}
  remora.yaml:7:16: limits.connections: found what `${COUNT}` holds, expected a whole number up to 4294967295
  remora.yaml:8:10: found `${1X}`, expected ${NAME}, ${env:NAME} or ${NAME:-default}, or $$ for a $";
    assert_eq!(wrong.to_string(), expected);
}

const FULL: &str = "
selectors:
  - name: shop
    exe: /srv/shop/*
    port: [8080, 8443-8445]
    exclude:
      - cmd: backup
    traces: {sampler: traceidratio, ratio: 0.1}
    routes: {mode: patterns, patterns: '/cart/{id}'}
    headers: {request: [X-Tenant], response: []}
    namespace: web
    version: 1.2
    filter: {exclude: [{path: /own, signal: traces}]}
    attributes: {network_local: true, metrics: {include: user_agent.original, exclude: []}}
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
headers: {response: content-type}
filter:
  exclude:
    - path: [/healthz, '!/healthz/deep']
      status: [2xx, '!204', 404]
    - attributes: {user_agent.original: 'kube-probe/*', server.port: 8080}
      signal: metrics
  include: {method: '!OPTIONS', route: '/api/*'}
attributes:
  metrics: {exclude: server.port}
redaction:
  query_keys: [session]
  headers: x-internal
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
listen: localhost:9465
log_level: debug
tail_sampling:
  decision_wait: 5s
  policies: {name: errors, type: status_code, status_code: {status_codes: ERROR}}
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
    let traces = |config: &Config| config.otlp().traces.map(|signal| signal.url.exact().to_owned());

    let found = load_with(file, &[], &Flags::default()).unwrap().config;
    assert_eq!(traces(&found).as_deref(), Some("http://file/t"));

    let found = load_with(file, &env, &Flags::default()).unwrap().config;
    assert_eq!(traces(&found).as_deref(), Some("http://env/v1/traces"));
    assert_eq!((found.traces.sampler, found.traces.ratio), (Sampler::TraceIdRatio, 0.5));
    assert_eq!(found.metrics.interval, Duration::from_secs(20));

    let flags = flags(&[("--otlp-endpoint", "http://flag:4317"), ("--sampler", "always_on")]);
    let found = load_with(file, &env, &flags).unwrap().config;
    assert_eq!(traces(&found).as_deref(), Some("http://flag:4317"));
    assert_eq!(found.traces.sampler, Sampler::AlwaysOn);
}

#[test]
fn selection_flags_replace_the_files_selectors_and_exclusions_add_up() {
    let file = "selectors: [{exe: a}]\nexclude: [{exe: b}]\n";
    let selection = SelectionFlags {
        port: vec!["80".into()],
        pid: vec!["1, 2".into()],
        exclude: vec!["c".into()],
        ..SelectionFlags::default()
    };
    let flags = Flags { selection, ..flags(&[("--service-name", "edge")]) };
    let found = load_with(file, &[], &flags).unwrap().config;
    assert_eq!(found.exclude.len(), 2);
    let pids: Vec<_> = found.selectors.iter().map(|s| s.takes.criteria.pids.clone()).collect();
    assert_eq!(pids, [vec![1], vec![2], vec![]]);
    assert!(found.selectors.iter().all(|s| s.takes.name.as_deref() == Some("edge")));
}

#[test]
fn mistakes_of_file_and_flags_come_in_one_report() {
    let mut flags = Flags { needs_selection: true, ..flags(&[("--prometheus", "x")]) };
    flags.selection.port = vec!["http".into()];
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
        "OTEL_METRIC_EXPORT_INTERVAL",
        "OTEL_TRACES_SAMPLER",
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
    let otlp = config.otlp();
    let (traces, metrics) = (otlp.traces.unwrap(), otlp.metrics.unwrap());
    assert_eq!(traces.url.as_str(), "http://h:4318/v1/traces");
    assert_eq!(metrics.url.as_str(), "http://m/exact");
    assert_eq!(traces.headers[0], ("api-key".to_owned(), "a b".to_owned()));
    assert_eq!(traces.timeout, Duration::from_millis(2500));
    assert_eq!((traces.compression, metrics.compression), (Compression::Gzip, Compression::None));
    assert_eq!(config.metrics.exemplars, ExemplarFilter::AlwaysOn);
    assert_eq!(config.metrics.temporality, Temporality::Delta);
    assert_eq!(config.metrics.histogram, HistogramKind::Exponential);
    let pairs: Vec<_> = config.resource.iter().map(|(k, v)| (&**k, &**v)).collect();
    assert_eq!(pairs, [("zone", "a"), ("team", "blue")]);
    assert_eq!(config.output.batch.delay, Duration::from_millis(100));
}

#[test]
fn spans_are_printed_when_nothing_else_was_chosen() {
    let prints = |env: &[(&str, &str)], settings: &[(&'static str, &str)]| {
        load_with("", env, &flags(settings)).unwrap().config.prints_spans()
    };
    assert!(prints(&[], &[]));
    assert!(!prints(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://h")], &[]));
    assert!(prints(&[("OTEL_TRACES_EXPORTER", "otlp,console")], &[]));
    assert!(!prints(&[], &[("--otlp-file", "f")]));
    assert!(!prints(&[], &[("--print", "none")]));
    assert!(!prints(&[], &[("--otlp-file", "-")]));
}

#[test]
fn an_unknown_exporter_leaves_the_others() {
    let env = [("OTEL_TRACES_EXPORTER", "zipkin, otlp"), ("OTEL_METRICS_EXPORTER", "none")];
    let loaded = load_with("", &env, &Flags::default()).unwrap();
    let otlp = loaded.config.otlp();
    assert_eq!(otlp.traces.unwrap().url.as_str(), "http://localhost:4318/v1/traces");
    assert_eq!(otlp.metrics, None);
    let [warning] = &*loaded.warnings else { panic!("{:?}", loaded.warnings) };
    assert!(warning.to_string().starts_with("OTEL_TRACES_EXPORTER: found `zipkin`, expected"));
}

#[test]
fn prometheus_is_served_where_the_specification_has_it() {
    let of = |env: &[(&str, &str)]| {
        load_with("", env, &Flags::default()).unwrap().config.output.prometheus
    };
    let exporter = ("OTEL_METRICS_EXPORTER", "prometheus");
    assert_eq!(of(&[("OTEL_EXPORTER_PROMETHEUS_PORT", "9999")]), None);
    assert_eq!(of(&[exporter]), Some("127.0.0.1:9464".parse().unwrap()));
    let elsewhere = [
        exporter,
        ("OTEL_EXPORTER_PROMETHEUS_HOST", "::1"),
        ("OTEL_EXPORTER_PROMETHEUS_PORT", "1"),
    ];
    assert_eq!(of(&elsewhere), Some("[::1]:1".parse().unwrap()));
    let elsewhere = [exporter, ("OTEL_EXPORTER_PROMETHEUS_HOST", "[::1]")];
    assert_eq!(of(&elsewhere), Some("[::1]:9464".parse().unwrap()));
    let elsewhere = [exporter, ("OTEL_EXPORTER_PROMETHEUS_HOST", "0.0.0.0")];
    assert_eq!(of(&elsewhere), Some("0.0.0.0:9464".parse().unwrap()));
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let flags = Flags { config_file: Some("/nonexistent/remora.yaml".into()), ..Flags::default() };
    let error = Config::load_here(&flags).unwrap_err().to_string();
    assert!(error.starts_with("/nonexistent/remora.yaml: configuration file cannot be read: "));
}

#[test]
fn doors_are_called_as_in_logs() {
    for door in Door::ALL {
        let text = format!("kernel: {{door: {}}}\n", door.as_str());
        assert_eq!(config(&text).kernel.door, Doors::Only(door), "{text}");
    }
}

#[test]
fn lowmemory_is_delta_for_exchanges() {
    let found = config("metrics: {temporality: lowmemory}\n");
    assert_eq!(found.metrics.temporality, Temporality::Delta);
}
