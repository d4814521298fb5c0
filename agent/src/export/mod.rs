pub mod metrics_data;
pub mod print;
pub mod prometheus;
