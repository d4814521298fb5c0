//! `--otlp-file`: one request in JSON per line, beside a collector or alone.

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;

use super::{
    QUEUE_BYTES,
    collector::{Collector, Script},
    *,
};
use crate::export::settings::FileTarget;

#[tokio::test]
async fn each_line_of_the_file_is_one_request_and_the_collector_gets_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("spans.jsonl");
    let script = Script::answering([]);
    let collector = Collector::http(&script, None, None).await;
    for protocol in ["http/protobuf", "http/json"] {
        let endpoint = format!("http://{}", collector.addr);
        let mut settings = settings(&[
            ("TRACES_ENDPOINT", &endpoint),
            ("PROTOCOL", protocol),
            ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "10"),
        ]);
        settings.file = Some(FileTarget::Path(path.clone()));
        let exporter = spawn(&settings);
        spans(&exporter, 0..25);
        let stats = exporter.shutdown(PATIENCE).await;
        assert!(stats.iter().all(LaneStats::balances));
        assert_eq!(stats.iter().map(|lane| lane.exported).collect::<Vec<_>>(), [25, 25, 0]);
    }
    let text = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<ExportTraceServiceRequest> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 6); // appended to, the second time
    let spans =
        |request: &ExportTraceServiceRequest| request.resource_spans[0].scope_spans[0].spans.len();
    assert_eq!(lines.iter().map(spans).collect::<Vec<_>>(), [10, 10, 5, 10, 10, 5]);
    assert_eq!(script.span_names().len(), 50);
}

#[tokio::test]
async fn a_full_disk_is_counted_and_does_not_disturb_the_collector() {
    let script = Script::answering([]);
    let collector = Collector::grpc(&script, None, None).await;
    let mut settings = settings(&[
        ("TRACES_ENDPOINT", &format!("http://{}", collector.addr)),
        ("PROTOCOL", "grpc"),
    ]);
    settings.file = Some(FileTarget::Path("/dev/full".into()));
    let exporter = spawn(&settings);
    spans(&exporter, 0..700);
    let stats = exporter.shutdown(PATIENCE).await;
    assert!(stats.iter().all(|lane| lane.balances() && lane.queued == 0));
    assert_eq!(stats[0].exported, 700);
    assert_eq!(dropped(&stats[1], DropReason::WriteFailed), 700);
}

#[test]
fn a_file_that_cannot_be_opened_is_an_error_with_its_name() {
    let mut settings = settings(&[]);
    settings.file = Some(FileTarget::Path("/nonexistent/spans.jsonl".into()));
    let error = Exporters::build(&settings).err().unwrap();
    assert_eq!(error.to_string(), "cannot open /nonexistent/spans.jsonl for --otlp-file");
}

#[tokio::test]
async fn a_source_that_waits_for_room_loses_nothing_to_a_small_queue() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("spans.jsonl");
    let mut settings =
        settings(&[("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "10"), (QUEUE_BYTES, "20000")]);
    settings.file = Some(FileTarget::Path(path));
    let exporter = spawn(&settings);
    for number in 0..2000 {
        if number % 10 == 0 {
            exporter.room().await;
        }
        spans(&exporter, [number]);
    }
    let lane = finish(exporter, PATIENCE).await;
    assert_eq!((lane.exported, lane.dropped.total()), (2000, 0));
}
