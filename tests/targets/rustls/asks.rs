//! Sends the plan on standard input with reqwest to the URL that is the first argument; one JSON line each.

use std::{
    env,
    error::Error,
    io,
    time::{Instant, SystemTime},
};

use reqwest::{Client, Method, header};

pub(crate) async fn ask(client: Client) -> Result<(), Box<dyn Error>> {
    let url = env::args().nth(1).ok_or("which URL?")?;
    for line in io::stdin().lines() {
        let line = line?;
        let [method, target, size, mode] = line.split(' ').collect::<Vec<_>>()[..] else {
            return Err(format!("{line:?} is not METHOD TARGET SIZE MODE").into());
        };
        let size: usize = size.parse()?;
        let mut request = client.request(method.parse::<Method>()?, format!("{url}{target}"));
        if mode == "chunked" {
            let pieces = (0..size.div_ceil(4096)).map(move |at| size.min((at + 1) * 4096) - at * 4096);
            let pieces = pieces.map(|len| Ok::<_, io::Error>(vec![b'x'; len]));
            request = request.body(reqwest::Body::wrap_stream(futures_util::stream::iter(pieces)));
        } else if size > 0 {
            request = request.body(vec![b'x'; size]);
        }
        if mode == "close" {
            request = request.header(header::CONNECTION, "close");
        }
        let begin = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_nanos();
        let stopwatch = Instant::now();
        let response = request.send().await?;
        let status = response.status().as_u16();
        let received = response.bytes().await?.len();
        let ns = stopwatch.elapsed().as_nanos();
        println!(
            r#"{{"method":"{method}","target":"{target}","status":{status},"request":{size},"response":{received},"begin":{begin},"ns":{ns}}}"#
        );
    }
    Ok(())
}
