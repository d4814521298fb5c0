//! Harness of the end-to-end tests: starts the agent and real programs, reads the spans, compares
//! them with an oracle. Whatever a test starts it ends, by pid, also when it fails.
//!
//! Load and outages last some seconds. Where the variable `REMORA_TEST_LONG` is set they last 30.

pub mod address;
pub mod agent;
pub mod apache;
pub mod api_server;
pub mod backend;
pub mod backends;
pub mod books;
pub mod cgroup;
pub mod client;
pub mod collector;
pub mod config_file;
pub mod container;
pub mod containerd;
pub mod conversation;
pub mod cri;
pub mod curl;
pub mod database_clients;
pub mod doors;
pub mod examples;
pub mod frames;
pub mod http2;
pub mod images;
pub mod impatient;
pub mod kernel_objects;
pub mod lab;
pub mod lighttpd;
pub mod nginx;
pub mod node;
pub mod oracle;
pub mod parents;
pub mod plan;
pub mod podman;
pub mod postgres;
pub mod process;
pub mod programs;
pub mod random;
pub mod recording;
pub mod redis;
pub mod resident;
pub mod rustls_peers;
pub mod scripted;
pub mod services;
pub mod skip;
pub mod spans;
pub mod storm;
pub mod tls_lab;
pub mod workspaces;
pub mod wrk;
