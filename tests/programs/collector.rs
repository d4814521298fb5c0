//! The tests' collector by itself, for benches: `collector grpc` says where it listens.

use remora_tests::collector::{Collector, Protocol};

fn main() {
    let protocol = match std::env::args().nth(1).as_deref() {
        Some("grpc") => Protocol::Grpc,
        Some("http/protobuf") => Protocol::HttpProtobuf,
        other => panic!("a protocol, not {other:?}"),
    };
    let collector = Collector::start(protocol);
    println!("{}", collector.endpoint());
    // Until it is ended from outside.
    loop {
        std::thread::park();
    }
}
