//! Exports through a proxy, by every protocol, and what is said of one that is dead.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
};

use super::{
    collector::{Collector, Script},
    *,
};
use crate::export::{
    otlp::Signal,
    transport::{Outcome, Transport, proxy::Proxy},
};

/// A proxy that takes everybody to `collector`, and the first lines of what it was asked.
async fn forward(collector: SocketAddr) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let lines = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let lines = Arc::clone(&lines);
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(client.read_u8().await.unwrap());
                }
                let line = String::from_utf8_lossy(&head).lines().next().unwrap().to_owned();
                let mut server = TcpStream::connect(collector).await.unwrap();
                if line.starts_with("CONNECT ") {
                    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
                } else {
                    server.write_all(&head).await.unwrap();
                }
                lines.lock().unwrap().push(line);
                let _ = copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    (addr, asked)
}

fn through(proxy: SocketAddr, protocol: &str) -> Transport {
    let endpoint = "http://collector.invalid:4317";
    let settings = settings(&[("ENDPOINT", endpoint), ("PROTOCOL", protocol)]);
    let settings = settings.traces.unwrap();
    let lookup = |name: &str| (name == "HTTP_PROXY").then(|| format!("http://{proxy}"));
    let proxy = Proxy::of(&settings.endpoint, &lookup).unwrap();
    Transport::through(proxy, Signal::Traces, &settings).unwrap()
}

#[tokio::test]
async fn exports_go_through_the_proxy_by_every_protocol() {
    for protocol in ["grpc", "http/protobuf"] {
        let script = Script::answering([]);
        let collector = if protocol == "grpc" {
            Collector::grpc(&script, None, None).await
        } else {
            Collector::http(&script, None, None).await
        };
        let (proxy, asked) = forward(collector.addr).await;
        let outcome = through(proxy, protocol).send(Bytes::new()).await;
        assert!(matches!(outcome, Outcome::Accepted(_)), "{protocol}: {outcome:?}");
        assert_eq!(script.received().len(), 1);
        let expected = match protocol {
            "grpc" => "CONNECT collector.invalid:4317 HTTP/1.1",
            _ => "POST http://collector.invalid:4317/v1/traces HTTP/1.1",
        };
        assert_eq!(*asked.lock().unwrap(), [expected]);
    }
}

#[tokio::test]
async fn a_dead_proxy_is_named_in_the_error() {
    for protocol in ["grpc", "http/json"] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = listener.local_addr().unwrap();
        drop(listener);
        let outcome = through(proxy, protocol).send(Bytes::new()).await;
        let Outcome::Later { reason, .. } = outcome else { panic!("{protocol}: {outcome:?}") };
        let named = format!("through the proxy http://{proxy}: ");
        assert!(reason.starts_with(&named), "{protocol}: {reason}");
        assert!(reason.contains("refused"), "{protocol}: {reason}");
    }
}
