//! `facetd run`: the daemon.

use std::path::PathBuf;
use std::pin::pin;

use anyhow::Context;
use clap::Args;
use facetd::config::Config;
use facetd::daemon::{Daemon, Incarnation};
use tokio::signal::unix::{SignalKind, signal};

#[derive(Args)]
pub struct Arguments {
    /// The configuration; config/facetd.toml shows every key
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// If state and Kafka do not go together, go on with the state as it is, under another name, and tell everything anew
    #[arg(long)]
    new_incarnation: bool,
}

pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let config = Config::load(&arguments.config)
        .with_context(|| format!("the configuration {} is not right", arguments.config.display()))?;
    super::start_logging(&config.log);
    tracing::info!(version = env!("CARGO_PKG_VERSION"), config = %arguments.config.display(), "starting");
    let incarnation = if arguments.new_incarnation { Incarnation::NewIfNeeded } else { Incarnation::Same };
    let edges = super::edges()?;
    let outcome = edges.block_on(serve(config, incarnation));
    // A start that was interrupted may still be loading; there is nothing in it to be lost.
    edges.shutdown_background();
    outcome
}

async fn serve(config: Config, incarnation: Incarnation) -> anyhow::Result<()> {
    // Before anything is started, so that no signal is missed.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut stop = pin!(async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    });
    // Loading a large state takes a while and can be stopped too.
    let start = tokio::spawn(Daemon::start(config, incarnation));
    let daemon = tokio::select! {
        started = start => started??,
        () = &mut stop => {
            tracing::info!("stopped while starting");
            return Ok(());
        }
    };
    let shutdown = daemon.shutdown();
    let running = tokio::spawn(daemon.wait());
    tokio::select! {
        // A thread may have ended on its own account.
        () = shutdown.requested() => {}
        () = &mut stop => shutdown.request(),
    }
    running.await??;
    tracing::info!("stopped");
    Ok(())
}
