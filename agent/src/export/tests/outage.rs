//! What goes wrong between agent and collector, and what is left of the spans.

use super::{
    QUEUE_BYTES,
    collector::{Answer, Collector, Script},
    *,
};
use crate::{config::Size, export::otlp::wire};

async fn start(grpc: bool, script: &Arc<Script>) -> Collector {
    if grpc {
        Collector::grpc(script, None, None).await
    } else {
        Collector::http(script, None, None).await
    }
}

fn protocol(grpc: bool) -> &'static str {
    if grpc { "grpc" } else { "http/protobuf" }
}

/// One request of 10 spans to a collector that answers by `script`.
async fn one_request(grpc: bool, script: &Arc<Script>, timeout: &str) -> LaneStats {
    let collector = start(grpc, script).await;
    let endpoint = format!("http://{}", collector.addr);
    let exporter = spawn(&settings(&[
        ("ENDPOINT", &endpoint),
        ("PROTOCOL", protocol(grpc)),
        ("TIMEOUT", timeout),
    ]));
    spans(&exporter, 0..10);
    finish(exporter, PATIENCE).await
}

#[tokio::test]
async fn a_small_queue_loses_nothing_while_the_collector_works() {
    let script = Script::answering([]);
    let collector = start(false, &script).await;
    let mut config = Config::default();
    config.limits.queue = Size::kib(64);
    let endpoint = format!("http://{}", collector.addr);
    let flags = Flags {
        settings: [("--otlp-endpoint", endpoint)].into_iter().collect(),
        ..Flags::default()
    };
    config.output = Config::load(&flags, |_| None, None).unwrap().config.output;
    let exporter = spawn(&Settings::of(&config).unwrap());
    // Within one schedule delay, more than the queue holds.
    for number in 0..300 {
        spans(&exporter, [number]);
        until("room", || account(&exporter).queued_bytes == 0).await;
    }
    finish_clean(exporter, &script, 300).await;
    collector.stop().await;
}

#[tokio::test]
async fn a_collector_stopped_and_restarted_gets_everything_in_order() {
    for grpc in [true, false] {
        let script = Script::answering([]);
        let collector = start(grpc, &script).await;
        let addr = collector.addr;
        let exporter = spawn(&settings(&[
            ("ENDPOINT", &format!("http://{addr}")),
            ("PROTOCOL", protocol(grpc)),
            ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "10"),
        ]));
        spans(&exporter, 0..100);
        until("the first spans", || script.span_names().len() == 100).await;
        collector.stop().await;
        spans(&exporter, 100..1000);
        until("failed attempts", || account(&exporter).failed_attempts >= 3).await;
        assert_eq!(account(&exporter).queued, 900);
        let collector = if grpc {
            Collector::grpc(&script, Some(addr), None).await
        } else {
            Collector::http(&script, Some(addr), None).await
        };
        until("the rest", || script.span_names().len() == 1000).await;
        assert_eq!(script.span_names(), names(0..1000));
        finish_clean(exporter, &script, 1000).await;
        collector.stop().await;
    }
}

#[tokio::test]
async fn a_backlog_goes_out_in_few_requests_unless_the_batch_size_is_set() {
    let script = Script::answering([Answer::Http(503, None)]);
    let collector = start(false, &script).await;
    let endpoint = format!("http://{}", collector.addr);
    let exporter = spawn(&settings(&[("ENDPOINT", &endpoint)]));
    spans(&exporter, 0..5120); // ten requests
    until("all spans", || script.span_names().len() == 5120).await;
    assert_eq!(script.span_names(), names(0..5120));
    assert!(script.received().len() <= 4, "{}", script.received().len());
    finish_clean(exporter, &script, 5120).await;
}

#[tokio::test]
async fn a_full_queue_drops_the_oldest_and_counts() {
    let script = Script::answering([]);
    let collector = start(false, &script).await;
    let addr = collector.addr;
    collector.stop().await;
    let exporter = spawn(&settings(&[
        ("ENDPOINT", &format!("http://{addr}")),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "10"),
        (QUEUE_BYTES, "20000"),
    ]));
    for numbers in 0..100 {
        spans(&exporter, numbers * 10..(numbers + 1) * 10);
        tokio::task::yield_now().await;
    }
    let lane = account(&exporter);
    let kept = lane.queued;
    assert!(kept >= 50 && lane.queued_bytes <= 20_000, "{lane:?}");
    let collector = Collector::http(&script, Some(addr), None).await;
    until("what was kept", || account(&exporter).queued == 0).await;
    let lane = finish(exporter, PATIENCE).await;
    assert_eq!(dropped(&lane, DropReason::QueueFull), 1000 - kept);
    assert_eq!(script.span_names().len() as u64, kept);
    // The youngest are there, in order; an older request may have been on the wire all the while.
    let youngest = names(1000 - kept as usize + 10..1000);
    assert!(script.span_names().ends_with(&youngest));
    collector.stop().await;
}

#[tokio::test]
async fn retry_after_is_waited_for() {
    let script = Script::answering([Answer::Http(429, Some("1".into()))]);
    let lane = {
        let collector = start(false, &script).await;
        let endpoint = format!("http://{}", collector.addr);
        let exporter =
            spawn(&settings(&[("ENDPOINT", &endpoint), ("OTEL_BSP_SCHEDULE_DELAY", "1")]));
        spans(&exporter, 0..10);
        until("the second attempt", || script.received().len() == 2).await;
        finish(exporter, PATIENCE).await
    };
    assert_eq!((lane.exported, lane.failed_attempts), (10, 1));
    let received = script.received();
    assert!(received[1].at - received[0].at >= Duration::from_secs(1));
}

#[tokio::test]
async fn failures_that_pass_are_retried_until_they_do() {
    let http = [429, 502, 503, 504].map(|status| Answer::Http(status, None));
    let script = Script::answering(http);
    let lane = one_request(false, &script, "5000").await;
    assert_eq!((lane.exported, lane.failed_attempts), (10, 4));

    let grpc = [1, 4, 10, 11, 14, 15].map(|code| Answer::Grpc(code.into(), Vec::new()));
    let script = Script::answering(grpc);
    let lane = one_request(true, &script, "5000").await;
    assert_eq!((lane.exported, lane.failed_attempts), (10, 6));
}

#[tokio::test]
async fn failures_that_do_not_pass_are_not_retried() {
    for status in [400, 401, 404, 413, 500, 301] {
        let script = Script::answering([Answer::Http(status, None)]);
        let lane = one_request(false, &script, "5000").await;
        assert_eq!(
            (dropped(&lane, DropReason::Refused), script.received().len()),
            (10, 1),
            "{status}"
        );
    }
    for code in [2, 3, 5, 7, 8, 12, 13, 16] {
        let script = Script::answering([Answer::Grpc(code.into(), Vec::new())]);
        let lane = one_request(true, &script, "5000").await;
        assert_eq!(
            (dropped(&lane, DropReason::Refused), script.received().len()),
            (10, 1),
            "{code}"
        );
    }
}

#[tokio::test]
async fn an_exhausted_server_that_says_when_is_retried_then() {
    let mut details = Vec::new();
    wire::message(&mut details, 3, |any| {
        wire::bytes(any, 1, b"type.googleapis.com/google.rpc.RetryInfo");
        // RetryInfo { retry_delay: Duration { nanos: 300_000_000 } }
        wire::message(any, 2, |info| {
            wire::message(info, 1, |delay| wire::uint(delay, 2, 300_000_000))
        });
    });
    let script = Script::answering([Answer::Grpc(tonic::Code::ResourceExhausted, details)]);
    let collector = start(true, &script).await;
    let endpoint = format!("http://{}", collector.addr);
    let exporter = spawn(&settings(&[
        ("ENDPOINT", &endpoint),
        ("PROTOCOL", "grpc"),
        ("OTEL_BSP_SCHEDULE_DELAY", "1"),
    ]));
    spans(&exporter, 0..10);
    until("the second attempt", || script.received().len() == 2).await;
    let received = script.received();
    assert!(received[1].at - received[0].at >= Duration::from_millis(300));
    finish_clean(exporter, &script, 10).await;
}

#[tokio::test]
async fn what_a_collector_rejects_of_a_request_is_counted_and_not_sent_again() {
    for grpc in [true, false] {
        let script = Script::answering([Answer::Partly(3)]);
        let lane = one_request(grpc, &script, "5000").await;
        assert_eq!((dropped(&lane, DropReason::PartlyRefused), lane.exported), (3, 7));
        assert_eq!(script.received().len(), 1);
    }
}

#[tokio::test]
async fn a_collector_that_hangs_is_given_up_after_the_timeout() {
    for grpc in [true, false] {
        let script = Script::answering([Answer::Hang, Answer::Hang]);
        let start = Instant::now();
        let lane = one_request(grpc, &script, "150").await;
        assert!(start.elapsed() >= Duration::from_millis(300));
        assert_eq!((lane.exported, lane.failed_attempts), (10, 2));
    }
}

#[tokio::test]
async fn a_timeout_of_zero_is_no_limit() {
    for grpc in [true, false] {
        let script = Script::answering([]);
        let lane = one_request(grpc, &script, "0").await;
        assert_eq!((lane.exported, lane.failed_attempts), (10, 0));
        assert_eq!(script.received().len(), 1);
    }
    let unbounded = settings(&[("ENDPOINT", "http://127.0.0.1:1"), ("TIMEOUT", "0")]);
    assert_eq!(unbounded.traces.unwrap().timeout, None);
}

#[tokio::test]
async fn a_connection_that_went_silent_does_not_hold_up_the_next_one() {
    for grpc in [true, false] {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (endpoint, script) = (format!("http://{addr}"), Script::answering([]));
        let exporter = spawn(&settings(&[
            ("ENDPOINT", &endpoint),
            ("PROTOCOL", protocol(grpc)),
            ("TIMEOUT", "150"),
            ("OTEL_BSP_SCHEDULE_DELAY", "1"),
        ]));
        spans(&exporter, 0..10);
        let (silent, _) = listener.accept().await.unwrap();
        drop(listener);
        let collector = if grpc {
            Collector::grpc(&script, Some(addr), None).await
        } else {
            Collector::http(&script, Some(addr), None).await
        };
        until("spans on another connection", || script.span_names().len() == 10).await;
        drop(silent);
        finish_clean(exporter, &script, 10).await;
        collector.stop().await;
    }
}

#[tokio::test]
async fn of_requests_refused_together_only_the_bad_one_is_lost() {
    let script = Script::answering([
        Answer::Http(503, None), // the first request, alone
        Answer::Http(200, None), // again: accepted; three wait
        Answer::Http(400, None), // the three together
        Answer::Http(200, None),
        Answer::Http(400, None), // the second of them
    ]);
    let collector = start(false, &script).await;
    let endpoint = format!("http://{}", collector.addr);
    let mut settings = settings(&[("ENDPOINT", &endpoint)]);
    settings.batch.max_batch_items = 512;
    let exporter = spawn(&settings);
    spans(&exporter, 0..512 * 4);
    let lane = finish(exporter, PATIENCE).await;
    assert_eq!((dropped(&lane, DropReason::Refused), lane.exported), (512, 512 * 3));
}

#[tokio::test]
async fn what_cannot_be_sent_in_time_at_the_end_is_counted() {
    let script = Script::answering([]);
    let collector = start(false, &script).await;
    let addr = collector.addr;
    collector.stop().await;
    let exporter = spawn(&settings(&[("ENDPOINT", &format!("http://{addr}"))]));
    spans(&exporter, 0..700);
    let start = Instant::now();
    let late = exporter.clone();
    let lane = finish(exporter, Duration::from_millis(100)).await;
    assert!(start.elapsed() < PATIENCE);
    assert_eq!(dropped(&lane, DropReason::Shutdown), 700);
    spans(&late, 0..5);
    let lane = account(&late);
    assert_eq!((lane.accepted, lane.queued, dropped(&lane, DropReason::Shutdown)), (705, 0, 705));
}
