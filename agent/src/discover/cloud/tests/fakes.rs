//! Metadata servers: what they demand of a request, and what the providers document as their answers.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, combinators::BoxBody};
use hyper::{
    body::{Frame, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::{net::TcpListener, task::JoinHandle};

use super::Provider;

const TOKEN: &str = "AQAEAFiFqrTr3PRjg7MNW9yqYI5Eo3hBl5hMZ2cBTZhXfnF-m9pKUA==";

/// How a server behaves.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Mood {
    Well,
    /// As that of a node of Kubernetes Engine.
    Cluster,
    Slow(Duration),
    /// Answers the first that is needed, and then hangs.
    HangsOnDetails,
    Hangs,
    /// A success without an end.
    HangsInContent,
    NotFound,
    Forbidden,
    /// A success of somebody else: a proxy's page.
    Garbage,
    /// Sends elsewhere.
    Redirects,
    /// A success of megabytes.
    Endless,
    Empty,
}

impl Mood {
    /// Nothing is known of the machine.
    pub(super) const BROKEN: [Self; 8] = [
        Self::Hangs,
        Self::HangsInContent,
        Self::NotFound,
        Self::Forbidden,
        Self::Garbage,
        Self::Redirects,
        Self::Endless,
        Self::Empty,
    ];
}

/// One that runs.
pub(super) struct Fake {
    pub(super) endpoint: String,
    asked: Arc<Mutex<Vec<String>>>,
    task: JoinHandle<()>,
}

type Body = BoxBody<Bytes, Infallible>;

/// Content that does not come.
struct Never;

impl hyper::body::Body for Never {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Pending
    }
}

impl Fake {
    pub(super) async fn start(provider: Provider, mood: Mood) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&asked);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let noted = Arc::clone(&noted);
                tokio::spawn(async move {
                    let service = service_fn(|request: Request<Incoming>| {
                        noted.lock().unwrap().push(format!(
                            "{} {}",
                            request.method(),
                            request.uri()
                        ));
                        async move { Ok::<_, Infallible>(answer(provider, mood, &request).await) }
                    });
                    // Clients that gave up are what some tests are about.
                    let _ =
                        http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self { endpoint, asked, task }
    }

    /// Method and target of every request so far.
    pub(super) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    /// From now on nobody listens.
    pub(super) async fn stop(self) {
        self.task.abort();
        assert!(self.task.await.unwrap_err().is_cancelled());
    }
}

async fn answer(provider: Provider, mood: Mood, request: &Request<Incoming>) -> Response<Body> {
    let page = |status: StatusCode, text: &str| {
        let content = Full::new(Bytes::copy_from_slice(text.as_bytes())).boxed();
        Response::builder().status(status).body(content).unwrap()
    };
    match mood {
        Mood::Hangs => std::future::pending().await,
        Mood::HangsInContent => return Response::new(Never.boxed()),
        Mood::NotFound => return page(StatusCode::NOT_FOUND, "404 - Not Found"),
        Mood::Forbidden => return page(StatusCode::FORBIDDEN, ""),
        Mood::Garbage => return page(StatusCode::OK, "<html>sign in, please</html>"),
        Mood::Empty => return page(StatusCode::OK, ""),
        Mood::Endless => return page(StatusCode::OK, &"x".repeat(4 << 20)),
        Mood::Redirects => {
            let mut page = page(StatusCode::FOUND, "");
            page.headers_mut().insert("location", request.uri().path().parse().unwrap());
            return page;
        }
        Mood::Slow(time) => tokio::time::sleep(time).await,
        Mood::HangsOnDetails => {
            let path = request.uri().path();
            if path.ends_with("hostname") || path.ends_with("machine-type") {
                std::future::pending().await
            }
        }
        Mood::Well | Mood::Cluster => {}
    }
    let (method, headers) = (request.method(), request.headers());
    let target = request.uri().path_and_query().unwrap().as_str();
    let (status, text) = match provider {
        Provider::Aws => ec2(method, target, headers),
        Provider::Gcp => compute_engine(method, target, headers, mood == Mood::Cluster),
        Provider::Azure => azure(method, target, headers),
    };
    let mut page = page(status, &text);
    if provider == Provider::Gcp {
        page.headers_mut().insert("metadata-flavor", "Google".parse().unwrap());
        page.headers_mut().insert("server", "Metadata Server for VM".parse().unwrap());
    }
    page
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// Version 2 only, as instances with `HttpTokens=required` have it.
fn ec2(method: &Method, target: &str, headers: &HeaderMap) -> (StatusCode, String) {
    if headers.contains_key("x-forwarded-for") {
        return (StatusCode::FORBIDDEN, String::new());
    }
    if target == "/latest/api/token" {
        let lifetime = text(headers, "x-aws-ec2-metadata-token-ttl-seconds");
        let lifetime = lifetime.and_then(|text| text.parse().ok());
        return match (method, lifetime) {
            (&Method::PUT, Some(1..=21_600_u32)) => (StatusCode::OK, TOKEN.into()),
            (&Method::PUT, _) => (StatusCode::BAD_REQUEST, "400 - Bad Request".into()),
            _ => (StatusCode::METHOD_NOT_ALLOWED, "405 - Method Not Allowed".into()),
        };
    }
    if text(headers, "x-aws-ec2-metadata-token") != Some(TOKEN) {
        return (StatusCode::UNAUTHORIZED, "401 - Unauthorized".into());
    }
    match (method, target) {
        (&Method::GET, "/latest/meta-data/hostname") => {
            (StatusCode::OK, "ip-10-158-112-84.us-west-2.compute.internal".into())
        }
        (&Method::GET, "/latest/dynamic/instance-identity/document") => {
            let document = json!({
                "accountId": "123456789012",
                "architecture": "x86_64",
                "availabilityZone": "us-west-2b",
                "billingProducts": null,
                "devpayProductCodes": null,
                "marketplaceProductCodes": ["1abc2defghijklm3nopqrs4tu"],
                "imageId": "ami-5fb8c835",
                "instanceId": "i-1234567890abcdef0",
                "instanceType": "t2.micro",
                "kernelId": null,
                "pendingTime": "2026-11-19T16:32:11Z",
                "privateIp": "10.158.112.84",
                "ramdiskId": null,
                "region": "us-west-2",
                "version": "2017-09-30",
            });
            (StatusCode::OK, serde_json::to_string_pretty(&document).unwrap())
        }
        _ => (StatusCode::NOT_FOUND, "404 - Not Found".into()),
    }
}

fn compute_engine(
    method: &Method,
    target: &str,
    headers: &HeaderMap,
    cluster: bool,
) -> (StatusCode, String) {
    let flavored = text(headers, "metadata-flavor") == Some("Google");
    if !flavored || headers.contains_key("x-forwarded-for") {
        let page = "<h1>403 Forbidden</h1> Your client does not have permission to get URL";
        return (StatusCode::FORBIDDEN, page.into());
    }
    let value = match target.strip_prefix("/computeMetadata/v1/") {
        _ if method != Method::GET => None,
        Some("project/project-id") => Some("shop-prod"),
        Some("instance/id") => Some("4520031799277581759"),
        Some("instance/zone") => Some("projects/1234567890/zones/europe-west1-b"),
        Some("instance/machine-type") => Some("projects/1234567890/machineTypes/n2-standard-4"),
        Some("instance/name") => Some("web-1"),
        Some("instance/image") => {
            Some("projects/debian-cloud/global/images/debian-12-bookworm-v20260101")
        }
        Some("instance/attributes/cluster-name") if cluster => Some("prod"),
        Some("instance/attributes/cluster-location") if cluster => Some("europe-west1"),
        _ => None,
    };
    match value {
        Some(value) => (StatusCode::OK, value.into()),
        None => (StatusCode::NOT_FOUND, "<h1>404 Not Found</h1>".into()),
    }
}

fn azure(method: &Method, target: &str, headers: &HeaderMap) -> (StatusCode, String) {
    let error = |status, text: &str| (status, json!({ "error": text }).to_string());
    if text(headers, "metadata").is_none_or(|value| !value.eq_ignore_ascii_case("true"))
        || headers.contains_key("x-forwarded-for")
    {
        return error(
            StatusCode::BAD_REQUEST,
            "Bad request. Required metadata header not specified",
        );
    }
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    if !query.split('&').any(|pair| pair == "api-version=2021-12-13") {
        return error(StatusCode::BAD_REQUEST, "Bad request. api-version was not specified");
    }
    if method != Method::GET {
        return error(StatusCode::METHOD_NOT_ALLOWED, "Method not allowed");
    }
    if path != "/metadata/instance/compute" {
        return error(StatusCode::NOT_FOUND, "Not found");
    }
    let compute = json!({
        "azEnvironment": "AzurePublicCloud",
        "location": "westeurope",
        "name": "examplevmname",
        "offer": "0001-com-ubuntu-server-jammy",
        "osType": "Linux",
        "resourceGroupName": "macikgo-test-may-23",
        "storageProfile": {
            "imageReference": {
                "id": "",
                "publisher": "Canonical",
                "offer": "0001-com-ubuntu-server-jammy",
                "sku": "22_04-lts",
                "version": "22.04.202601010",
            },
        },
        "subscriptionId": "8d10da13-8125-4ba9-a717-bf7490507b3d",
        "tags": "team:blue",
        "vmId": "02aab8a4-74ef-476e-8182-f6d2ba4166a6",
        "vmScaleSetName": "",
        "vmSize": "Standard_A3",
        "zone": "3",
    });
    (StatusCode::OK, compute.to_string())
}
