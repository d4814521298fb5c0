//! The demo's back end: how many of an item are on the shelf?
//!
//! `stock [ADDRESS]` answers `GET /items/{number}`. Some items are unknown (404), some are slow, and
//! one shelf in fifty cannot be reached (503), so that there is something to see.

mod http {
    pub(crate) mod message;
    pub(crate) mod server;
}

use std::{env, error::Error, net::TcpListener, thread, time::Duration};

use http::server::{Response, serve};

fn main() -> Result<(), Box<dyn Error>> {
    let address = env::args().nth(1).unwrap_or_else(|| "127.0.0.1:0".to_owned());
    serve(&TcpListener::bind(address)?, || answer)?;
    Ok(())
}

fn answer(method: &str, target: &str) -> Response {
    if method != "GET" {
        return Response::new(405, "");
    }
    let item = target.strip_prefix("/items/").and_then(|item| item.parse::<u32>().ok());
    match item {
        Some(item) if item % 50 == 13 => Response::new(503, r#"{"error":"shelf not reached"}"#),
        Some(item) if item % 10 == 7 => Response::new(404, r#"{"error":"no such item"}"#),
        Some(item) => {
            thread::sleep(Duration::from_millis(u64::from(item % 5)));
            Response::new(200, format!(r#"{{"item":{item},"left":{}}}"#, item % 4))
        }
        None => Response::new(404, r#"{"error":"no such page"}"#),
    }
}
