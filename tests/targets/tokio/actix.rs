//! As `service.rs`, with actix-web: a few threads, each of which has a runtime and tasks of its own. Arguments: the other service's
//! port; the second one is not looked at.
//!
//! | path | the other service is asked |
//! |---|---|
//! | `/turn/7` | in turn, by the handler |
//! | `/once/7` | both at once, by the handler |
//! | `/spawn/7` | both at once, by tasks of their own |

use std::env;

use actix_web::{App, HttpRequest, HttpServer, rt, web};
use reqwest::Client;

async fn ask(client: Client, port: u16, name: &'static str, number: u32) {
    let url = format!("http://127.0.0.1:{port}/{name}/{number}");
    let answer = client.get(url).send().await.expect("an answer");
    assert_eq!(answer.text().await.expect("its content"), "ok");
}

async fn serve(request: HttpRequest, other: web::Data<(u16, Client)>) -> &'static str {
    let mut parts = request.path().split('/').skip(1);
    let (how, number) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let number = number.parse().expect("a number");
    let (port, client) = (other.0, other.1.clone());
    let first = ask(client.clone(), port, "first", number);
    let second = ask(client, port, "second", number);
    match how {
        "turn" => {
            first.await;
            second.await;
        }
        "once" => {
            futures_util::join!(first, second);
        }
        "spawn" => {
            let (first, second) = (rt::spawn(first), rt::spawn(second));
            first.await.expect("done");
            second.await.expect("done");
        }
        _ => return "no such way",
    }
    "done"
}

fn main() -> std::io::Result<()> {
    let port: u16 = env::args().nth(1).and_then(|port| port.parse().ok()).expect("a port");
    rt::System::new().block_on(async move {
        let server = HttpServer::new(move || {
            let client = Client::builder().no_proxy().build().expect("a client");
            App::new().app_data(web::Data::new((port, client))).default_service(web::to(serve))
        });
        let server = server.workers(3).bind(("127.0.0.1", 0))?;
        println!("{}", server.addrs()[0].port());
        server.run().await
    })
}
