//! Settings by table: variables in, settings or mistakes out.

use super::*;

fn read(vars: &[(&str, &str)]) -> Result<Settings, Mistakes> {
    read_with(vars, &Overrides::default())
}

fn read_with(vars: &[(&str, &str)], flags: &Overrides) -> Result<Settings, Mistakes> {
    let env = |name: &str| {
        vars.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
    };
    Settings::read(&env, flags)
}

fn urls(vars: &[(&str, &str)]) -> (String, String) {
    let settings = read(vars).unwrap();
    let url =
        |otlp: Option<OtlpSettings>| otlp.map_or(String::new(), |otlp| otlp.endpoint.to_string());
    (url(settings.traces), url(settings.metrics))
}

const BASE: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
const TRACES: &str = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
const PROTOCOL: &str = "OTEL_EXPORTER_OTLP_PROTOCOL";

#[test]
fn nothing_is_sent_without_an_endpoint() {
    let settings = read(&[]).unwrap();
    assert!(settings.traces.is_none() && settings.metrics.is_none() && settings.file.is_none());
    assert_eq!(settings.batch.schedule_delay, Duration::from_secs(5));
    assert_eq!(settings.batch.max_batch_items, 512);
    assert_eq!(settings.queue.max_bytes, 16 << 20);
    assert_eq!(urls(&[(BASE, "")]), (String::new(), String::new()));
}

#[test]
fn endpoints_follow_the_specification() {
    for (vars, traces, metrics) in [
        (&[(BASE, "http://c:4318")][..], "http://c:4318/v1/traces", "http://c:4318/v1/metrics"),
        (&[(BASE, "https://c/otlp/")], "https://c/otlp/v1/traces", "https://c/otlp/v1/metrics"),
        (&[(BASE, "http://c?k=v")], "http://c/v1/traces?k=v", "http://c/v1/metrics?k=v"),
        (&[(TRACES, "http://t/x")], "http://t/x", ""),
        (&[(TRACES, "http://t")], "http://t/", ""),
        (&[(TRACES, "http://t/x"), (BASE, "http://c")], "http://t/x", "http://c/v1/metrics"),
        (&[(BASE, "http://c:4317"), (PROTOCOL, "grpc")], "http://c:4317/", "http://c:4317/"),
        (&[(BASE, "c:4317"), (PROTOCOL, "grpc")], "https://c:4317/", "https://c:4317/"),
        (
            &[(BASE, "c:4317"), (PROTOCOL, "grpc"), ("OTEL_EXPORTER_OTLP_TRACES_INSECURE", "true")],
            "http://c:4317/",
            "https://c:4317/",
        ),
        (&[("OTEL_TRACES_EXPORTER", "otlp")], "http://localhost:4318/v1/traces", ""),
        (
            &[("OTEL_METRICS_EXPORTER", "prometheus,otlp"), (PROTOCOL, "grpc")],
            "",
            "http://localhost:4317/",
        ),
        (&[(BASE, "http://c"), ("OTEL_METRICS_EXPORTER", "none")], "http://c/v1/traces", ""),
    ] {
        assert_eq!(urls(vars), (traces.into(), metrics.into()), "{vars:?}");
    }
}

#[test]
fn flags_win_over_the_environment_for_both_signals() {
    let flags = Overrides {
        endpoint: Some("http://flag:4317".into()),
        protocol: Some("grpc".into()),
        file: Some("-".into()),
        queue_bytes: Some(1000),
    };
    let vars = [
        (BASE, "http://c"),
        (TRACES, "http://t"),
        (PROTOCOL, "http/json"),
        ("OTEL_TRACES_EXPORTER", "none"),
    ];
    let settings = read_with(&vars, &flags).unwrap();
    for otlp in [settings.traces.unwrap(), settings.metrics.unwrap()] {
        assert_eq!(otlp.endpoint, "http://flag:4317/");
        assert_eq!(otlp.protocol, Protocol::Grpc);
    }
    assert_eq!(settings.file, Some(FileTarget::Stdout));
    assert_eq!(settings.queue.max_bytes, 1000);
}

#[test]
fn signal_variables_replace_general_ones() {
    let settings = read(&[
        (BASE, "http://c"),
        ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
        ("OTEL_EXPORTER_OTLP_METRICS_COMPRESSION", "zstd"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "2000"),
        ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "40000"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "api-key=general"),
        ("OTEL_EXPORTER_OTLP_METRICS_HEADERS", "other=own"),
    ])
    .unwrap();
    let (traces, metrics) = (settings.traces.unwrap(), settings.metrics.unwrap());
    assert_eq!((traces.protocol, metrics.protocol), (Protocol::HttpJson, Protocol::HttpProtobuf));
    assert_eq!((traces.compression, metrics.compression), (Compression::Gzip, Compression::Zstd));
    // OTEL_BSP_EXPORT_TIMEOUT's default is the upper bound
    assert_eq!((traces.timeout.as_secs(), metrics.timeout.as_secs()), (30, 2));
    assert_eq!(traces.headers["api-key"], "general");
    assert_eq!(
        (metrics.headers.len(), &metrics.headers["other"]),
        (1, &HeaderValue::from_static("own"))
    );
}

#[test]
fn headers_are_percent_decoded_and_kept_out_of_debug_output() {
    let vars = [
        (BASE, "http://c"),
        ("OTEL_EXPORTER_OTLP_HEADERS", " authorization = Basic%20c2VjcmV0%3D , X-Org=a=b,"),
    ];
    let traces = read(&vars).unwrap().traces.unwrap();
    assert_eq!(traces.headers["authorization"], "Basic c2VjcmV0=");
    assert_eq!(traces.headers["x-org"], "a=b");
    assert!(!format!("{traces:?}").contains("c2VjcmV0"));
}

#[test]
fn reports_every_mistake_at_once_and_no_secret() {
    let Mistakes(mistakes) = read(&[
        (BASE, "ftp://user:hunter2@c"),
        (PROTOCOL, "thrift"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "brotli"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "ok=1,hunter2,key=%zz"),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/nonexistent/ca.pem"),
        ("OTEL_EXPORTER_OTLP_METRICS_CLIENT_KEY", "/dev/null"),
        ("OTEL_EXPORTER_OTLP_INSECURE", "yes"),
        ("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "sometimes"),
        ("OTEL_BSP_SCHEDULE_DELAY", "-1"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "0"),
        ("REMORA_EXPORT_QUEUE_BYTES", "16M"),
    ])
    .unwrap_err();
    let text = Mistakes(mistakes.clone()).to_string();
    assert_eq!(text.lines().count(), mistakes.len());
    for expected in [
        "OTEL_EXPORTER_OTLP_ENDPOINT: found \"ftp://c\", expected http://HOST",
        "OTEL_EXPORTER_OTLP_PROTOCOL: found \"thrift\", expected grpc, http/protobuf or http/json",
        "OTEL_EXPORTER_OTLP_COMPRESSION: found \"brotli\", expected gzip, zstd or none",
        "OTEL_EXPORTER_OTLP_TIMEOUT: found \"10s\", expected milliseconds as a whole number, at least 1",
        "OTEL_EXPORTER_OTLP_HEADERS: found pair 2, expected key=value",
        "OTEL_EXPORTER_OTLP_HEADERS: found pair 3, expected '%' followed by",
        "OTEL_EXPORTER_OTLP_CERTIFICATE: found \"/nonexistent/ca.pem\" (No such file",
        "OTEL_EXPORTER_OTLP_METRICS_CLIENT_KEY: found \"/dev/null\", expected OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE with it",
        "OTEL_EXPORTER_OTLP_INSECURE: found \"yes\", expected true or false",
        "TEMPORALITY_PREFERENCE: found \"sometimes\", expected cumulative or delta or lowmemory",
        "OTEL_BSP_SCHEDULE_DELAY: found \"-1\"",
        "OTEL_BSP_MAX_QUEUE_SIZE: found \"0\"",
        "REMORA_EXPORT_QUEUE_BYTES: found \"16M\"",
    ] {
        assert_eq!(text.matches(expected).count(), 1, "{expected}\nin\n{text}");
    }
    assert_eq!(mistakes.len(), 13);
    assert!(!text.contains("hunter2"));
}

#[test]
fn rejects_a_path_for_grpc_and_a_batch_above_the_queue() {
    let error = read(&[
        (BASE, "http://c:4318/v1/traces"),
        (PROTOCOL, "grpc"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "100"),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "200"),
    ])
    .unwrap_err();
    let names: Vec<_> = error.0.iter().map(|mistake| &*mistake.name).collect();
    assert_eq!(names, [BASE, "OTEL_BSP_MAX_EXPORT_BATCH_SIZE"]);
}

#[test]
fn a_set_batch_size_is_never_exceeded() {
    let settings = read(&[("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "64")]).unwrap();
    assert!(!settings.batch.merge_backlog);
    assert!(read(&[]).unwrap().batch.merge_backlog);
    // a queue of fewer spans than the default batch lowers the batch
    assert_eq!(read(&[("OTEL_BSP_MAX_QUEUE_SIZE", "100")]).unwrap().batch.max_batch_items, 100);
}
