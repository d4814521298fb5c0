//! What holds for the exchanges of a process beyond what holds for all: by the selector that took it.

use super::sampler::Sampler;
use crate::{
    attribute::AttributeOptions,
    exchange::{Detail, HeaderValues},
    semantics::{
        chosen::MetricAttributes,
        filter::{Filter, Instrumented, Kept},
        route::{self, Routes},
    },
    span::Span,
};

/// What holds for the processes of one selector.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    pub sampler: Sampler,
    /// `None`: the routes of all.
    pub routes: Option<route::Config>,
    pub headers: HeaderKeys,
    pub filter: Filter,
    pub metric_attributes: MetricAttributes,
    pub options: AttributeOptions,
}

/// Attributes that spans may have of header fields: `http.request.header.x-tenant`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderKeys {
    pub request: Vec<Box<str>>,
    pub response: Vec<Box<str>>,
}

impl HeaderKeys {
    /// Leaves what is in the lists. Reassembly keeps what any selector asks for.
    fn filter(&self, request: &mut Vec<HeaderValues>, response: &mut Vec<HeaderValues>) {
        let keep = |keys: &[Box<str>], values: &mut Vec<HeaderValues>| {
            values.retain(|header| keys.iter().any(|key| **key == *header.key));
        };
        keep(&self.request, request);
        keep(&self.response, response);
    }
}

/// Policies as they are in force, with what their routes have learned.
#[derive(Debug)]
pub struct Policies {
    /// That of all first, then those of selectors.
    policies: Vec<Policy>,
    /// Likewise; `None` where those of all serve.
    routes: Vec<Option<Routes>>,
    /// No selector has anything of its own, so that nobody has to look for it.
    uniform: bool,
}

impl Policies {
    /// `of_all` holds where a selector has none of its own.
    #[must_use]
    pub fn new(of_all: Policy, of_selectors: Vec<Policy>) -> Self {
        let of_all = Policy { routes: Some(of_all.routes.unwrap_or_default()), ..of_all };
        let policies: Vec<Policy> = std::iter::once(of_all).chain(of_selectors).collect();
        let routes = policies.iter().map(|policy| policy.routes.clone().map(Routes::new));
        let as_all = |policy: &Policy| {
            policy.routes.is_none()
                && policy.sampler == policies[0].sampler
                && policy.headers == policies[0].headers
                && policy.filter == policies[0].filter
                && policy.metric_attributes == policies[0].metric_attributes
                && policy.options == policies[0].options
        };
        let uniform = policies[1..].iter().all(as_all);
        Self { routes: routes.collect(), uniform, policies }
    }

    /// Whether it does not matter which selector it is.
    #[must_use]
    pub const fn is_uniform(&self) -> bool {
        self.uniform
    }

    /// New ones. Routes whose settings stay keep what they have learned.
    pub fn replace(&mut self, mut new: Self) {
        for (policy, routes) in new.policies.iter().zip(&mut new.routes) {
            let same = |known: &&Policy| known.routes.is_some() && known.routes == policy.routes;
            let known = self.policies.iter().position(|known| same(&known));
            if let Some(learned) = known.and_then(|at| self.routes[at].take()) {
                *routes = Some(learned);
            }
        }
        *self = new;
    }

    fn index(&self, selector: Option<usize>) -> usize {
        selector.map(|selector| selector + 1).filter(|at| *at < self.policies.len()).unwrap_or(0)
    }

    #[must_use]
    pub fn sampler(&self, selector: Option<usize>) -> Sampler {
        self.policies[self.index(selector)].sampler
    }

    /// As [`Routes::route`].
    pub fn route(
        &mut self,
        selector: Option<usize>,
        service: &str,
        path: &str,
        status: u16,
    ) -> Option<std::sync::Arc<str>> {
        let at = self.index(selector);
        let at = if self.routes[at].is_some() { at } else { 0 };
        self.routes[at].as_mut()?.route(service, path, status)
    }

    /// Which signals the exchange of `span` is told in.
    pub(super) fn keeps(&self, selector: Option<usize>, span: &Span) -> Kept {
        self.policies[self.index(selector)].filter.keeps(span)
    }

    /// Whether exports of telemetry are kept that others than agents send.
    pub(super) fn keeps_telemetry(&self, selector: Option<usize>) -> bool {
        self.policies[self.index(selector)].filter.telemetry
    }

    /// Whether a signal that a process exports itself is left out.
    pub(super) fn defers(&self, selector: Option<usize>) -> bool {
        self.policies[self.index(selector)].filter.instrumented == Instrumented::Defer
    }

    pub(super) fn metric_attributes(&self, selector: Option<usize>) -> &MetricAttributes {
        &self.policies[self.index(selector)].metric_attributes
    }

    pub(super) fn options(&self, selector: Option<usize>) -> AttributeOptions {
        self.policies[self.index(selector)].options
    }

    /// Services whose learned routes were given up for others'.
    #[must_use]
    pub fn forgotten_services(&self) -> u64 {
        self.routes.iter().flatten().map(Routes::forgotten).sum()
    }

    /// Drops the header fields that the selector has not asked for.
    pub(super) fn headers(&self, selector: Option<usize>, detail: &mut Detail) {
        if let Some((request, response)) = detail.headers_mut()
            && !(request.is_empty() && response.is_empty())
        {
            self.policies[self.index(selector)].headers.filter(request, response);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(list: &[&str]) -> route::Config {
        let patterns = list.iter().map(|text| route::Pattern::parse(text).unwrap()).collect();
        route::Config { patterns, max_siblings: 1, ..route::Config::default() }
    }

    fn policies() -> Policies {
        let own = Policy { routes: Some(patterns(&["/own/*"])), ..Policy::default() };
        let of_all = Policy { routes: Some(patterns(&[])), ..Policy::default() };
        Policies::new(of_all, vec![own, Policy::default()])
    }

    #[test]
    fn a_selector_without_settings_has_those_of_all() {
        let mut policies = policies();
        assert!(!policies.is_uniform());
        let as_all = Policies::new(Policy::default(), vec![Policy::default(); 2]);
        assert!(as_all.is_uniform());
        let mut route = |selector, path| policies.route(selector, "s", path, 200);
        assert_eq!(route(Some(0), "/own/x").as_deref(), Some("/own/*"));
        assert_eq!(route(Some(1), "/own/x").as_deref(), Some("/own/x"));
        assert_eq!(route(None, "/own/x").as_deref(), Some("/own/x"));
        assert_eq!(route(Some(7), "/own/x").as_deref(), Some("/own/x"), "gone with a reload");
    }

    #[test]
    fn routes_whose_settings_stay_keep_what_they_learned() {
        let mut known = policies();
        let route = |policies: &mut Policies, path| policies.route(None, "s", path, 200);
        assert_eq!(route(&mut known, "/a").as_deref(), Some("/a"));
        known.replace(policies());
        assert_eq!(route(&mut known, "/b").as_deref(), Some("/{param}"));
        let of_all = Policy { routes: Some(patterns(&["/c"])), ..Policy::default() };
        known.replace(Policies::new(of_all, Vec::new()));
        assert_eq!(route(&mut known, "/d").as_deref(), Some("/d"));
    }
}
