//! The files of `deploy/examples`, with addresses of one test.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use tempfile::TempDir;

use crate::backends::Service;

/// A file or a folder of the examples.
#[must_use]
pub fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/examples").join(name)
}

/// The text of an example in which each `from` is there and stands as its `to`.
///
/// # Panics
/// If one is not there.
#[must_use]
pub fn changed(name: &str, changes: &[(&str, &str)]) -> String {
    let path = path(name);
    let mut text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
    for (from, to) in changes {
        assert!(text.contains(from), "{name} has no {from}");
        text = text.replace(from, to);
    }
    text
}

/// Addresses of the examples, and those of a test.
pub struct Moved(Vec<(&'static str, SocketAddr)>);

impl Moved {
    /// Each of these examples' addresses to one of this test's own.
    #[must_use]
    pub fn new(addresses: &[&'static str]) -> Self {
        Self(addresses.iter().map(|&from| (from, crate::backends::address())).collect())
    }

    /// Where `from` went.
    ///
    /// # Panics
    /// If it did not.
    #[must_use]
    pub fn to(&self, from: &str) -> SocketAddr {
        self.0.iter().find(|(moved, _)| *moved == from).expect("an address of the example").1
    }

    /// The text of an example with those of the addresses that it has, and with `changes`.
    #[must_use]
    pub fn text(&self, name: &str, changes: &[(&str, &str)]) -> String {
        let mut text = changed(name, changes);
        for (from, to) in &self.0 {
            text = text.replace(from, &to.to_string());
        }
        text
    }

    /// Starts a backend with an example and these arguments, `@CONFIG@` and `@FOLDER@` in them its files.
    #[must_use]
    pub fn start(
        &self,
        backend: &'static str,
        example: &str,
        changes: &[(&str, &str)],
        arguments: &[&str],
        ready: &str,
    ) -> Service {
        let folder = TempDir::new().expect("a folder");
        let root = folder.path().display().to_string();
        let config = folder.path().join("config.yaml");
        fs::write(&config, self.text(example, changes).replace("@FOLDER@", &root)).expect("a file");
        let config = config.display().to_string();
        let arguments: Vec<String> = arguments
            .iter()
            .map(|text| text.replace("@CONFIG@", &config).replace("@FOLDER@", &root))
            .collect();
        Service::start(backend, folder, &arguments, ready)
    }
}

/// Every configuration of the agent among the examples.
///
/// # Panics
/// If a folder cannot be read.
#[must_use]
pub fn configurations() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for folder in fs::read_dir(path("")).expect("our folder").flatten() {
        for file in fs::read_dir(folder.path()).into_iter().flatten().flatten() {
            let name = file.file_name().to_string_lossy().into_owned();
            let vendors = folder.file_name() == "vendors";
            if name.ends_with(".yaml") && (vendors || name.starts_with("remora")) {
                found.push(file.path());
            }
        }
    }
    found.sort();
    found
}
