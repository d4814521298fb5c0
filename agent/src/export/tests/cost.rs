//! Cost of a span on the pipeline thread: a number to read, not a test. By hand:
//! `cargo test --release -p remora --lib export::tests::cost -- --ignored --nocapture`

use std::{hint::black_box, time::Instant};

use super::*;
use crate::export::otlp::{Format, Signal, request::Request, spans};

/// What an HTTP server span has: 12 attributes.
fn http_span(resource: &Arc<Resource>) -> sample::Sample {
    let mut span = sample("GET /api/users/{id}", resource);
    span.attributes = [
        ("http.request.method", Value::from("GET")),
        ("url.scheme", "http".into()),
        ("url.path", "/api/users/48151623".into()),
        ("url.query", "fields=name%2Cemail".into()),
        ("http.route", "/api/users/{id}".into()),
        ("http.response.status_code", Value::Int(200)),
        ("network.protocol.version", "1.1".into()),
        ("server.address", "users.internal".into()),
        ("server.port", Value::Int(8080)),
        ("client.address", "10.42.7.19".into()),
        ("network.peer.port", Value::Int(53122)),
        ("user_agent.original", "Mozilla/5.0 (X11; Linux x86_64) curl/8.9".into()),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into();
    span.times = (1_800_000_000_123_456_789, 1_800_000_000_124_456_789);
    span
}

fn best_ns(rounds: usize, per_round: usize, mut work: impl FnMut()) -> f64 {
    let mut best = f64::MAX;
    for _ in 0..rounds {
        let start = Instant::now();
        (0..per_round).for_each(|_| work());
        best = best.min(start.elapsed().as_nanos() as f64 / per_round as f64);
    }
    best
}

#[tokio::test]
#[ignore = "prints timings"]
async fn nanoseconds_per_span() {
    let resources: Vec<_> = (0..4).map(|index| resource(&format!("service-{index}"))).collect();
    let samples: Vec<_> = resources.iter().map(http_span).collect();
    for format in [Format::Protobuf, Format::Json] {
        let encode = |out: &mut Vec<u8>, span: &sample::Sample| match format {
            Format::Protobuf => spans::protobuf(out, span),
            Format::Json => spans::json(out, span),
        };
        let mut out = Vec::new();
        encode(&mut out, &samples[0]);
        println!("{format:?}: {} bytes per span", out.len());
        let ns = best_ns(200, 1000, || {
            out.clear();
            encode(&mut out, black_box(&samples[0]));
        });
        println!("  encode                          {ns:.0} ns");
        let mut request = Request::new(Signal::Traces, format, 4 << 20);
        let mut next = 0_usize;
        let ns = best_ns(200, 1024, || {
            let span = black_box(&samples[next % 4]);
            next += 1;
            request.push(&span.resource, 1, |out| encode(out, span));
            if request.items() == 512 {
                black_box(request.seal());
            }
        });
        println!("  encode, group by 4 resources, seal each 512: {ns:.0} ns");
    }
    // The door itself: lock, count, encode, seal, queue, and no collector there.
    let mut settings = settings(&[("TRACES_ENDPOINT", "http://127.0.0.1:9"), ("PROTOCOL", "grpc")]);
    settings.queue.max_bytes = 1 << 20;
    let exporter = spawn(&settings);
    let ns = best_ns(200, 1024, || exporter.span(black_box(&samples[0])));
    println!("Exporter::span, queue full, evicting: {ns:.0} ns");
    finish(exporter, Duration::ZERO).await;
}
