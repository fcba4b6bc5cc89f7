//! `facetd run`: the daemon. SIGTERM and SIGINT stop it, SIGHUP has it read its configuration again.

use std::path::PathBuf;
use std::pin::pin;

use clap::Args;
use facetd::config::{Config, Log};
use facetd::daemon::reload::Reloader;
use facetd::daemon::{Daemon, Incarnation};
use facetd::notify;
use tokio::signal::unix::{SignalKind, signal};

use super::Logging;

#[derive(Args)]
#[command(after_help = "Examples:
  facetd run --config /etc/facetd/facetd.toml
  FACETD_KAFKA__BROKERS=a:9092 FACETD_LOG__LEVEL=debug facetd run --config facetd.toml

SIGTERM and Ctrl-C finish the batch at hand, commit, publish and end with 0. SIGHUP has the configuration read again.
`facetd check` says beforehand what would keep it from running.")]
pub struct Arguments {
    /// The configuration; config/facetd.toml shows every key
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// If state and Kafka do not go together, go on with the state as it is, under another name, and tell everything anew
    #[arg(long)]
    new_incarnation: bool,
}

pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let (config, logging) = super::start(&arguments.config, Log::clone)?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), config = %arguments.config.display(), "starting");
    let edges = super::edges()?;
    let outcome = edges.block_on(serve(arguments, config, logging));
    // A start that was interrupted may still be loading; there is nothing in it to be lost.
    edges.shutdown_background();
    outcome
}

async fn serve(arguments: &Arguments, config: Config, logging: Logging) -> anyhow::Result<()> {
    // Before anything is started, so that no signal is missed.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    let mut stop = pin!(async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    });
    let status = format!("takes faces from topic {}, listens on {}", config.kafka.input_topic, config.http.listen);
    let incarnation = if arguments.new_incarnation { Incarnation::NewIfNeeded } else { Incarnation::Same };
    // Loading a large state takes a while and can be stopped too.
    let start = tokio::spawn(Daemon::start(config.clone(), incarnation));
    let daemon = tokio::select! {
        started = start => started??,
        never = notify::loading() => match never {},
        () = &mut stop => {
            tracing::info!("stopped while starting");
            return Ok(());
        }
    };
    notify::ready(&status);
    let shutdown = daemon.shutdown();
    tokio::spawn(notify::feed_watchdog(daemon.progress(), shutdown.clone()));
    let mut reloader = Reloader::new(config, daemon.tuning(), daemon.renewing());
    let running = tokio::spawn(daemon.wait());
    loop {
        tokio::select! {
            // A thread may have ended on its own account.
            () = shutdown.requested() => break,
            () = &mut stop => break,
            _ = hang_up.recv() => {
                notify::reloading();
                reloader.renew();
                match Config::load(&arguments.config) {
                    Ok(config) => {
                        logging.set_level(&config.log);
                        reloader.reload(&config);
                    }
                    Err(error) => {
                        tracing::error!(%error, "the configuration is not right, and nothing of it is taken over");
                    }
                }
                notify::ready(&status);
            }
        }
    }
    notify::stopping();
    shutdown.request();
    running.await??;
    tracing::info!("stopped");
    Ok(())
}
