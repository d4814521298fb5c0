//! Claims about destinations as people write them in variables.

use super::*;

fn of_variables(env: &[(&str, &str)]) -> (Config, Vec<String>) {
    let loaded = load_with("", env, &Flags::default()).unwrap();
    (loaded.config, loaded.warnings.iter().map(ToString::to_string).collect())
}

#[test]
fn an_endpoint_with_a_query_is_used_as_it_is_and_shown_without() {
    let endpoint = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://h/p?token=s3cret");
    let (config, warnings) = of_variables(&[endpoint]);
    assert!(warnings.is_empty(), "{warnings:?}");
    assert_eq!(config.otlp().traces.unwrap().url.exact(), endpoint.1);
    let shown = describe::shown(&config, false).to_string();
    assert!(shown.contains("http://h/p?REDACTED") && !shown.contains("s3cret"), "{shown}");
    let (config, _) = of_variables(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://h/p?token=x")]);
    assert_eq!(config.otlp().metrics.unwrap().url.exact(), "http://h/p/v1/metrics?token=x");
}

#[test]
fn an_endpoint_without_a_scheme_is_one_warning_that_says_what_to_write() {
    let (config, warnings) = of_variables(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4317")]);
    assert_eq!(config.otlp(), Otlp::default());
    let expected = "OTEL_EXPORTER_OTLP_ENDPOINT: found `collector:4317`, expected its scheme too: \
                    http://collector:4317, or https://collector:4317 for TLS";
    assert_eq!(warnings, [expected]);
}

#[test]
fn a_header_that_cannot_be_sent_is_a_warning_and_leaves_the_others() {
    for wrong in ["bad name=s3cret", "x=s3cret%0A", "authorization: Bearer s3cret=", "s3cret"] {
        let env = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://h"),
            ("OTEL_EXPORTER_OTLP_HEADERS", &*format!("api-key=1, {wrong}, x-b=2")),
        ];
        let (config, warnings) = of_variables(&env);
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(config.otlp().traces.unwrap().headers, [pair("api-key", "1"), pair("x-b", "2")]);
        let [warning] = &*warnings else { panic!("{wrong}: {warnings:?}") };
        assert!(
            warning.starts_with("OTEL_EXPORTER_OTLP_HEADERS: found what cannot be "),
            "{warning}"
        );
        assert!(!warning.contains("s3cret"), "{warning}");
    }
}

#[test]
fn an_exporter_of_the_other_signal_is_a_mistake_and_switches_nothing() {
    let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://h");
    let (config, warnings) = of_variables(&[endpoint, ("OTEL_METRICS_EXPORTER", "console")]);
    let expected = "OTEL_METRICS_EXPORTER: found `console`, expected one of otlp, prometheus, none";
    assert_eq!(warnings, [expected]);
    assert!(!config.prints_spans() && config.otlp().metrics.is_some());
    let (config, warnings) = of_variables(&[endpoint, ("OTEL_TRACES_EXPORTER", "prometheus")]);
    let expected = "OTEL_TRACES_EXPORTER: found `prometheus`, expected one of otlp, console, none";
    assert_eq!(warnings, [expected]);
    assert!(config.otlp().traces.is_some() && config.output.prometheus.is_none());
    let wrong = load("traces: {exporters: [prometheus]}").unwrap_err().to_string();
    assert!(
        wrong.starts_with("remora.yaml:1:22: traces.exporters[0]: found `prometheus`"),
        "{wrong}"
    );
}

#[test]
fn a_list_of_metrics_exporters_decides_on_prometheus_and_a_flag_on_both() {
    let served = |text: &str, env: &[(&str, &str)], settings: &[(&'static str, &str)]| {
        load_with(text, env, &flags(settings)).unwrap().config.output.prometheus.is_some()
    };
    let address = "output: {prometheus: '127.0.0.1:1'}\n";
    let none = format!("{address}metrics: {{exporters: none}}\n");
    let other = format!("{address}metrics: {{exporters: [otlp]}}\n");
    let both = format!("{address}metrics: {{exporters: [otlp, prometheus]}}\n");
    assert!(served(address, &[], &[]) && served(&both, &[], &[]));
    assert!(!served(&none, &[], &[]) && !served(&other, &[], &[]));
    assert!(!served(address, &[("OTEL_METRICS_EXPORTER", "none")], &[]));
    assert!(served(&none, &[], &[("--prometheus", "127.0.0.1:1")]));
}

#[test]
fn prometheus_listens_where_its_variables_say() {
    let at = |host: &str| {
        let (config, warnings) = of_variables(&[
            ("OTEL_METRICS_EXPORTER", "prometheus"),
            ("OTEL_EXPORTER_PROMETHEUS_HOST", host),
        ]);
        assert!(warnings.is_empty(), "{warnings:?}");
        config.output.prometheus.unwrap().to_string()
    };
    assert_eq!(at(""), "127.0.0.1:9464", "localhost, by the specification");
    assert_eq!(at("::1"), "[::1]:9464");
    assert_eq!(at("0.0.0.0"), "0.0.0.0:9464");
    assert_eq!(at("::"), "[::]:9464");
}

#[test]
fn the_agents_own_service_name_comes_before_its_resource_attributes() {
    let resource = |env: &[(&str, &str)]| of_variables(env).0.resource;
    let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    let attributes = ("OTEL_RESOURCE_ATTRIBUTES", "service.name=low,team=x");
    assert_eq!(resource(&[attributes]), [pair("service.name", "low"), pair("team", "x")]);
    let name = ("OTEL_SERVICE_NAME", "high");
    assert_eq!(resource(&[name, attributes]), [pair("team", "x"), pair("service.name", "high")]);
    assert_eq!(resource(&[name]), [pair("service.name", "high")]);
}

#[test]
fn a_port_of_prometheus_that_is_none_is_named() {
    let env = [("OTEL_METRICS_EXPORTER", "prometheus"), ("OTEL_EXPORTER_PROMETHEUS_PORT", "http")];
    let (config, warnings) = of_variables(&env);
    assert_eq!(config.output.prometheus, None);
    let [warning] = &*warnings else { panic!("{warnings:?}") };
    assert!(
        warning.starts_with("OTEL_EXPORTER_PROMETHEUS_PORT: found `localhost:http`"),
        "{warning}"
    );
}
