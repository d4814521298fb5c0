//! A service over rustls that asks another one twice for each request, with the request's number, by hyper: `/turn/7` in turn,
//! `/once/7` both at once, in tasks of their own.
//!
//! `parents serve FOLDER PORT`: with the cert.pem and key.pem in FOLDER; prints its port. `parents ask PORT CLIENTS EACH HOW`
//! asks it.

#[path = "../../programs/tls/client.rs"]
mod client;
#[path = "../../programs/tls/server.rs"]
mod server;

use std::{
    env,
    error::Error,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use http_body_util::{BodyExt as _, Empty, Full};
use hyper::{
    Request, Response,
    body::{Bytes, Incoming},
    client::conn::http1::{SendRequest, handshake},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsConnector, rustls::pki_types::ServerName};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// Connections to the other service, each used by one at a time.
struct Pool {
    port: u16,
    connector: TlsConnector,
    idle: Mutex<Vec<SendRequest<Empty<Bytes>>>>,
}

impl Pool {
    fn new(port: u16) -> Self {
        Self { port, connector: client::connector(), idle: Mutex::default() }
    }

    async fn connection(&self) -> Result<SendRequest<Empty<Bytes>>> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        if let Some(idle) = idle {
            return Ok(idle);
        }
        let stream = TcpStream::connect(("127.0.0.1", self.port)).await?;
        stream.set_nodelay(true)?;
        let stream = self.connector.connect(ServerName::try_from("t")?, stream).await?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(sender)
    }

    async fn ask(&self, path: String) -> Result<()> {
        let mut sender = self.connection().await?;
        sender.ready().await?;
        let request = Request::get(&path).header("host", "t").body(Empty::new())?;
        let response = sender.send_request(request).await?;
        assert_eq!(response.status(), 200, "{path}");
        response.into_body().collect().await?;
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(sender);
        Ok(())
    }
}

async fn answer(request: Request<Incoming>, pool: Arc<Pool>) -> Result<Response<Full<Bytes>>> {
    let mut words = request.uri().path()[1..].split('/');
    let how = words.next().unwrap_or_default();
    let number = words.next().unwrap_or_default();
    let paths = ["first", "second"].map(|name| format!("/{name}/{number}"));
    if how == "turn" {
        for path in paths {
            pool.ask(path).await?;
        }
    } else {
        let tasks = paths.map(|path| {
            let pool = Arc::clone(&pool);
            tokio::spawn(async move { pool.ask(path).await })
        });
        for task in tasks {
            task.await??;
        }
    }
    Ok(Response::new(Full::from("done")))
}

async fn serve(folder: &Path, port: u16) -> Result<()> {
    let (acceptor, pool) = (server::acceptor(folder)?, Arc::new(Pool::new(port)));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?.port());
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let (acceptor, pool) = (acceptor.clone(), Arc::clone(&pool));
        tokio::spawn(async move {
            let stream = acceptor.accept(stream).await?;
            let service = service_fn(move |request| answer(request, Arc::clone(&pool)));
            http1::Builder::new().serve_connection(TokioIo::new(stream), service).await?;
            Result::Ok(())
        });
    }
}

async fn ask(port: u16, clients: usize, each: usize, how: &str) -> Result<()> {
    let tasks: Vec<_> = (0..clients)
        .map(|client| {
            let how = how.to_owned();
            tokio::spawn(async move {
                let connection = Pool::new(port);
                for order in client * each..(client + 1) * each {
                    connection.ask(format!("/{how}/{order}")).await?;
                }
                Result::Ok(())
            })
        })
        .collect();
    for task in tasks {
        task.await??;
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["serve", folder, port] => serve(Path::new(folder), port.parse()?).await,
        ["ask", port, clients, each, how] => {
            ask(port.parse()?, clients.parse()?, each.parse()?, how).await
        }
        _ => Err("serve FOLDER PORT, or ask PORT CLIENTS EACH HOW".into()),
    }
}
