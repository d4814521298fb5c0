//! `http.route` for servers whose routing table we cannot see: a template of the path, low in
//! cardinality whatever clients send.
//!
//! First the user's patterns, then [`segment`] heuristics (ids, hashes, dates, numbers ..), then a tree per
//! service that learns which segments are fixed ([`tree`]): a position with too many different
//! values becomes `{param}`. Paths that the service refused teach nothing, so a scanner that tries
//! thousands of them does not change the routes of the others.
//! The same paths in the same order always give the same routes.

mod number;
mod pattern;
mod segment;
mod tree;

use std::sync::Arc;

use hashbrown::HashMap;

pub use self::pattern::{Pattern, PatternError};
use self::tree::Tree;

/// Where routes come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Mode {
    /// There are none.
    Off,
    /// The user's patterns only.
    Patterns,
    /// The user's patterns, then heuristics.
    #[default]
    Heuristic,
}

/// How routes are found, and the bounds of what is learned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    pub mode: Mode,
    /// Tried in this order; the first that matches is the route.
    pub patterns: Vec<Pattern>,
    /// Different fixed segments below one prefix.
    pub max_siblings: usize,
    /// Segments that are remembered per service, about 100 bytes each.
    pub max_segments: usize,
    /// Services with a tree. One more takes the place of the one that was not asked for the longest.
    pub max_services: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            mode: Mode::default(),
            patterns: Vec::new(),
            max_siblings: 100,
            max_segments: 4096,
            max_services: 1024,
        }
    }
}

/// Finds routes and remembers what it learned.
#[derive(Debug)]
pub struct Routes {
    config: Config,
    services: HashMap<Box<str>, Service, foldhash::fast::RandomState>,
    /// Paths so far, which tell the age of what was learned.
    asked: u64,
    forgotten: u64,
}

/// What was learned of a service.
#[derive(Debug)]
struct Service {
    tree: Tree,
    /// [`Routes::asked`] when it was last asked for.
    asked: u64,
}

impl Routes {
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self { config, services: HashMap::default(), asked: 0, forgotten: 0 }
    }

    /// Services whose place another one took.
    #[must_use]
    pub const fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// The route of `path` (without query) in `service`, where it was answered with `status` (0: not
    /// at all). `None` for what is no path, and for unknown paths that were refused.
    pub fn route(&mut self, service: &str, path: &str, status: u16) -> Option<Arc<str>> {
        if self.config.mode == Mode::Off || !path.starts_with('/') {
            return None;
        }
        if let Some(pattern) = self.config.patterns.iter().find(|pattern| pattern.matches(path)) {
            return Some(pattern.route());
        }
        if self.config.mode == Mode::Patterns {
            return None;
        }
        self.asked += 1;
        if let Some(known) = self.services.get_mut(service) {
            known.asked = self.asked;
            return known.tree.route(path, teaches(status));
        }
        if !teaches(status) {
            return None;
        }
        if self.services.len() >= self.config.max_services {
            self.forget_oldest();
        }
        let mut tree = Tree::new(self.config.max_siblings, self.config.max_segments);
        let route = tree.route(path, true);
        self.services.insert(service.into(), Service { tree, asked: self.asked });
        route
    }

    fn forget_oldest(&mut self) {
        let oldest = self.services.iter().min_by_key(|(_, service)| service.asked);
        if let Some(name) = oldest.map(|(name, _)| name.clone()) {
            self.services.remove(&name);
            self.forgotten += 1;
        }
    }
}

/// Whether a response shows that its path exists: not if there was none, nor if the request may have
/// been refused before it was routed.
const fn teaches(status: u16) -> bool {
    !matches!(status, 0 | 400 | 401 | 403 | 404 | 410 | 414 | 421 | 429 | 431 | 501)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heuristic() -> Routes {
        Routes::new(Config::default())
    }

    #[track_caller]
    fn check(routes: &mut Routes, path: &str, expected: &str) {
        assert_eq!(routes.route("shop", path, 200).as_deref(), Some(expected), "{path}");
    }

    #[test]
    fn dynamic_segments_become_placeholders() {
        let mut routes = heuristic();
        for (path, expected) in [
            ("/", "/"),
            ("/users", "/users"),
            ("/users/", "/users/"),
            ("/users/7", "/users/{id}"),
            ("/users/7/orders/12", "/users/{id}/orders/{id}"),
            ("/v1/items", "/v1/items"),
            ("/o/123e4567-e89b-12d3-a456-426614174000/x", "/o/{uuid}/x"),
            ("/c/9f86d081884c7d65", "/c/{hash}"),
            ("/t/01ARZ3NDEKTSV4RRFFQ69G5FAV", "/t/{ulid}"),
            ("/d/2026-11-21/log", "/d/{date}/log"),
            ("/u/jane@example.com", "/u/{email}"),
            ("/s/eyJhbGciOiJIUzI1NiIsInR5cCI6IkpX", "/s/{token}"),
            ("/static/app.3f2a.js", "/static/*.js"),
            ("/a;jsessionid=99/b", "/a/b"),
        ] {
            check(&mut routes, path, expected);
        }
    }

    #[test]
    fn a_thousand_values_of_a_kind_are_a_handful_of_routes() {
        type Value = fn(u32) -> String;
        let kinds: [(&str, Value, &str); 17] = [
            ("IPv4", |i| format!("10.{}.{}.1", i / 250, i % 250), "{address}"),
            ("IPv6", |i| format!("2001:db8::{i:x}"), "{address}"),
            ("MAC", |i| format!("00:1a:2b:3c:{:02x}:{:02x}", i / 256, i % 256), "{address}"),
            ("decimal", |i| format!("{}.{:02}", i / 100, i % 100), "{version}"),
            ("negative", |i| format!("-{i}"), "{number}"),
            ("coordinates", |i| format!("{}.5,-{}.25", i % 90, i % 180), "{number}"),
            ("telephone", |i| format!("+4915112{i:05}"), "{number}"),
            ("hexadecimal", |i| format!("0x{i:x}"), "{hash}"),
            ("ISBN", |i| format!("978-3-16-{i:06}-0"), "{number}"),
            ("ISBN-10", |i| format!("{:09}X", i * 7919), "{number}"),
            ("version", |i| format!("{}.{}.{}", i / 100, i / 10 % 10, i % 10), "{version}"),
            ("season", |i| format!("{}-{}", 1000 + i, 20 + i % 80), "{number}"),
            ("day first", |i| format!("{}.{}.2026", i % 28 + 1, i % 12 + 1), "{date}"),
            ("key", |i| format!("Products({i})"), "Products({id})"),
            ("text key", |i| format!("Products('A{i}')"), "Products({id})"),
            ("named key", |i| format!("Items(a={i},b='x')"), "Items({id})"),
            ("short hash", |i| format!("{:07x}", 0x00a1_0000 + i * 4099), "{hash}"),
        ];
        for (kind, value, last) in kinds {
            let mut routes = heuristic();
            let route = |i: u32| routes.route("shop", &format!("/a/{}/b", value(i)), 200).unwrap();
            let found: Vec<_> = (0..1000).map(route).collect();
            let distinct: std::collections::HashSet<_> = found.iter().collect();
            assert!(distinct.len() <= 12, "{kind}: {} routes", distinct.len());
            let last = format!("/a/{last}/b");
            let share = found.iter().filter(|found| ***found == *last).count();
            assert!(share >= 900, "{kind}: {share} of 1000 are {last}: {distinct:?}");
        }
    }

    #[test]
    fn words_with_numbers_and_few_versions_stay_as_they_are() {
        let mut routes = heuristic();
        for word in [
            "v1.2",
            "v2",
            "1.0",
            "1.2.3",
            "2.10",
            "10-tips",
            "top-10",
            "3d",
            "2fa",
            "b2b",
            "oauth2",
            "iphone-15",
            "utf-8",
            "mp3",
            "404.html",
            "es2022",
            "24h",
            "1st",
            "win32",
            "x86_64",
            "deadbeef",
            "web-2.0",
            "Mercury_(planet)",
            "getItems()",
            "c++",
            "--help",
            "area51",
        ] {
            let path = format!("/docs/{word}/page");
            check(&mut routes, &path, &path);
        }
    }

    #[test]
    fn doubtful_segments_that_become_many_leave_words_beside_them() {
        let mut routes = heuristic();
        check(&mut routes, "/d/latest/x", "/d/latest/x");
        for minor in 0..50 {
            routes.route("shop", &format!("/d/1.{minor}/x"), 200);
        }
        check(&mut routes, "/d/1.3/x", "/d/{version}/x");
        check(&mut routes, "/d/latest/x", "/d/latest/x");
        assert_eq!(routes.route("shop", "/d/9.9/x", 404).as_deref(), Some("/d/{version}/x"));
    }

    #[test]
    fn position_with_too_many_values_collapses_and_stays_so() {
        let mut routes = Routes::new(Config { max_siblings: 3, ..Config::default() });
        for name in ["ann", "bob", "cid"] {
            check(&mut routes, &format!("/u/{name}/posts"), &format!("/u/{name}/posts"));
        }
        for name in ["dan", "ann", "eve"] {
            check(&mut routes, &format!("/u/{name}/posts"), "/u/{param}/posts");
        }
        check(&mut routes, "/u/7/posts", "/u/{id}/posts");
        check(&mut routes, "/other", "/other");
    }

    #[test]
    fn refused_paths_are_not_learned_and_known_ones_are_found() {
        let mut routes = heuristic();
        for i in 0..10_000 {
            assert_eq!(routes.route("shop", &format!("/wp-{i}/x"), 404), None);
        }
        check(&mut routes, "/users/7", "/users/{id}");
        assert_eq!(routes.route("shop", "/users/8", 404).as_deref(), Some("/users/{id}"));
        assert_eq!(routes.route("shop", "/users/8", 0).as_deref(), Some("/users/{id}"));
        assert_eq!(routes.route("shop", "/admin", 401), None);
    }

    #[test]
    fn memory_and_cardinality_are_bounded_whatever_comes() {
        let config = Config { max_siblings: 5, max_segments: 50, ..Config::default() };
        let mut routes = Routes::new(config);
        let mut found = std::collections::HashSet::new();
        for i in 0_u32..20_000 {
            let mix = i.wrapping_mul(2_654_435_761);
            let letter = |shift: u32| char::from(b'a' + (mix >> shift & 15) as u8);
            let path: String =
                [4, 8, 12, 16, 20].iter().map(|&shift| format!("/p{}", letter(shift))).collect();
            found.insert(routes.route("shop", &path, 200).unwrap());
        }
        assert!(found.len() <= 200, "{} routes", found.len());
        assert!(routes.services["shop"].tree.len() <= 50);
    }

    #[test]
    fn services_do_not_mix() {
        let mut routes = Routes::new(Config { max_siblings: 1, ..Config::default() });
        assert_eq!(routes.route("a", "/x", 200).as_deref(), Some("/x"));
        assert_eq!(routes.route("b", "/y", 200).as_deref(), Some("/y"));
        assert_eq!(routes.route("a", "/y", 200).as_deref(), Some("/{param}"));
    }

    #[test]
    fn a_service_beyond_the_bound_takes_the_place_of_the_one_that_was_silent_longest() {
        let mut routes = Routes::new(Config { max_services: 3, ..Config::default() });
        let mut check = |service: &str, forgotten| {
            assert_eq!(routes.route(service, "/x", 200).as_deref(), Some("/x"), "{service}");
            assert_eq!(routes.route(service, "/none", 404), None);
            assert_eq!((routes.forgotten(), routes.services.len() <= 3), (forgotten, true));
        };
        for service in ["a", "b", "c", "a"] {
            check(service, 0);
        }
        check("d", 1);
        check("a", 1);
        check("c", 1);
        check("b", 2);
        for n in 0..5000 {
            check(&n.to_string(), 3 + n);
        }
    }

    #[test]
    fn patterns_come_first_and_can_be_all() {
        let patterns = ["/users/{id}/orders/{order}", "/files/*"];
        let patterns: Vec<_> = patterns.iter().map(|p| Pattern::parse(p).unwrap()).collect();
        let mut config = Config { patterns, ..Config::default() };
        let mut routes = Routes::new(config.clone());
        check(&mut routes, "/users/ann/orders/x", "/users/{id}/orders/{order}");
        check(&mut routes, "/files/a/b/c", "/files/*");
        check(&mut routes, "/users/7", "/users/{id}");
        config.mode = Mode::Patterns;
        let mut routes = Routes::new(config.clone());
        assert_eq!(routes.route("shop", "/users/7", 200), None);
        config.mode = Mode::Off;
        assert_eq!(Routes::new(config).route("shop", "/files/a", 200), None);
    }

    #[test]
    fn what_is_no_path_has_no_route() {
        let mut routes = heuristic();
        for path in ["", "*", "path"] {
            assert_eq!(routes.route("shop", path, 200), None);
        }
    }

    #[test]
    fn same_order_gives_same_routes() {
        let paths: Vec<String> =
            (0..2000_u32).map(|i| format!("/a{}/b{}", i % 150, i * 7 % 260)).collect();
        let run = || -> Vec<_> {
            let mut routes = heuristic();
            paths.iter().map(|path| routes.route("shop", path, 200)).collect()
        };
        assert_eq!(run(), run());
    }
}
