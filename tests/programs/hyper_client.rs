//! Sends the plan on standard input with hyper-util's client; one JSON line each.
//!
//! `hyper_client URL`

mod plan {
    pub(crate) mod content;
}

use std::{
    env,
    error::Error,
    io,
    time::{Instant, SystemTime},
};

use http_body_util::BodyExt as _;
use hyper::{Request, header};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use plan::content::Content;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let url = env::args().nth(1).ok_or("which URL?")?;
    let client = Client::builder(TokioExecutor::new()).build_http();
    for line in io::stdin().lines() {
        let line = line?;
        let [method, target, size, mode] = line.split(' ').collect::<Vec<_>>()[..] else {
            return Err(format!("{line:?} is not METHOD TARGET SIZE MODE").into());
        };
        let size: usize = size.parse()?;
        let content = Content::new(size, mode != "chunked", ());
        let mut request = Request::builder().method(method).uri(format!("{url}{target}"));
        if mode == "close" {
            request = request.header(header::CONNECTION, "close");
        }
        let request = request.body(content)?;
        let begin = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_nanos();
        let stopwatch = Instant::now();
        let response = client.request(request).await?;
        let status = response.status().as_u16();
        let received = response.into_body().collect().await?.to_bytes().len();
        let ns = stopwatch.elapsed().as_nanos();
        println!(
            r#"{{"method":"{method}","target":"{target}","status":{status},"request":{size},"response":{received},"begin":{begin},"ns":{ns}}}"#
        );
    }
    Ok(())
}
