//! What a running agent takes anew from its configuration: all of it at once, between two records.

use std::{sync::mpsc, time::Duration};

use crate::{
    assemble::{KeptHeader, KeptHeaders},
    attribute::AttributeOptions,
    config::{self, Config, FieldName, Propagator},
    correlate::{
        policy::{HeaderKeys, Policies, Policy},
        sampler::Sampler,
    },
    discover::Selectors,
    protocol::http1::IDENTIFIERS,
    semantics::{chosen::MetricAttributes, filter::Filter, redact, route},
    tail,
    trace_context::Propagation,
};

/// Attributes of header fields are named so, with the field's name behind it. The constants of the
/// semantic conventions are without the dot.
const REQUEST: &str = "http.request.header.";
const RESPONSE: &str = "http.response.header.";

/// See the module.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) policies: Policies,
    /// Tail sampling, if there is some.
    pub(super) tail: Option<tail::Settings>,
    pub(super) headers: KeptHeaders,
    pub(super) max_head_len: usize,
    pub(super) metric_interval: Duration,
    redaction: config::Redaction,
}

/// An order to take it.
#[derive(Debug)]
pub(super) struct Reload {
    /// If they are others than before.
    pub(super) selectors: Option<Selectors>,
    pub(super) live: Live,
    /// Answered when it is in force.
    pub(super) done: mpsc::Sender<()>,
}

impl Live {
    pub(super) fn of(config: &Config) -> Self {
        let lists = |of: fn(&config::Headers) -> &Vec<FieldName>,
                     own: fn(&config::OwnHeaders) -> &Option<Vec<FieldName>>,
                     prefix: &str| {
            let mut names: Vec<&str> = of(&config.headers).iter().map(FieldName::as_str).collect();
            let owned =
                config.selectors.iter().filter_map(|selector| own(&selector.headers).as_ref());
            names.extend(owned.flatten().map(FieldName::as_str));
            names.sort_unstable();
            names.dedup();
            names.into_iter().map(|name| KeptHeader::new(prefix, name)).collect()
        };
        let asked: Vec<KeptHeader> = lists(|headers| &headers.request, |own| &own.request, REQUEST);
        let mut request = asked.clone();
        let identifiers = IDENTIFIERS.map(|name| KeptHeader::new(REQUEST, name));
        request.extend(identifiers.into_iter().filter(|identifier| !asked.contains(identifier)));
        let headers = KeptHeaders {
            request,
            asks_more: !asked.is_empty(),
            response: lists(|headers| &headers.response, |own| &own.response, RESPONSE),
            propagation: propagation(&config.propagation),
        };
        Self {
            policies: policies(config),
            tail: config.tail_sampling.settings(config.limits.tail_sampling),
            headers,
            max_head_len: usize::try_from(config.capture.max_head.0).unwrap_or(usize::MAX),
            metric_interval: config.metrics.interval,
            redaction: config.redaction.clone(),
        }
    }

    /// What is hidden, which is one for the process.
    pub(super) fn redact(&self) {
        let headers = self.redaction.headers.iter().map(FieldName::as_str);
        for name in redact::set_sensitive(&self.redaction.query_keys, headers) {
            tracing::warn!(name, "redaction.query_keys: longer than any name that is compared");
        }
    }
}

fn propagation(config: &config::Propagation) -> Propagation {
    let reads = |format| config.formats.contains(&format);
    Propagation {
        trace_context: reads(Propagator::TraceContext),
        b3: reads(Propagator::B3) || reads(Propagator::B3Multi),
        baggage: config.baggage.iter().map(|key| key.as_str().into()).collect(),
    }
}

fn policies(config: &Config) -> Policies {
    let of_all = Policy {
        sampler: sampler(config.traces.sampler, config.traces.ratio),
        routes: Some(routes(config.routes.mode, &config.routes.patterns, config.routes.max)),
        headers: HeaderKeys {
            request: request_keys(&config.headers.request),
            response: keys(RESPONSE, &config.headers.response),
        },
        filter: config.filter.clone(),
        metric_attributes: metric_attributes(config, None),
        options: AttributeOptions { network_local: config.attributes.network_local },
    };
    let of_selector = |selector: &config::Selector| {
        let config::Selector { traces, routes: own, headers, filter, attributes, .. } = selector;
        let has_routes = own.mode.is_some() || own.patterns.is_some();
        Policy {
            sampler: sampler(
                traces.sampler.unwrap_or(config.traces.sampler),
                traces.ratio.unwrap_or(config.traces.ratio),
            ),
            routes: has_routes.then(|| {
                let patterns = own.patterns.as_ref().unwrap_or(&config.routes.patterns);
                routes(own.mode.unwrap_or(config.routes.mode), patterns, config.routes.max)
            }),
            headers: HeaderKeys {
                request: request_keys(headers.request.as_ref().unwrap_or(&config.headers.request)),
                response: keys(
                    RESPONSE,
                    headers.response.as_ref().unwrap_or(&config.headers.response),
                ),
            },
            filter: Filter {
                exclude: filter.exclude.as_ref().unwrap_or(&config.filter.exclude).clone(),
                include: filter.include.as_ref().unwrap_or(&config.filter.include).clone(),
                telemetry: filter.telemetry.unwrap_or(config.filter.telemetry),
                instrumented: filter.instrumented.unwrap_or(config.filter.instrumented),
            },
            metric_attributes: metric_attributes(config, Some(&attributes.metrics)),
            options: AttributeOptions {
                network_local: attributes.network_local.unwrap_or(config.attributes.network_local),
            },
        }
    };
    Policies::new(of_all, config.selectors.iter().map(of_selector).collect())
}

fn metric_attributes(
    config: &Config,
    own: Option<&config::OwnMetricAttributes>,
) -> MetricAttributes {
    let config::MetricAttributes { include, exclude } = &config.attributes.metrics;
    let own_include = own.and_then(|own| own.include.as_ref());
    let own_exclude = own.and_then(|own| own.exclude.as_ref());
    MetricAttributes::new(
        own_include.unwrap_or(include).clone(),
        own_exclude.unwrap_or(exclude).clone(),
    )
}

/// With those that are always kept.
fn request_keys(names: &[FieldName]) -> Vec<Box<str>> {
    let identifiers = IDENTIFIERS.map(|name| format!("{REQUEST}{name}").into());
    keys(REQUEST, names).into_iter().chain(identifiers).collect()
}

fn keys(prefix: &str, names: &[FieldName]) -> Vec<Box<str>> {
    names.iter().map(|name| format!("{prefix}{}", name.as_str()).into()).collect()
}

fn sampler(sampler: config::Sampler, ratio: f64) -> Sampler {
    // Both were read as what they are.
    Sampler::parse(sampler.as_str(), Some(&ratio.to_string())).unwrap_or_default()
}

fn routes(mode: route::Mode, patterns: &[route::Pattern], max: u32) -> route::Config {
    route::Config {
        mode,
        patterns: patterns.to_vec(),
        max_siblings: max as usize,
        ..route::Config::default()
    }
}
