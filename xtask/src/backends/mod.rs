//! Which real telemetry backends are here, and how does one get those that are not?
//!
//! Binaries are kept outside the tree, as `~/.cache/remora/backends/NAME-VERSION/NAME`, and a link
//! `NAME` beside these folders leads to the one in use: tests look there and nowhere else. Nothing
//! is installed into the system and nothing is started.

pub(crate) mod debian;
pub(crate) mod go;

use std::{
    env, fmt, fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context as _, Result, bail};

use crate::shell;

/// Names the folder of binaries to tests, which may run as another user.
pub(crate) const FOLDER: &str = "REMORA_BACKENDS";

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Which ones; without a name those that the default tests send to: otelcol, prometheus
    names: Vec<Backend>,
    /// Build or fetch them again
    #[arg(long)]
    again: bool,
}

#[derive(clap::ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Backend {
    /// The OpenTelemetry Collector of tests/backends/otelcol: 4 CPU minutes
    Otelcol,
    /// The distribution's Prometheus: seconds
    Prometheus,
    /// Prometheus 3, which takes OTLP: 4 CPU minutes
    Prometheus3,
    /// Jaeger 2: 10 CPU minutes
    Jaeger,
    /// Tempo: 7 CPU minutes
    Tempo,
    /// k6, which makes load: 2 CPU minutes
    K6,
}

/// What the default tests send to.
pub(crate) const DEFAULT: [Backend; 2] = [Backend::Otelcol, Backend::Prometheus];

/// Where a backend comes from.
enum Source {
    /// A program of this repository; the path is that of its Go module.
    Own { version: &'static str, module: &'static str },
    /// A program of a published Go module, built with that module's own requirements.
    Module { version: &'static str, module: Module },
    /// The distribution's package, unpacked and not installed.
    Package(&'static str),
}

struct Module {
    /// Path and version. Proxies know exact versions for certain, branches not always.
    module: &'static str,
    /// The program in it.
    program: &'static str,
    tags: &'static str,
}

impl Backend {
    fn name(self) -> &'static str {
        match self {
            Self::Otelcol => "otelcol",
            Self::Prometheus => "prometheus",
            Self::Prometheus3 => "prometheus3",
            Self::Jaeger => "jaeger",
            Self::Tempo => "tempo",
            Self::K6 => "k6",
        }
    }

    fn source(self) -> Source {
        match self {
            Self::Otelcol => Source::Own { version: "0.152.0", module: "tests/backends/otelcol" },
            Self::Prometheus => Source::Package("prometheus"),
            Self::Prometheus3 => Source::Module {
                version: "3.15.0",
                module: Module {
                    module: "github.com/prometheus/prometheus@v0.315.0",
                    program: "./cmd/prometheus",
                    // No service discovery but files and static lists: half of the build.
                    tags: "remove_all_sd",
                },
            },
            Self::Jaeger => Source::Module {
                version: "2.13.0",
                module: Module {
                    module: "github.com/jaegertracing/jaeger@v1.76.0",
                    program: "./cmd/jaeger",
                    tags: "",
                },
            },
            Self::Tempo => Source::Module {
                version: "2.9.0",
                module: Module {
                    // Its releases have no versions that Go knows.
                    module: "github.com/grafana/tempo@v1.5.1-0.20251008140505-607c7fb69662",
                    program: "./cmd/tempo",
                    tags: "",
                },
            },
            Self::K6 => Source::Module {
                version: "1.8.1",
                module: Module { module: "go.k6.io/k6@v1.8.1", program: ".", tags: "" },
            },
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let names = if options.names.is_empty() { &DEFAULT[..] } else { &options.names };
    ensure(names, options.again)
}

/// Gets those that are not here; one that cannot be had keeps no other from being had.
pub(crate) fn ensure(backends: &[Backend], again: bool) -> Result<()> {
    let folder = folder()?;
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let mut failed = Vec::new();
    for &backend in backends {
        let started = Instant::now();
        match get(backend, &folder, again) {
            Ok(Found::Here(path)) => {
                println!("backends: {backend} is present: {}", path.display());
            }
            Ok(Found::New(path)) => {
                let took = started.elapsed().as_secs();
                println!("backends: {backend} is now {} ({took} s)", path.display());
            }
            Err(error) => failed.push(format!("{backend}: {error:#}")),
        }
    }
    if !failed.is_empty() {
        bail!("{}", failed.join("; "));
    }
    Ok(())
}

enum Found {
    Here(PathBuf),
    New(PathBuf),
}

fn get(backend: Backend, folder: &Path, again: bool) -> Result<Found> {
    let name = backend.name();
    let link = folder.join(name);
    let versioned = |version: &str| folder.join(format!("{name}-{version}"));
    let (home, new) = match backend.source() {
        Source::Package(package) => {
            // Whatever version the distribution had when it was asked is good enough.
            let here = fs::read_link(&link).ok().filter(|_| !again && link.join(name).is_file());
            match here {
                Some(home) => (folder.join(home), false),
                None => (debian::unpack(package, folder)?, true),
            }
        }
        Source::Own { version, module } => {
            let home = versioned(version);
            let new = again || !go::is_built_from(&home, name, module);
            if new {
                go::build_own(&home, name, module, ".")?;
            }
            (home, new)
        }
        Source::Module { version, module } => {
            let home = versioned(version);
            let new = again || !home.join(name).is_file();
            if new {
                go::build_module(&home, name, &module)?;
            }
            (home, new)
        }
    };
    relink(&link, &home)?;
    let path = home.join(name);
    Ok(if new { Found::New(path) } else { Found::Here(path) })
}

/// Lets `link` lead to `home`, which lies beside it; at no time does it lead nowhere.
pub(crate) fn relink(link: &Path, home: &Path) -> Result<()> {
    let name = home.file_name().context("a folder has a name")?;
    if fs::read_link(link).is_ok_and(|target| target.as_os_str() == name) {
        return Ok(());
    }
    let new = link.with_extension(format!("new-{}", std::process::id()));
    symlink(name, &new).with_context(|| format!("cannot create {}", new.display()))?;
    fs::rename(&new, link).with_context(|| format!("cannot replace {}", link.display()))
}

/// Where the binaries are, whoever asks first.
pub(crate) fn folder() -> Result<PathBuf> {
    if let Some(folder) = env::var_os(FOLDER) {
        return Ok(folder.into());
    }
    Ok(shell::cache()?.join("backends"))
}
