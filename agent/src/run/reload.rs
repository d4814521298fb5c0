//! Reads the configuration again, on SIGHUP and when the file changes, and hands over what a running
//! agent can take. A file that is wrong changes nothing.

use std::{
    path::PathBuf,
    sync::{Arc, mpsc},
};

use procfs::process::Process;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{
    file_watch::FileWatch,
    handle::{Handle, Order},
    health::Health,
    live::{Live, Reload},
};
use crate::{
    config::{Changed, Config, Flags, Loaded, changed},
    discover::{NothingSelected, Selectors},
    log,
};

/// SIGHUP in a set of signals.
const HANGUP: u64 = 1;

/// Which command it is: they select differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Of {
    Run,
    Exec,
}

impl Of {
    pub(super) fn selectors(self, config: &Config) -> Result<Selectors, NothingSelected> {
        let (exclude, own_pid) = (config.exclude.clone(), std::process::id());
        match self {
            Self::Run => {
                let takes = config.selectors.iter().map(|selector| selector.takes.clone());
                Selectors::new(takes.collect(), exclude, own_pid)
            }
            Self::Exec => Ok(Selectors::for_exec(config.service_name.clone(), exclude, own_pid)),
        }
    }
}

/// See the module.
pub(super) struct Reloader {
    flags: Flags,
    of: Of,
    /// What cannot change is in force as it was at the start.
    at_start: Config,
    /// What can is in force as it was read last.
    latest: Config,
    file: Option<(PathBuf, String)>,
    health: Arc<Health>,
    hangup: Signal,
    ignores_hangup: bool,
}

impl Reloader {
    /// From now on SIGHUP is for it.
    pub(super) fn new(loaded: Loaded, flags: Flags, of: Of, health: &Arc<Health>) -> Self {
        let Loaded { config, file, .. } = loaded;
        let health = Arc::clone(health);
        let own = Process::myself().and_then(|process| process.status());
        let ignores_hangup = own.is_ok_and(|own| own.sigign & HANGUP != 0);
        let hangup = signal(SignalKind::hangup()).expect("a signal that can be handled");
        Self {
            flags,
            of,
            at_start: config.clone(),
            latest: config,
            file,
            health,
            hangup,
            ignores_hangup,
        }
    }

    /// Reloads whenever there is a reason to. Without a file there is nothing to read again: then SIGHUP
    /// is what it is for other programs, and this returns, unless whoever started the agent had it
    /// ignored (`nohup`).
    pub(super) async fn run(&mut self, handle: &Handle) {
        let Some((path, text)) = self.file.take() else {
            if self.ignores_hangup {
                std::future::pending::<()>().await;
            }
            self.hangup.recv().await;
            return;
        };
        let mut watch = FileWatch::new(path, text.into_bytes());
        loop {
            tokio::select! {
                _ = self.hangup.recv() => watch.look(),
                () = watch.changed() => {}
            }
            self.reload(handle);
        }
    }

    fn reload(&mut self, handle: &Handle) {
        let mut loaded = match Config::load_here(&self.flags) {
            Ok(loaded) => loaded,
            Err(error) => {
                return self.refuse(&error.to_string());
            }
        };
        if self.of == Of::Exec {
            loaded.config.selectors.clear();
        }
        let Loaded { config, warnings, .. } = loaded;
        for warning in warnings {
            tracing::warn!("{warning}");
        }
        let fixed = keys(&changed(&self.at_start, &config), |key| !key.live);
        if !fixed.is_empty() {
            tracing::warn!(
                "changed in the configuration, but in force only after a restart: {}",
                fixed.join(", ")
            );
        }
        self.health.configuration(|configuration| {
            configuration.waiting_for_restart = fixed;
            configuration.mistakes = None;
        });
        let changed = changed(&self.latest, &config);
        let live = keys(&changed, |key| key.live);
        if live.is_empty() {
            return tracing::info!("configuration read again: nothing to change");
        }
        let is_selection =
            |key: &Changed| matches!(&*key.key, "selectors" | "exclude" | "service_name");
        let selectors = match changed.iter().any(is_selection).then(|| self.of.selectors(&config)) {
            None => None,
            Some(Ok(selectors)) => Some(selectors),
            Some(Err(error)) => return self.refuse(&error.to_string()),
        };
        let (done, wait) = mpsc::channel();
        let reload = Reload { selectors, live: Live::of(&config), done };
        handle.order(Order::Reload(Box::new(reload)));
        // Where the worker has ended, who stops it will tell.
        let _ = wait.recv();
        log::change(&config.log_level.clone().unwrap_or_default());
        self.latest = config;
        self.health.configuration(|configuration| configuration.reloaded += 1);
        tracing::info!("configuration in force, changed: {}", live.join(", "));
    }

    fn refuse(&self, mistakes: &str) {
        tracing::error!("the configuration stays as it was: {mistakes}");
        self.health.configuration(|configuration| {
            configuration.refused += 1;
            configuration.mistakes = Some(mistakes.to_owned());
        });
    }
}

fn keys(changed: &[Changed], which: impl Fn(&Changed) -> bool) -> Vec<String> {
    changed.iter().filter(|key| which(key)).map(|changed| changed.key.clone()).collect()
}
