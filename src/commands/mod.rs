//! The commands of the command line, a file each: what it takes, and how it runs.

pub mod allow;
pub mod backup;
pub mod check;
pub mod cluster;
pub mod compact;
pub mod completions;
pub mod constrain;
pub mod demo;
pub mod describe;
pub mod ending;
pub mod erase;
pub mod evaluate;
pub mod inspect;
mod machine;
pub mod man;
pub mod output;
mod progress;
pub mod recluster;
pub mod redrive;
pub mod replay;
pub mod run;
mod sample;
mod stopped;
pub mod synth;
pub mod token;
pub mod top;
mod verdict;
mod verify;

use std::io::IsTerminal;
use std::path::Path;

use anyhow::Context;
use facetd::config::{Config, Log, LogFormat};
use tracing_subscriber::EnvFilter;

/// The configuration, read as the daemon reads it, the log started as `log` makes of its own, and told what is odd.
fn start(path: &Path, log: impl FnOnce(&Log) -> Log) -> anyhow::Result<(Config, Logging)> {
    let config = Config::load(path).with_context(|| format!("the configuration {} is not right", path.display()))?;
    let logging = start_logging(&log(&config.log));
    for warning in config.warnings() {
        tracing::warn!("{warning}");
    }
    Ok((config, logging))
}

/// The same for an operator, to whom what the daemon logs of a start is not news.
fn configuration(path: &Path) -> anyhow::Result<Config> {
    Ok(start(path, |log| Log { level: "warn".into(), ..log.clone() })?.0)
}

/// The log that was started.
struct Logging {
    set_filter: Box<dyn Fn(EnvFilter) + Send>,
}

impl Logging {
    fn set_level(&self, log: &Log) {
        (self.set_filter)(filter(log));
    }
}

/// Logs go to standard error; what a command answers goes to standard output.
fn start_logging(log: &Log) -> Logging {
    let builder = tracing_subscriber::fmt().with_env_filter(filter(log)).with_writer(|| progress::Above);
    // A reader of the log that goes away must not take the daemon along.
    let builder = builder.log_internal_errors(false);
    match log.format {
        LogFormat::Text => {
            let builder = builder.with_ansi(std::io::stderr().is_terminal()).with_target(false).with_filter_reloading();
            let handle = builder.reload_handle();
            builder.init();
            // It fails only once there is no log any more.
            Logging { set_filter: Box::new(move |filter| drop(handle.reload(filter))) }
        }
        LogFormat::Json => {
            let builder = builder.json().with_filter_reloading();
            let handle = builder.reload_handle();
            builder.init();
            Logging { set_filter: Box::new(move |filter| drop(handle.reload(filter))) }
        }
    }
}

fn filter(log: &Log) -> EnvFilter {
    // hnsw_rs tells of every graph it makes; a filter of the user's own for it still wins.
    log.filter("hnsw_rs=warn,").expect("the configuration was checked")
}

/// The async edges of a command.
fn edges() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()
}
