//! What wrk counts.

use std::process::Command;

use crate::process::output;

/// A run of wrk with one thread.
pub struct Wrk {
    /// Answers that were read to their end while it ran. What it had sent and waited for when its time
    /// was up, one per connection at most, it does not count.
    pub requests: u64,
    pub text: String,
}

impl Wrk {
    /// # Panics
    /// If it fails or says nothing of requests.
    #[must_use]
    pub fn run(url: &str, connections: usize, seconds: u64) -> Self {
        let mut wrk = Command::new("wrk");
        wrk.arg("-t1").arg(format!("-c{connections}")).arg(format!("-d{seconds}")).arg(url);
        let text = output(&mut wrk);
        let line = text.lines().find(|line| line.contains("requests in")).expect("a count");
        let requests = line.split_whitespace().next().and_then(|word| word.parse().ok());
        let requests = requests.expect("a number");
        assert!(!text.contains("Socket errors") && !text.contains("Non-2xx"), "{text}");
        Self { requests, text }
    }
}
