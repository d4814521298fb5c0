//! The agent as a process: builds every stage from the configuration, attaches, says that it is ready,
//! and on a signal detaches first, then drains, flushes and prints the books.
//!
//! ```text
//! main thread   configuration -> programs -> signals ................. -> detach -> flush -> books
//! worker        ring -> assemble -> correlate -> aggregate -> encode     (worker.rs)
//! tokio         exporters, Prometheus endpoint
//! ```

mod books;
mod deltas;
mod descriptors;
mod event_loops;
mod file_watch;
mod gate;
mod handle;
mod health;
mod live;
mod outlet;
mod parts;
mod pods;
mod readers;
mod reload;
mod replay;
mod report;
mod schedule;
mod service;
mod snapshot;
mod stages;
mod telemetry;
mod terminal;
mod tls;
mod unseen;
mod watch;
mod worker;

use std::{
    ffi::OsString,
    io,
    path::PathBuf,
    process::{ExitCode, ExitStatus},
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use self::{
    gate::Gated,
    handle::{Handle, Order, Totals},
    health::{Answers, Health},
    parts::Parts,
    reload::{Of, Reloader},
    report::Report,
};
pub use self::{gate::pass as pass_gate, replay::replay};
use crate::{
    attach::TlsSources,
    bpf::{self, LoadError, Programs},
    config::{Flags, Loaded},
    discover::{NothingSelected, Selectors, cloud},
    doctor::{self, Check, HostFacts},
    export::{BuildError, Exporter, Exporters, prometheus, settings::SettingsError},
    recording::read::ReadError,
    semantics::http,
    serve::Server,
    status::Phase,
};

/// How long spans that are queued at the end may take to leave.
const FLUSH: Duration = Duration::from_secs(5);

/// Why the agent cannot run, or could not go on.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error(transparent)]
    NothingSelected(#[from] NothingSelected),
    #[error(transparent)]
    Settings(#[from] SettingsError),
    #[error(transparent)]
    Export(#[from] BuildError),
    #[error("cannot listen on {addr} for Prometheus")]
    Prometheus {
        addr: std::net::SocketAddr,
        #[source]
        source: io::Error,
    },
    #[error("cannot listen on {addr} for probes of health")]
    Listen {
        addr: std::net::SocketAddr,
        #[source]
        source: io::Error,
    },
    #[error("cannot write the recording {}", path.display())]
    Record {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{}", path.display())]
    Recording {
        path: PathBuf,
        #[source]
        source: ReadError,
    },
    #[error("{0}")]
    Privileges(String),
    #[error(
        "the agent may open {most} files at once, expected at least {}: raise its RLIMIT_NOFILE",
        descriptors::LEAST
    )]
    Descriptors { most: u64 },
    #[error("cannot attach to the kernel")]
    Load(#[from] LoadError),
    #[error("the worker thread has ended by itself: a defect, of which the log above says more")]
    Worker,
    #[error("cannot start {what}")]
    Start {
        what: String,
        #[source]
        source: io::Error,
    },
}

impl RunError {
    /// 2 for what the user has to change in the call, 1 for the rest.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::NothingSelected(_) | Self::Settings(_) => 2,
            _ => 1,
        }
    }
}

/// `remora run`: until SIGINT or SIGTERM. `flags` are what `loaded` was made with, and stay in force when
/// its file is read again.
///
/// # Errors
/// What keeps it from starting.
pub fn run(loaded: Loaded, flags: Flags) -> Result<ExitCode, RunError> {
    descriptors::enough()?;
    let selectors = Of::Run.selectors(&loaded.config)?;
    let runtime = runtime()?;
    let guard = runtime.enter();
    let agent = Agent::start(&loaded, selectors)?;
    agent.handle.order(Order::Scan);
    let mut reloader = Reloader::new(loaded, flags, Of::Run, &agent.health);
    agent.ready();
    let asked = runtime.block_on(async {
        tokio::select! {
            () = interrupted() => true,
            () = reloader.run(&agent.handle) => true,
            () = agent.handle.ended() => false,
        }
    });
    agent.stop(&runtime);
    drop(guard);
    end(runtime);
    if asked { Ok(ExitCode::SUCCESS) } else { Err(RunError::Worker) }
}

/// Waits for SIGINT or SIGTERM.
async fn interrupted() {
    let mut interrupt = signal(SignalKind::interrupt()).expect("a signal that can be handled");
    let mut terminate = signal(SignalKind::terminate()).expect("a signal that can be handled");
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

/// `remora exec`: until the command ends; its exit code becomes ours (128 + signal, if one ended it).
///
/// # Errors
/// What keeps the agent or the command from starting.
pub fn exec(mut loaded: Loaded, flags: Flags, command: &[OsString]) -> Result<ExitCode, RunError> {
    descriptors::enough()?;
    loaded.config.selectors.clear();
    let selectors = Of::Exec.selectors(&loaded.config)?;
    let runtime = runtime()?;
    let guard = runtime.enter();
    let agent = Agent::start(&loaded, selectors)?;
    let mut reloader = Reloader::new(loaded, flags, Of::Exec, &agent.health);
    let start =
        |source| RunError::Start { what: command[0].to_string_lossy().into_owned(), source };
    let mut gated = Gated::spawn(command).map_err(start)?;
    agent.handle.order(Order::Adopt(gated.child.id(), gate::executable(&command[0])));
    agent.ready();
    gated.open().map_err(start)?;
    let status = runtime.block_on(async {
        // A terminal sends SIGINT to the command as well; what only we get is passed on.
        let mut interrupt = signal(SignalKind::interrupt()).expect("a signal that can be handled");
        let mut terminate = signal(SignalKind::terminate()).expect("a signal that can be handled");
        let pid = gated.child.id();
        let mut ended = tokio::task::spawn_blocking(move || gated.child.wait());
        let mut reloads = std::pin::pin!(reloader.run(&agent.handle));
        let mut hung_up = false;
        loop {
            tokio::select! {
                status = &mut ended => return status.expect("waiting does not panic"),
                () = &mut reloads, if !hung_up => {
                    hung_up = true;
                    gate::terminate(pid);
                }
                _ = interrupt.recv() => {}
                _ = terminate.recv() => gate::terminate(pid),
            }
        }
    });
    agent.stop(&runtime);
    drop(guard);
    end(runtime);
    Ok(exit_code(status.map_err(start)?))
}

fn exit_code(status: ExitStatus) -> ExitCode {
    use std::os::unix::process::ExitStatusExt;
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    ExitCode::from(u8::try_from(code.unwrap_or(1)).unwrap_or(1))
}

fn runtime() -> Result<tokio::runtime::Runtime, RunError> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("remora-export")
        .enable_all()
        .build()
        .map_err(|source| RunError::Start { what: "the export threads".into(), source })
}

/// Does not wait for threads in calls that do not return: writing to a pipe that nobody reads, asking a
/// name server that does not answer. What they hold is in the books as dropped.
fn end(runtime: tokio::runtime::Runtime) {
    runtime.shutdown_background();
}

/// Everything that runs.
struct Agent {
    handle: Handle,
    exporter: Exporter,
    stop_serving: CancellationToken,
    health: Arc<Health>,
    /// Health is told to the end.
    stop_telling: CancellationToken,
    started: Instant,
}

impl Agent {
    /// Attaches everything, selects nothing yet.
    fn start(loaded: &Loaded, selectors: Selectors) -> Result<Self, RunError> {
        let started = Instant::now();
        let config = &loaded.config;
        let file = loaded.file.as_ref().map(|(path, _)| path.display().to_string());
        let health = Arc::new(Health::new(file));
        let stop_telling = CancellationToken::new();
        if let Some(addr) = config.listen {
            let server = tokio::runtime::Handle::current()
                .block_on(Server::bind(addr))
                .map_err(|source| RunError::Listen { addr, source })?;
            tokio::spawn(server.run(Answers(Arc::clone(&health)), stop_telling.clone()));
        }
        // Meanwhile the kernel verifies programs.
        let cloud = config.detection.cloud();
        let cloud = tokio::spawn(async move { cloud::detect(&cloud).await });
        let exporters = Exporters::build(&crate::export::settings::Settings::of(config)?)?;
        let mut parts = Parts::of(config, selectors);
        parts.live.redact();
        announce_options();
        let facts = HostFacts::probe();
        if let Some(missing) = parts::missing_privilege(&facts) {
            return Err(RunError::Privileges(missing));
        }
        let mut programs = Programs::attach(&parts.kernel)?;
        let tls = TlsSources::new(&mut programs);
        let exporter = exporters.spawn();
        let stop_serving = CancellationToken::new();
        let listener = match config.output.prometheus {
            Some(addr) => Some(prometheus_server(addr)?),
            None => None,
        };
        tracing::info!(
            door = programs.door().as_str(),
            outputs = %parts.outputs,
            "watching {}",
            parts.selection
        );
        let shortfalls = doctor::shortfalls(&facts, programs.refusals(), &tls);
        if !shortfalls.is_empty() {
            let named: Vec<String> = shortfalls.iter().map(ToString::to_string).collect();
            tracing::info!("off or reduced here, see `remora doctor`: {}", named.join("; "));
        }
        let mut checks =
            vec![Check::ok("kernel programs", format!("attached by {}", programs.door().as_str()))];
        if tls.is_ok() {
            checks.push(Check::ok(
                "TLS",
                "OpenSSL 1.1 and 3 and Go's crypto/tls are probed where they are loaded",
            ));
        }
        checks.extend(shortfalls);
        // Bounded by `detection.cloud_limit` from the start on; a detector that panicked has found nothing.
        let cloud = tokio::runtime::Handle::current().block_on(cloud).unwrap_or_default();
        parts.host = parts.host.rented(cloud);
        let (kubernetes, peers) = (parts.kubernetes.clone(), parts.peers.clone());
        let handle = worker::spawn(programs, tls.ok(), parts, exporter.clone())?;
        health.attached(&checks, handle.questions());
        if let Some(settings) = kubernetes {
            pods::follow(settings, &handle, peers, stop_serving.clone());
        }
        if let Some(server) = listener {
            let source = prometheus::Scrapes(Totals(handle.questions()));
            tokio::spawn(server.run(source, stop_serving.clone()));
        }
        Ok(Self { handle, exporter, stop_serving, health, stop_telling, started })
    }

    /// Says that everything is attached and every process that runs already was looked at.
    fn ready(&self) {
        self.handle.settle();
        self.health.enter(Phase::Ready);
        tracing::debug!(elapsed = ?self.started.elapsed(), "ready");
        bpf::give_back_memory();
        service::ready(&self.handle);
    }

    /// Detaches, drains, flushes, and prints the books.
    fn stop(self, runtime: &tokio::runtime::Runtime) {
        self.health.enter(Phase::Stopping);
        service::stopping();
        let books = self.handle.stop();
        self.stop_serving.cancel();
        let lanes = runtime.block_on(self.exporter.shutdown(FLUSH));
        self.stop_telling.cancel();
        eprint!("{}", Report { books: &books, lanes: &lanes });
    }
}

/// Options of semantics, which are one for the process.
fn announce_options() {
    if let Ok(methods) = std::env::var("OTEL_INSTRUMENTATION_HTTP_KNOWN_METHODS")
        && !methods.trim().is_empty()
    {
        http::set_known_methods(&methods);
    }
}

fn prometheus_server(addr: std::net::SocketAddr) -> Result<Server, RunError> {
    tokio::runtime::Handle::current()
        .block_on(Server::bind(addr))
        .map_err(|source| RunError::Prometheus { addr, source })
}
