//! A configuration file that is there as long as a test needs it.

use std::fs;

use tempfile::NamedTempFile;

pub struct ConfigFile(NamedTempFile);

impl ConfigFile {
    /// # Panics
    /// If there is no room for it.
    #[must_use]
    pub fn new(text: &str) -> Self {
        let file = NamedTempFile::new().expect("a file");
        fs::write(file.path(), text).expect("a file of ours");
        Self(file)
    }

    /// An agent that is not built for release and has two cores with its targets, their clients and
    /// whoever else may fall behind; ring and queue take it. The default sizes are for releases.
    #[must_use]
    pub fn roomy() -> Self {
        Self::new("limits: {ring: 128MiB, queue: 1GiB}\n")
    }

    /// The flags that make an agent read it.
    ///
    /// # Panics
    /// Never: temporary files have readable names.
    #[must_use]
    pub fn flags(&self) -> [&str; 2] {
        ["--config", self.0.path().to_str().expect("a readable name")]
    }
}
