//! OTLP/HTTP: one POST per request, protobuf or JSON.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use reqwest::{Client, Response, redirect};
use tokio::time::timeout;

use super::{MAX_ANSWER, Outcome, USER_AGENT, chain, compress::compress, proxy::Proxy};
use crate::export::{
    otlp::{
        Format,
        response::{failure_message, partial_success},
    },
    settings::{Compression, OtlpSettings},
};

/// Half of this, or of the time for an attempt, is for what follows the status of an answer.
const REST: Duration = Duration::from_secs(4);

pub(crate) struct Http {
    pub(super) format: Format,
    pub(super) settings: OtlpSettings,
    url: String,
    client: Client,
    proxy: Option<Proxy>,
}

impl Http {
    pub(super) fn build(
        format: Format,
        settings: &OtlpSettings,
        proxy: Option<Proxy>,
    ) -> Result<Self, String> {
        let https = settings.endpoint.scheme_str() == Some("https");
        let mut builder = Client::builder()
            .user_agent(USER_AGENT)
            .default_headers(settings.headers.clone())
            // A redirected POST may turn into a GET: an answer other than success is an answer.
            .redirect(redirect::Policy::none())
            .tls_backend_preconfigured(settings.tls.client_config(https)?)
            .no_proxy(); // but the one that is known here
        if let Some(proxy) = &proxy {
            builder = builder.proxy(proxy.for_http().map_err(|error| chain(&error))?);
        }
        let client = builder.build().map_err(|error| chain(&error))?;
        let url = settings.endpoint.to_string();
        Ok(Self { format, settings: settings.clone(), url, client, proxy })
    }

    pub(super) async fn send(&self, message: Bytes) -> Outcome {
        let content_type = match self.format {
            Format::Protobuf => "application/x-protobuf",
            Format::Json => "application/json",
        };
        let compression = self.settings.compression;
        let body = match compression {
            Compression::None => message,
            _ => compress(compression, message, 0).await.into(),
        };
        let mut request =
            self.client.post(&self.url).header(header::CONTENT_TYPE, content_type).body(body);
        if let Some(name) = compression.name() {
            request = request.header(header::CONTENT_ENCODING, name);
        }
        match request.send().await {
            Ok(response) => self.outcome(response).await,
            Err(error) => {
                let reason = chain(&error.without_url());
                let proxy = self.proxy.as_ref();
                let reason = proxy.map_or(reason.clone(), |proxy| proxy.failed(&reason));
                Outcome::Later { reason, after: None }
            }
        }
    }

    async fn outcome(&self, response: Response) -> Outcome {
        let (status, headers) = (response.status(), response.headers().clone());
        // The status is there and says what is to be done; the rest must not keep us from it. A success
        // whose content never ends would otherwise be sent again and again.
        let rest = self.settings.timeout.map_or(REST, |bound| bound.min(REST)) / 2;
        let body = timeout(rest, beginning(response)).await;
        let body = body.unwrap_or_else(|_| Err("no end of the answer".into()));
        if status.is_success() {
            let partial = body.map(|body| partial_success(self.format, &body));
            return Outcome::Accepted(partial.unwrap_or_default());
        }
        let content_type =
            headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
        let message = failure_message(content_type, &body.unwrap_or_default());
        let reason =
            if message.is_empty() { status.to_string() } else { format!("{status}: {message}") };
        match status {
            StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT => {
                Outcome::Later { reason, after: retry_after(&headers, SystemTime::now()) }
            }
            _ => Outcome::Refused(reason),
        }
    }
}

/// The body, or as much of it as anybody needs.
async fn beginning(mut response: Response) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    while body.len() < MAX_ANSWER {
        match response.chunk().await {
            Ok(Some(chunk)) => {
                body.extend_from_slice(&chunk[..chunk.len().min(MAX_ANSWER - body.len())])
            }
            Ok(None) => break,
            Err(error) => return Err(chain(&error.without_url())),
        }
    }
    Ok(body)
}

/// `Retry-After` (RFC 9110 section 10.2.3): seconds, or a date.
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    httpdate::parse_http_date(text).ok()?.duration_since(now).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777); // 10 s before the date below
        for (text, expected) in [
            ("3", Some(3)),
            (" 120 ", Some(120)),
            ("Sun, 06 Nov 1994 08:49:47 GMT", Some(10)),
            ("Sun, 06 Nov 1994 08:49:27 GMT", None),
            ("soon", None),
            ("-1", None),
        ] {
            let headers = HeaderMap::from_iter([(header::RETRY_AFTER, text.parse().unwrap())]);
            assert_eq!(retry_after(&headers, now), expected.map(Duration::from_secs), "{text}");
        }
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }
}
