//! Prometheus: scrapes, or takes OTLP (3 and later), and is asked through its own API.

use std::{collections::BTreeMap, fs, net::SocketAddr};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Service, address, encoded, json};

/// Labels of a series, `__name__` among them.
pub type Labels = BTreeMap<String, String>;

pub struct Prometheus {
    service: Service,
    address: SocketAddr,
}

impl Prometheus {
    /// `name` says which: `prometheus` or `prometheus3`. Scrapes `targets`, named jobs, every half a
    /// second, each keeping the labels that it gives; the label `via` says which job it was.
    ///
    /// # Panics
    /// If it does not start.
    #[must_use]
    pub fn start(name: &'static str, targets: &[(&str, SocketAddr)]) -> Self {
        let folder = TempDir::new().expect("a folder");
        let address = address();
        let three = name == "prometheus3";
        let scrapes = targets.iter().map(|(job, target)| {
            let mut scrape = json!({
                "job_name": job,
                "honor_labels": true,
                // Two targets may have the same series.
                "metric_relabel_configs": [{ "target_label": "via", "replacement": job }],
                "static_configs": [{ "targets": [target.to_string()] }],
            });
            if three {
                scrape["scrape_native_histograms"] = json!(true);
            }
            scrape
        });
        let mut config = json!({
            "global": { "scrape_interval": "500ms" },
            "storage": { "exemplars": { "max_exemplars": 10_000 } },
            "scrape_configs": scrapes.collect::<Vec<_>>(),
        });
        let mut arguments = vec![
            format!("--config.file={}", folder.path().join("config").display()),
            format!("--storage.tsdb.path={}", folder.path().join("data").display()),
            format!("--web.listen-address={address}"),
            // Else the first scrape comes after 5 seconds.
            "--scrape.discovery-reload-interval=100ms".to_owned(),
        ];
        if three {
            config["otlp"] = json!({ "keep_identifying_resource_attributes": true });
            arguments.push("--web.enable-otlp-receiver".to_owned());
            arguments.push("--enable-feature=exemplar-storage".to_owned());
        } else {
            arguments.push("--enable-feature=exemplar-storage,native-histograms".to_owned());
        }
        fs::write(folder.path().join("config"), config.to_string()).expect("a file");
        let ready = format!("http://{address}/-/ready");
        let service = Service::start(name, folder, &arguments, &ready);
        let prometheus = Self { service, address };
        prometheus.wait_for("first scrape", || {
            let found = prometheus.ask("targets")["activeTargets"].as_array().cloned()?;
            let scraped = found.iter().filter(|target| target["health"] != "unknown");
            (scraped.count() == targets.len()).then_some(())
        });
        prometheus
    }

    /// Where it takes metrics as OTLP.
    #[must_use]
    pub fn otlp(&self) -> String {
        format!("http://{}/api/v1/otlp/v1/metrics", self.address)
    }

    /// What an instant query yields now: labels and value of each series.
    ///
    /// # Panics
    /// If it refuses the query.
    #[must_use]
    pub fn query(&self, query: &str) -> Vec<(Labels, f64)> {
        let value = |text: &Value| text[1].as_str().expect("text").parse().expect("a number");
        let results = self.results(query);
        results.iter().map(|result| (labels(&result["metric"]), value(&result["value"]))).collect()
    }

    /// The native histograms that an instant query yields now.
    ///
    /// # Panics
    /// If it refuses the query.
    #[must_use]
    pub fn histograms(&self, query: &str) -> Vec<(Labels, Value)> {
        let results = self.results(query).into_iter();
        results
            .filter(|result| !result["histogram"].is_null())
            .map(|result| (labels(&result["metric"]), result["histogram"][1].clone()))
            .collect()
    }

    fn results(&self, query: &str) -> Vec<Value> {
        let answer = self.ask(&format!("query?query={}", encoded(query)));
        answer["result"].as_array().cloned().unwrap_or_default()
    }

    /// The sum of a query's values, when it is `expected`.
    ///
    /// # Panics
    /// If it never is.
    pub fn until(&self, query: &str, expected: f64) {
        let mut last = Vec::new();
        let mut found = || {
            last = self.query(query);
            let sum: f64 = last.iter().map(|(_, value)| value).sum();
            (!last.is_empty() && (sum - expected).abs() < 1e-9).then_some(())
        };
        let start = std::time::Instant::now();
        while found().is_none() {
            let late = start.elapsed() > crate::process::patience();
            assert!(!late, "{query} is not {expected} but {last:#?}\n{}", self.service.log());
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }

    /// The exemplars of a query's series: labels of the series, labels of the exemplar, its value.
    ///
    /// # Panics
    /// If it refuses the query.
    #[must_use]
    pub fn exemplars(&self, query: &str) -> Vec<(Labels, Labels, f64)> {
        let answer = self.ask(&format!("query_exemplars?query={}", encoded(query)));
        let mut found = Vec::new();
        for series in answer.as_array().into_iter().flatten() {
            for exemplar in series["exemplars"].as_array().into_iter().flatten() {
                let value = exemplar["value"].as_str().expect("text").parse().expect("a number");
                found.push((labels(&series["seriesLabels"]), labels(&exemplar["labels"]), value));
            }
        }
        found
    }

    /// What targets said of a metric: type, unit and help.
    #[must_use]
    pub fn metadata(&self, metric: &str) -> Vec<Value> {
        let all = self.ask("metadata");
        all[metric].as_array().cloned().unwrap_or_default()
    }

    /// Of each scrape target its job and last error, which is empty where all is well.
    #[must_use]
    pub fn targets(&self) -> Vec<(String, String)> {
        let targets = self.ask("targets");
        let active = targets["activeTargets"].as_array().cloned().unwrap_or_default();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        active.iter().map(|one| (text(&one["scrapePool"]), text(&one["lastError"]))).collect()
    }

    fn ask(&self, what: &str) -> Value {
        // Over the last minutes, where a time can be said.
        let url = format!("http://{}/api/v1/{what}{}", self.address, range(what));
        let answer = json(&url).unwrap_or_else(|| panic!("{url}\n{}", self.service.log()));
        assert_eq!(answer["status"], "success", "{url}");
        answer["data"].clone()
    }

    /// What a poll finds.
    ///
    /// # Panics
    /// If it finds nothing.
    pub fn wait_for<T>(&self, what: &str, done: impl FnMut() -> Option<T>) -> T {
        self.service.wait_for(what, done)
    }
}

/// Exemplars are asked for over a span of time.
fn range(what: &str) -> String {
    if !what.starts_with("query_exemplars") {
        return String::new();
    }
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now = now.expect("a clock").as_secs();
    format!("&start={}&end={}", now - 600, now + 60)
}

fn labels(value: &Value) -> Labels {
    let labels = value.as_object().into_iter().flatten();
    labels
        .map(|(name, value)| (name.clone(), value.as_str().unwrap_or_default().to_owned()))
        .collect()
}
