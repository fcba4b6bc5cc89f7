//! What a daemon at work takes over of a configuration that was read again, and what has to wait for its next start. The
//! files of tokens and of the certificate are read again too, the same ones: other names for them wait.
//!
//! The engine's thread looks at [`Tuning`] once a batch; nobody tells it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::config::{Config, Limits};
use crate::http::renewing::Renewing;

/// The keys that are taken over. `log.level` is the command's, which has the log.
const TAKEN_OVER: [&str; 6] = [
    "engine.batch_faces",
    "engine.batch_wait",
    "engine.refresh_per_face",
    "limits.faces",
    "limits.memory_bytes",
    "log.level",
];

/// How records are gathered.
#[derive(Debug, Clone, Copy)]
pub struct Batching {
    pub faces: usize,
    pub wait: Duration,
}

/// What may change between two batches.
#[derive(Debug, Clone, Copy)]
pub struct Tuning {
    pub batching: Batching,
    /// Stale faces scored again for each record.
    pub refresh_per_face: usize,
    /// The number of faces and the memory are looked at; the others are of the source.
    pub limits: Limits,
}

impl Tuning {
    pub fn new(config: &Config) -> Tuning {
        let engine = &config.engine;
        let batching = Batching { faces: engine.batch_faces, wait: engine.batch_wait };
        Tuning { batching, refresh_per_face: engine.refresh_per_face, limits: config.limits }
    }
}

/// Reloads one daemon.
pub struct Reloader {
    /// By its keys what the daemon runs with.
    running: Config,
    tuning: watch::Sender<Tuning>,
    renewing: Arc<Renewing>,
}

impl Reloader {
    /// Of the daemon that was started with `config`.
    pub fn new(config: Config, tuning: watch::Sender<Tuning>, renewing: Arc<Renewing>) -> Reloader {
        Reloader { running: config, tuning, renewing }
    }

    /// Reads tokens and certificate again, whatever the configuration is like.
    pub fn renew(&self) {
        self.renewing.again();
    }

    /// Takes over of `config` what can be, and logs of every key that changed what became of it.
    pub fn reload(&mut self, config: &Config) {
        self.tuning.send_replace(Tuning::new(config));
        let changed = self.running.changed(config);
        for key in &changed {
            match TAKEN_OVER.contains(&key.as_str()) {
                true => {
                    self.running.take_over(key, config);
                    tracing::info!(key, "taken over");
                }
                false => tracing::warn!(key, "changed, and needs a restart"),
            }
        }
        tracing::info!(changed = changed.len(), "configuration reloaded");
    }
}
