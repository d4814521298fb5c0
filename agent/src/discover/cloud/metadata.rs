//! Asking a metadata server: short answers over plain HTTP, never through a proxy, all by one deadline.

use http::{HeaderMap, Method};
use reqwest::{Client, redirect};
use tokio::time::{Instant, timeout_at};

use crate::trust::Tls;

/// Where each provider's server answers; the names that some have for it lead there, too.
const ENDPOINT: &str = "http://169.254.169.254";

/// More than any answer has that is asked for.
const MOST: usize = 64 << 10;

/// See the module.
pub(super) struct Server {
    client: Client,
    endpoint: String,
    deadline: Instant,
}

/// What came: the header and a text.
pub(super) struct Answer {
    pub(super) headers: HeaderMap,
    pub(super) text: String,
}

impl Server {
    /// # Errors
    /// Why nothing can be asked.
    pub(super) fn new(endpoint: Option<&str>, deadline: Instant) -> Result<Self, String> {
        let endpoint = endpoint.unwrap_or(ENDPOINT).trim_end_matches('/').to_owned();
        let tls = Tls::default().client_config(endpoint.starts_with("https:"))?;
        let client = Client::builder()
            .no_proxy()
            .redirect(redirect::Policy::none())
            .tls_backend_preconfigured(tls)
            .build()
            .map_err(|error| error.to_string())?;
        Ok(Self { client, endpoint, deadline })
    }

    /// The answer to one request, if it is a success.
    ///
    /// # Errors
    /// What came instead, with the path.
    pub(super) async fn ask(
        &self,
        method: Method,
        path: &str,
        header: (&'static str, &str),
    ) -> Result<Answer, String> {
        let url = format!("{}{path}", self.endpoint);
        let request = self.client.request(method, url).header(header.0, header.1).send();
        let answer = async {
            let mut response = request.await.map_err(|error| chain(&error.without_url()))?;
            if !response.status().is_success() {
                return Err(response.status().to_string());
            }
            let mut body = Vec::new();
            while let Some(chunk) =
                response.chunk().await.map_err(|error| chain(&error.without_url()))?
            {
                body.extend_from_slice(&chunk);
                if body.len() > MOST {
                    return Err(format!("an answer of more than {MOST} bytes"));
                }
            }
            let text = String::from_utf8(body).map_err(|_| "an answer that is no text")?;
            Ok(Answer { headers: response.headers().clone(), text })
        };
        let answer = timeout_at(self.deadline, answer).await;
        answer
            .unwrap_or_else(|_| Err("no answer in time".into()))
            .map_err(|error| format!("{path}: {error}"))
    }
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |error| error.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
