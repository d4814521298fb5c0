//! TLS with an authority of one's own and a client certificate, over gRPC and HTTP.

use super::{
    collector::{Collector, Script},
    pki::Pki,
    *,
};

#[tokio::test]
async fn spans_pass_tls_with_a_client_certificate_and_only_with_it() {
    for grpc in [true, false] {
        let (pki, script) = (Pki::new(), Script::answering([]));
        let collector = if grpc {
            Collector::grpc(&script, None, Some(&pki)).await
        } else {
            Collector::http(&script, None, Some(&pki)).await
        };
        let endpoint = format!("https://localhost:{}", collector.addr.port());
        let protocol = if grpc { "grpc" } else { "http/protobuf" };
        let files = pki.files();
        let mut vars = vec![
            ("ENDPOINT", &*endpoint),
            ("PROTOCOL", protocol),
            ("OTEL_BSP_SCHEDULE_DELAY", "1"),
        ];
        vars.extend(files.iter().map(|(name, path)| (*name, path.to_str().unwrap())));

        let exporter = spawn(&settings(&vars));
        spans(&exporter, 0..10);
        finish_clean(exporter, &script, 10).await;

        // The authority alone: the server wants to know who we are.
        let exporter = spawn(&settings(&vars[..4]));
        spans(&exporter, 0..10);
        until("a refused handshake", || account(&exporter).failed_attempts > 0).await;
        let lane = finish(exporter, Duration::ZERO).await;
        assert_eq!((lane.exported, dropped(&lane, DropReason::Shutdown)), (0, 10));
        assert_eq!(script.span_names().len(), 10);
    }
}

#[tokio::test]
async fn a_server_that_another_authority_vouches_for_gets_nothing() {
    for grpc in [true, false] {
        let (pki, other, script) = (Pki::new(), Pki::new(), Script::answering([]));
        let collector = if grpc {
            Collector::grpc(&script, None, Some(&other)).await
        } else {
            Collector::http(&script, None, Some(&other)).await
        };
        let endpoint = format!("https://localhost:{}", collector.addr.port());
        let protocol = if grpc { "grpc" } else { "http/json" };
        let files = pki.files();
        let mut vars = vec![
            ("ENDPOINT", &*endpoint),
            ("PROTOCOL", protocol),
            ("OTEL_BSP_SCHEDULE_DELAY", "1"),
        ];
        vars.extend(files.iter().map(|(name, path)| (*name, path.to_str().unwrap())));
        let exporter = spawn(&settings(&vars));
        spans(&exporter, 0..10);
        until("a refused handshake", || account(&exporter).failed_attempts > 0).await;
        let lane = finish(exporter, Duration::ZERO).await;
        assert_eq!((lane.exported, script.received().len()), (0, 0));
    }
}
