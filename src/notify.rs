//! What systemd is told of a service of `Type=notify`: that it is ready, reloads or stops, and that it lives.
//!
//! That it lives is told of the engine's progress and not of a timer: the engine's thread counts each turn of its loop, also
//! one without anything to do, and the watchdog hears of a count that moved. So an engine that is stuck is started
//! anew, and one that idles is not. Where no systemd asks, nothing is told.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sd_notify::NotifyState;

use crate::shutdown::Shutdown;

/// How long a start may go on after each word of it.
const LOADING: Duration = Duration::from_secs(30);
/// How many words there are in the time in which one is expected, so that one may be late.
const WORDS: u32 = 3;

/// How often the engine's thread has come round. Clones are the same count.
#[derive(Debug, Clone, Default)]
pub struct Progress(Arc<AtomicU64>);

impl Progress {
    pub fn made(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn turns(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The state is loaded and input is taken; also after a reload. `status` is shown by `systemctl status`.
pub fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// The configuration is read again, until [`ready`].
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(since) => tell(&[NotifyState::Reloading, since]),
        Err(_) => tell(&[NotifyState::Reloading]),
    }
}

pub fn stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("commits and publishes what is at hand")]);
}

/// Asks for more time, again and again: how long a state takes to load no unit can know.
pub async fn loading() -> Infallible {
    tell(&[NotifyState::Status("loads the state")]);
    loop {
        let microseconds = LOADING.as_micros().try_into().unwrap_or(u32::MAX);
        tell(&[NotifyState::ExtendTimeoutUsec(microseconds)]);
        tokio::time::sleep(LOADING / WORDS).await;
    }
}

/// Tells the watchdog of `progress` until `shutdown`, where there is one.
pub async fn feed_watchdog(progress: Progress, shutdown: Shutdown) {
    let Some(patience) = sd_notify::watchdog_enabled() else { return };
    let mut told = 0;
    loop {
        tokio::select! {
            () = tokio::time::sleep(patience / WORDS) => {}
            () = shutdown.requested() => return,
        }
        let turns = progress.turns();
        if turns != told {
            told = turns;
            tell(&[NotifyState::Watchdog]);
        }
    }
}

fn tell(what: &[NotifyState]) {
    // A daemon that works does not stop because nobody hears of it.
    if let Err(error) = sd_notify::notify(what) {
        tracing::warn!(%error, "systemd does not hear what it is told");
    }
}
