//! The daemon: the rooms wired into threads.
//!
//! ```text
//! source ──queue──► pipeline (engine, store) ──word──► publisher
//! ```
//! Three threads, a listener and a control socket ([`control`]), one signal to stop. A thread that ends, well or not, stops the
//! others; the first error is what the daemon ends with.

pub mod control;
mod fit;
mod gauges;
pub mod incarnation;
pub mod pipeline;
pub mod recluster;
pub mod reload;
mod room;
pub mod settings;
pub mod shard;
pub mod sharding;
mod snapshots;
mod sorting;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle as Task;

use crate::asks;
use crate::audit::{Audit, AuditError};
use crate::clock;
use crate::codec::Decoder;
use crate::config::Config;
use crate::http::renewing::{Renewing, RenewingError};
use crate::http::{self, Desk, ListenError, Shown, UnderWay};
use crate::metrics::Metrics;
use crate::model::onnx::RunOptions;
use crate::model::{Artefact, ModelError, OnnxModel, Runtime};
use crate::notify::Progress;
use crate::publish::{LAST_ENTRIES, PublishError, Publisher};
use crate::shutdown::Shutdown;
use crate::source::kafka::Source;
use crate::source::topics::check_topics;
use crate::source::{self, Lag, SourceError};
use crate::traces::Traces;
use crate::view::View;
use control::Control;
use pipeline::Pipeline;
use reload::Tuning;
use room::Room;
use shard::{Shard, ShardError, ShardSettings};

/// How long the publisher may take once the others have stopped: the last entries, and a call that is under way.
/// librdkafka's send_offsets_to_transaction does not keep to its limit while the group's coordinator is gone
/// (confluentinc/librdkafka#5456).
const LAST_WORD: Duration = LAST_ENTRIES.saturating_add(Duration::from_secs(2));

/// How long answers on the way may take once everything else has stopped.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// How long writing down what became of the last deeds may take then: the engine is gone, so that it is the disk alone.
const LAST_OUTCOMES: Duration = Duration::from_secs(3);

/// How long a collector may take for the last spans.
const LAST_SPANS: Duration = Duration::from_secs(1);

/// Why the daemon did not start or did not go on.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    #[error(transparent)]
    Model(#[from] ModelError),
    #[error(transparent)]
    Shard(#[from] ShardError),
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error(transparent)]
    Publish(#[from] PublishError),
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error(transparent)]
    Renewing(#[from] RenewingError),
    #[error(transparent)]
    Audit(#[from] AuditError),
    #[error("the listener failed: {0}")]
    Serve(std::io::Error),
    #[error("cannot start a thread: {0}; raise the limit of threads")]
    Thread(std::io::Error),
    #[error("the {0} thread panicked; this is a bug, its place is in the log")]
    Panicked(&'static str),
}

/// What to do when state and Kafka do not go together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Incarnation {
    /// Refuse to start.
    Same,
    /// Go on under another name and tell everything anew.
    NewIfNeeded,
}

/// A daemon at work.
pub struct Daemon {
    shutdown: Shutdown,
    threads: Vec<Worker>,
    listener: Task<()>,
    control: Option<Task<()>>,
    address: SocketAddr,
    metrics: Arc<Metrics>,
    progress: Progress,
    tuning: watch::Sender<Tuning>,
    renewing: Arc<Renewing>,
    /// Where the listener asks the engine.
    desk: Arc<OnceLock<Desk>>,
    /// What is done by hand.
    under_way: UnderWay,
    traces: Option<Arc<Traces>>,
}

struct Worker {
    name: &'static str,
    thread: JoinHandle<Result<(), DaemonError>>,
    /// Closed when it is over.
    over: mpsc::Receiver<Infallible>,
    /// How long it is waited for; None: without end.
    patience: Option<Duration>,
}

/// A loaded model and what its folder says.
pub struct LoadedModel {
    pub artefact: Artefact,
    pub model: Arc<OnnxModel>,
}

impl LoadedModel {
    pub fn load(config: &crate::config::Model) -> Result<LoadedModel, ModelError> {
        let artefact = Artefact::open(&config.dir, config.stage)?;
        let runtime = Runtime::load(Some(config.runtime.as_path()).filter(|path| !path.as_os_str().is_empty()))?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = if config.threads == 0 { cores } else { config.threads };
        let model = OnnxModel::load(&runtime, &artefact, RunOptions { device: config.device, threads })?;
        Ok(LoadedModel { artefact, model: Arc::new(model) })
    }
}

impl Daemon {
    /// Starts everything: listener first, so that health can be asked while the state is loaded.
    pub async fn start(config: Config, incarnation: Incarnation) -> Result<Daemon, DaemonError> {
        let metrics = Arc::new(Metrics::new());
        let view = Arc::new(View::default());
        let shutdown = Shutdown::default();
        let renewing = Arc::new(Renewing::read(&config.http, metrics.clone())?);
        let tokens = renewing.tokens();
        let listener = http::listen(config.http.listen, tokens.is_some()).await?;
        let address = listener.local_addr().map_err(DaemonError::Serve)?;
        if !address.ip().is_loopback() && config.http.tls().is_none() {
            tracing::warn!(%address, "tokens are sent as they are to where others reach it: set http.tls_certificate, or have a proxy before it");
        }
        let traces = Traces::start(&config, &metrics).map(Arc::new);
        let mut shown = Shown::new(metrics.clone(), view.clone(), shutdown.clone(), tokens, config.http.connections);
        shown.traces = traces.clone();
        let (desk, under_way) = (shown.desk.clone(), shown.under_way.clone());
        let listener = tokio::spawn(http::serve(listener, shown, renewing.clone()));

        let (progress, tuning) = (Progress::default(), watch::Sender::new(Tuning::new(&config)));
        let threads = Vec::new();
        let control = None;
        let mut daemon = Daemon {
            shutdown,
            threads,
            listener,
            control,
            address,
            metrics,
            progress,
            tuning,
            renewing,
            desk,
            under_way,
            traces,
        };
        // Loading blocks: models, state, brokers.
        let started = tokio::task::block_in_place(|| daemon.start_workers(&config, incarnation, view));
        match started {
            Ok(()) => Ok(daemon),
            Err(error) => {
                daemon.shutdown.request();
                let _ = daemon.wait().await;
                Err(error)
            }
        }
    }

    fn start_workers(&mut self, config: &Config, incarnation: Incarnation, view: Arc<View>) -> Result<(), DaemonError> {
        let metrics = self.metrics.clone();
        let LoadedModel { artefact, model } = LoadedModel::load(&config.model)?;
        let device = model.device().to_string();
        metrics.device.with_label_values(&[device.as_str()]).set(1);
        metrics.stage.with_label_values(&[artefact.stage.name()]).set(1);
        tracing::info!(model = %artefact.name, stage = %artefact.stage, %device, "model loaded");

        // Before the state, which takes longer: a missing broker should be told at once.
        let partitions = check_topics(&config.kafka)?;
        let settings = ShardSettings::new(config, &artefact);
        let mut shard = Shard::open(&config.state.dir, settings, model, view, metrics.clone())?;
        // The state's folder is there now.
        let audit = Audit::open(&config.audit())?;
        if incarnation == Incarnation::NewIfNeeded {
            incarnation::begin_if_needed(&mut shard, &config.kafka, &partitions, &audit, clock::now())?;
        }
        let lag = Arc::new(Lag::new(metrics.source_lag_records.clone()));
        let decoder = Decoder {
            dimension: artefact.shape.dimension,
            default_collection: config.collections.default.clone(),
            max_message_bytes: config.limits.message_bytes,
        };
        let positions = shard.positions();
        let mut source = Source::connect(&config.kafka, &partitions, decoder, positions, lag.clone(), metrics.clone())?;
        let traces = self.traces.clone();
        if traces.is_some() {
            source.follow_traces();
            shard.keep_laps();
        }
        let reconciliation = shard.reconciliation(&config.kafka, &partitions);
        let mut publisher = Publisher::connect(reconciliation, metrics.clone(), &self.shutdown)?;

        let (sender, queue) = source::queue(config.limits.queued_faces, metrics.source_queued_faces.clone());
        let (asks, asked) = asks::wire(queue.knocker());
        let (committed, word) = mpsc::sync_channel(1);
        let (tuning, progress, room) = (self.tuning.subscribe(), self.progress.clone(), Room::default());
        let mut pipeline = Pipeline { shard, tuning, room, queue, committed, lag, asked, progress, metrics, traces };
        // Not a reason not to run: a backup can be had of a stopped daemon too.
        match Control::listen(&config.state.dir) {
            Ok(control) => self.control = Some(tokio::spawn(control.serve(asks.clone(), self.shutdown.clone()))),
            Err(error) => {
                let path = config.state.dir.join(control::SOCKET);
                tracing::warn!(path = %path.display(), %error, "no control socket: backup needs this daemon stopped");
            }
        }

        self.spawn("publisher", Some(LAST_WORD), move |shutdown| Ok(publisher.run(&word, shutdown)?))?;
        self.spawn("engine", None, move |shutdown| Ok(pipeline.run(shutdown)?))?;
        self.spawn("source", None, move |shutdown| Ok(source.run(&sender, shutdown)?))?;
        let (dimension, default_collection) = (artefact.shape.dimension, config.collections.default.clone());
        // It is asked for the first time now.
        let _ = self.desk.set(Desk { asks, dimension, default_collection, audit });
        self.metrics.ready.set(1);
        tracing::info!(listen = %self.address, topic = %config.kafka.input_topic, "ready");
        Ok(())
    }

    fn spawn(
        &mut self,
        name: &'static str,
        patience: Option<Duration>,
        work: impl FnOnce(&Shutdown) -> Result<(), DaemonError> + Send + 'static,
    ) -> Result<(), DaemonError> {
        let shutdown = self.shutdown.clone();
        let (ends, over) = mpsc::channel::<Infallible>();
        let run = move || {
            let (_stop, _ends) = (shutdown.on_drop(), ends);
            work(&shutdown)
        };
        let thread = std::thread::Builder::new().name(name.to_string()).spawn(run).map_err(DaemonError::Thread)?;
        self.threads.push(Worker { name, thread, over, patience });
        Ok(())
    }

    /// The signal that stops this daemon.
    pub fn shutdown(&self) -> Shutdown {
        self.shutdown.clone()
    }

    /// Where its engine looks up what may change while it runs: [`reload`].
    pub fn tuning(&self) -> watch::Sender<Tuning> {
        self.tuning.clone()
    }

    /// Its tokens and its certificate.
    pub fn renewing(&self) -> Arc<Renewing> {
        self.renewing.clone()
    }

    /// How the engine gets on.
    pub fn progress(&self) -> Progress {
        self.progress.clone()
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Waits until everything has stopped: last batch committed, outbox published as far as the
    /// brokers let it.
    pub async fn wait(self) -> Result<(), DaemonError> {
        self.shutdown.requested().await;
        tracing::info!("stopping");
        self.metrics.ready.set(0);
        if let Some(control) = self.control {
            // It ends at once; its socket has to be gone before the state is let go of.
            let _ = control.await;
        }
        let threads = self.threads;
        let mut outcome = tokio::task::block_in_place(|| join(threads));
        let mut listener = self.listener;
        match tokio::time::timeout(LAST_ANSWERS, &mut listener).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => outcome = outcome.and(Err(DaemonError::Panicked("listener"))),
            // Somebody asks or reads too slowly: it ends without them.
            Err(_) => listener.abort(),
        }
        if tokio::time::timeout(LAST_OUTCOMES, self.under_way.none_left()).await.is_err() {
            tracing::error!("what became of the last deeds by hand is not in the audit log: the disk is too slow");
        }
        if let Some(traces) = self.traces {
            tokio::task::block_in_place(|| traces.stop(LAST_SPANS));
        }
        outcome
    }
}

/// The one that was begun last ends first: each has what the one before it waits for.
fn join(threads: Vec<Worker>) -> Result<(), DaemonError> {
    let ended = threads.into_iter().rev().map(|Worker { name, thread, over, patience }| {
        if patience.is_some_and(|limit| over.recv_timeout(limit) == Err(RecvTimeoutError::Timeout)) {
            // It goes with the process, as it would with a `kill -9`.
            tracing::warn!(
                "the {name} is still waiting for the brokers; what they did not take is published at the next start"
            );
            return Ok(());
        }
        match thread.join() {
            Ok(outcome) => outcome,
            Err(_) => Err(DaemonError::Panicked(name)),
        }
    });
    // Each is joined, whatever the one before it ended with.
    ended.collect::<Vec<_>>().into_iter().collect()
}
