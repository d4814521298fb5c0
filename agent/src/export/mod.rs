pub mod exportable;
pub mod metrics_data;
pub mod otlp;
