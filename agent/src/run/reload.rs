//! Reads the configuration again, on SIGHUP and when the file changes, and hands over what a running
//! agent can take. A file that is wrong changes nothing.

use std::{path::PathBuf, sync::mpsc};

use tokio::signal::unix::{SignalKind, signal};

use super::{
    file_watch::FileWatch,
    handle::{Handle, Order},
    live::{Live, Reload},
};
use crate::{
    cli::Flags,
    config::{Changed, Config, Loaded, changed},
    discover::{NothingSelected, Selectors},
    log,
};

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
}

impl Reloader {
    pub(super) fn new(loaded: Loaded, flags: Flags, of: Of) -> Self {
        let Loaded { config, file, .. } = loaded;
        Self { flags, of, at_start: config.clone(), latest: config, file }
    }

    /// Reloads whenever there is a reason to. Without a file there is nothing to read again: then SIGHUP
    /// is what it is for other programs, and this returns.
    pub(super) async fn run(&mut self, handle: &Handle) {
        let mut hangup = signal(SignalKind::hangup()).expect("a signal that can be handled");
        let Some((path, text)) = self.file.take() else {
            hangup.recv().await;
            return;
        };
        let mut watch = FileWatch::new(path, text.into_bytes());
        loop {
            tokio::select! {
                _ = hangup.recv() => watch.look(),
                () = watch.changed() => {}
            }
            self.reload(handle);
        }
    }

    fn reload(&mut self, handle: &Handle) {
        let mut loaded = match Config::load_here(&self.flags) {
            Ok(loaded) => loaded,
            Err(error) => {
                return tracing::error!("the configuration stays as it was: {error}");
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
                "changed in the configuration, but in force only after a restart: {fixed}"
            );
        }
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
            Some(Err(error)) => {
                return tracing::error!("the configuration stays as it was: {error}");
            }
        };
        let (done, wait) = mpsc::channel();
        let reload = Reload { selectors, live: Live::of(&config), done };
        handle.order(Order::Reload(Box::new(reload)));
        // Where the worker has ended, who stops it will tell.
        let _ = wait.recv();
        log::change(&config.log_level.clone().unwrap_or_default());
        self.latest = config;
        tracing::info!("configuration in force, changed: {live}");
    }
}

fn keys(changed: &[Changed], which: impl Fn(&Changed) -> bool) -> String {
    let keys: Vec<&str> =
        changed.iter().filter(|key| which(key)).map(|changed| &*changed.key).collect();
    keys.join(", ")
}
