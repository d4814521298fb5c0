//! How is waited: with patience, but no longer than until somebody presses Ctrl-C.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

static ENDING: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// From now on signals that end a program end waiting instead, so that what was started is taken down.
pub(super) fn heed_signals() -> Result<()> {
    let flag = ENDING.get_or_init(Arc::default);
    for signal in [SIGHUP, SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(flag))?;
    }
    Ok(())
}

/// # Errors
/// If somebody wants this program to end.
pub(super) fn go_on() -> Result<()> {
    match ENDING.get().is_some_and(|flag| flag.load(Relaxed)) {
        true => bail!("interrupted"),
        false => Ok(()),
    }
}

/// Asks every quarter of a second until there is an answer.
pub(super) fn until<T>(
    what: &str,
    patience: Duration,
    mut ask: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let begin = Instant::now();
    loop {
        go_on()?;
        if let Some(answer) = ask()? {
            return Ok(answer);
        }
        if begin.elapsed() > patience {
            bail!("waited {} s for {what}", patience.as_secs());
        }
        thread::sleep(Duration::from_millis(250));
    }
}

/// Does nothing for a while.
pub(super) fn pause(time: Duration) -> Result<()> {
    let begin = Instant::now();
    while begin.elapsed() < time {
        go_on()?;
        thread::sleep(Duration::from_millis(50).min(time));
    }
    Ok(())
}
