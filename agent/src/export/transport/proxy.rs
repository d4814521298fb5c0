//! Whether exports go through a proxy: `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY`, in capitals or
//! not, the same for every protocol.

use std::net::IpAddr;

use http::{HeaderValue, Uri};
use hyper_util::client::{
    legacy::connect::{HttpConnector, proxy::Tunnel},
    proxy::matcher::Matcher,
};

/// A proxy that is asked for a connection.
#[derive(Clone, Debug)]
pub(crate) struct Proxy {
    uri: Uri,
    /// `Proxy-Authorization`.
    authorization: Option<HeaderValue>,
}

impl Proxy {
    /// The one for `endpoint`, by variables that `lookup` knows.
    ///
    /// # Errors
    /// It is none that can be spoken to.
    pub(crate) fn of(
        endpoint: &Uri,
        lookup: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Option<Self>, String> {
        let variable = |name: &str| {
            let text = lookup(&name.to_ascii_lowercase()).or_else(|| lookup(name));
            text.map(|text| text.trim().to_owned()).unwrap_or_default()
        };
        let direct = variable("NO_PROXY");
        // HTTP_PROXY is often set without NO_PROXY; nobody's proxy reaches this host's loopback.
        if is_loopback(endpoint) || direct.split(',').any(|host| host.trim() == "*") {
            return Ok(None);
        }
        let matcher = Matcher::builder()
            .all(variable("ALL_PROXY"))
            .http(variable("HTTP_PROXY"))
            .https(variable("HTTPS_PROXY"))
            .no(direct)
            .build();
        let Some(found) = matcher.intercept(endpoint) else { return Ok(None) };
        let proxy = Self { uri: found.uri().clone(), authorization: found.basic_auth().cloned() };
        match proxy.uri.scheme_str() {
            Some("http") => Ok(Some(proxy)),
            _ => Err(format!("found the proxy {}, expected one of http://", proxy.shown())),
        }
    }

    /// Without credentials, which it does not hold.
    pub(crate) fn shown(&self) -> String {
        self.uri.to_string().trim_end_matches('/').to_owned()
    }

    /// What went wrong on the way through it.
    pub(crate) fn failed(&self, reason: &str) -> String {
        format!("through the proxy {}: {reason}", self.shown())
    }

    /// Makes connections through it with `CONNECT`, whatever is spoken then.
    pub(crate) fn tunnel(&self) -> Tunnel<HttpConnector> {
        let mut connector = HttpConnector::new();
        connector.enforce_http(false);
        connector.set_nodelay(true);
        let tunnel = Tunnel::new(self.uri.clone(), connector);
        match &self.authorization {
            Some(authorization) => tunnel.with_auth(authorization.clone()),
            None => tunnel,
        }
    }

    /// For `reqwest`.
    ///
    /// # Errors
    /// It is no URL.
    pub(crate) fn for_http(&self) -> Result<reqwest::Proxy, reqwest::Error> {
        let proxy = reqwest::Proxy::all(self.uri.to_string())?;
        Ok(match &self.authorization {
            Some(authorization) => proxy.custom_http_auth(authorization.clone()),
            None => proxy,
        })
    }
}

fn is_loopback(endpoint: &Uri) -> bool {
    let host = endpoint.host().unwrap_or("").trim_matches(['[', ']']);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|addr| addr.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(endpoint: &str, variables: &[(&str, &str)]) -> Result<Option<String>, String> {
        let lookup = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        let proxy = Proxy::of(&endpoint.parse().unwrap(), &lookup)?;
        Ok(proxy.map(|proxy| proxy.shown()))
    }

    #[test]
    fn loopback_is_recognised_by_name_and_address() {
        for (url, expected) in [
            ("http://localhost:4318", true),
            ("http://127.0.0.1", true),
            ("http://[::1]:4318/v1/traces", true),
            ("http://collector", false),
            ("http://10.0.0.1", false),
        ] {
            assert_eq!(is_loopback(&url.parse().unwrap()), expected, "{url}");
        }
    }

    #[test]
    fn variables_say_which_proxy_and_for_whom_there_is_none() {
        let (http, https) = (("HTTP_PROXY", "http://a:1"), ("HTTPS_PROXY", "http://u:s3cret@b:2"));
        for (endpoint, variables, expected) in [
            ("http://h:4317", &[http, https][..], Some("http://a:1")),
            ("https://h:4317", &[http, https], Some("http://b:2")),
            ("https://h:4317", &[http], None),
            ("http://h:4317", &[("http_proxy", "c:3"), http], Some("http://c:3")),
            ("http://h:4317", &[("ALL_PROXY", "http://d:4")], Some("http://d:4")),
            ("http://h.example:4317", &[http, ("NO_PROXY", "x, .example")], None),
            ("http://h:4317", &[http, ("no_proxy", "*")], None),
            ("http://10.1.2.3:4317", &[http, ("NO_PROXY", "x, *")], None),
            ("http://10.1.2.3:4317", &[http, ("NO_PROXY", "10.0.0.0/8")], None),
            ("http://10.1.2.3:4317", &[http, ("NO_PROXY", "10.1.2.4")], Some("http://a:1")),
            ("http://localhost:4317", &[http], None),
            ("http://h:4317", &[("HTTP_PROXY", "")], None),
        ] {
            let expected = expected.map(str::to_owned);
            assert_eq!(of(endpoint, variables), Ok(expected), "{endpoint} {variables:?}");
        }
        let error = of("http://h:4317", &[("ALL_PROXY", "socks5://s:1")]).unwrap_err();
        assert_eq!(error, "found the proxy socks5://s:1, expected one of http://");
    }
}
