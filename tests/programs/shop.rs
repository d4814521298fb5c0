//! The demo's front end: an order is what the stock says about its two items.
//!
//! `shop STOCK_ADDRESS [ADDRESS]` answers `GET /orders/{number}`, asking the stock twice on the
//! thread that handles the request.

mod http {
    pub(crate) mod client;
    pub(crate) mod message;
    pub(crate) mod server;
}

use std::{
    env,
    error::Error,
    net::{SocketAddr, TcpListener},
};

use http::{
    client::Client,
    server::{Response, serve},
};

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = env::args().skip(1);
    let stock: SocketAddr = args.next().ok_or("usage: shop STOCK_ADDRESS [ADDRESS]")?.parse()?;
    let address = args.next().unwrap_or_else(|| "127.0.0.1:0".to_owned());
    serve(&TcpListener::bind(address)?, || {
        let mut client = Client::new(stock);
        move |method: &str, target: &str| answer(method, target, &mut client)
    })?;
    Ok(())
}

fn answer(method: &str, target: &str, stock: &mut Client) -> Response {
    let order = target.strip_prefix("/orders/").and_then(|order| order.parse::<u32>().ok());
    let order = match (method, order) {
        ("GET", Some(order)) => order,
        ("GET", None) => return Response::new(404, r#"{"error":"no such page"}"#),
        _ => return Response::new(405, ""),
    };
    let mut items = Vec::new();
    for item in [order, order.wrapping_mul(3).wrapping_add(1)] {
        match stock.send("GET", &format!("/items/{item}"), "") {
            Ok((200, item)) => items.push(item),
            Ok((404, _)) => return Response::new(404, r#"{"error":"an item is unknown"}"#),
            Ok(_) | Err(_) => return Response::new(502, r#"{"error":"the stock fails"}"#),
        }
    }
    Response::new(200, format!(r#"{{"order":{order},"items":[{}]}}"#, items.join(",")))
}
