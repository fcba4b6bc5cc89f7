//! `facetd run`: the daemon.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use facetd::config::Config;
use facetd::daemon::Daemon;
use tokio::signal::unix::{SignalKind, signal};

#[derive(Args)]
pub struct Arguments {
    /// The configuration; config/facetd.toml shows every key
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let config = Config::load(&arguments.config)
        .with_context(|| format!("the configuration {} is not right", arguments.config.display()))?;
    super::start_logging(&config.log);
    super::edges()?.block_on(serve(config))
}

async fn serve(config: Config) -> anyhow::Result<()> {
    // Before anything is started, so that no signal is missed.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let daemon = Daemon::start(config).await?;
    let shutdown = daemon.shutdown();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        shutdown.request();
    });
    daemon.wait().await?;
    tracing::info!("stopped");
    Ok(())
}
