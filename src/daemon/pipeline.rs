//! The engine's thread: records from the queue into batches, batches into the shard.
//!
//! A batch closes when it is full or when it has waited long enough since its first record; it is
//! one commit. After each commit the publisher hears of it. When no record comes, what had to wait
//! (refreshes, large components, what expires) has its turn, a little at a time.

use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::reload::{Batching, Tuning};
use super::room::Room;
use super::shard::{Shard, ShardError};
use crate::asks::{Ask, Asked};
use crate::clock::now;
use crate::face::Timestamp;
use crate::metrics::Metrics;
use crate::notify::Progress;
use crate::shutdown::Shutdown;
use crate::source::{Intake, Lag, Received, Receiver};
use crate::traces::{Lap, Noted, Traces};

/// How long to wait for a first record before looking whether a stop was asked for.
const IDLE: Duration = Duration::from_millis(50);
/// How long no record may come before the moment counts as a quiet one.
const QUIET: Duration = Duration::from_millis(10);

/// How long answering takes between two batches at least, if that much is asked, and its share of the batch's time at most:
/// so a stream at capacity loses little by whatever is asked.
const SPARE: Duration = Duration::from_millis(1);
const SHARE: u32 = 32;

/// How long a stop may take to write snapshots: with the publisher's last entries, written meanwhile,
/// it stays within the 10 seconds that a stop may take.
const LAST_SNAPSHOTS: Duration = Duration::from_secs(4);
/// Entries the outbox may hold before no more are added: a slow stage slows the one before it.
const MOST_UNPUBLISHED: i64 = 100_000;

/// Everything the engine's thread works with.
pub struct Pipeline {
    pub shard: Shard,
    pub tuning: watch::Receiver<Tuning>,
    pub room: Room,
    pub queue: Receiver,
    /// A word after each commit.
    pub committed: SyncSender<()>,
    pub lag: Arc<Lag>,
    /// What operators and readers ask.
    pub asked: Asked,
    /// Made with each turn, also one without anything to do.
    pub progress: Progress,
    pub metrics: Arc<Metrics>,
    /// None: none are made.
    pub traces: Option<Arc<Traces>>,
}

impl Pipeline {
    /// Applies batches until a stop is asked for or there is no more input. A stop finishes the
    /// batch at hand; what is still queued is in Kafka and is read again at the next start. Last,
    /// snapshots are cut, so that this start is a fast one.
    pub fn run(&mut self, shutdown: &Shutdown) -> Result<(), ShardError> {
        self.take_batches(shutdown)?;
        self.shard.cut_snapshots(LAST_SNAPSHOTS);
        Ok(())
    }

    fn take_batches(&mut self, shutdown: &Shutdown) -> Result<(), ShardError> {
        self.lag.positions(self.shard.positions());
        // Something may be left to do from before.
        let mut busy = true;
        let mut spare = SPARE;
        while !shutdown.is_requested() {
            self.progress.made();
            let (shard, committed, traces) = (&mut self.shard, &self.committed, self.traces.as_deref());
            let more = self.asked.answer_for(spare, |ask| answer(shard, committed, traces, ask))?;
            if self.metrics.outbox_entries.get() > MOST_UNPUBLISHED {
                // The brokers take nothing: the queue fills and the consumer pauses.
                std::thread::sleep(IDLE);
                continue;
            }
            let Tuning { batching, refresh_per_face, limits } = *self.tuning.borrow();
            self.shard.refresh_per_face(refresh_per_face);
            let room = self.room.left(self.shard.faces(), &limits, &self.metrics);
            let batching = Batching { faces: room.min(batching.faces), ..batching };
            let patience = match busy {
                _ if more => Duration::ZERO,
                true => QUIET,
                false => IDLE,
            };
            let batch = match self.gather(batching, patience, shutdown) {
                Gathered::Batch(batch) => batch,
                Gathered::Knock => continue,
                Gathered::Nothing => {
                    spare = QUIET;
                    let began = Instant::now();
                    busy = self.shard.idle(now())?;
                    if busy {
                        tell_turn(&mut self.shard, self.traces.as_deref(), "refresh", began);
                    }
                    let _ = self.committed.try_send(());
                    continue;
                }
                Gathered::End => return Ok(()),
            };
            busy = true;
            self.metrics.batch_faces.observe(batch.len() as f64);
            let began = Instant::now();
            let noted = self.traces.is_some().then(|| Noted::of(&batch));
            let timestamps: Vec<Timestamp> = batch.iter().filter_map(|intake| intake.record.timestamp).collect();
            self.shard.apply(batch, now())?;
            let ended = Instant::now();
            self.metrics.batch_seconds.observe((ended - began).as_secs_f64());
            if let (Some(traces), Some(noted)) = (&self.traces, noted) {
                traces.batch(noted, Lap::new("batch", began, ended), self.shard.laps());
            }
            spare = SPARE.max(began.elapsed() / SHARE);
            let committed = now();
            for timestamp in timestamps {
                // Whose clock is ahead of this one's has waited for nothing.
                let milliseconds = (committed.0 - timestamp.0).max(0);
                self.metrics.latency_seconds.observe(milliseconds as f64 / 1000.0);
            }
            self.lag.positions(self.shard.positions());
            // Full means that the publisher has a word waiting already.
            let _ = self.committed.try_send(());
        }
        Ok(())
    }

    fn gather(&self, batching: Batching, patience: Duration, shutdown: &Shutdown) -> Gathered {
        if batching.faces == 0 {
            std::thread::sleep(patience);
            return Gathered::Nothing;
        }
        let first = match self.queue.receive(patience) {
            Ok(Received::Record(first)) => first,
            Ok(Received::Knock) => return Gathered::Knock,
            Err(RecvTimeoutError::Timeout) => return Gathered::Nothing,
            Err(RecvTimeoutError::Disconnected) => return Gathered::End,
        };
        let closes = Instant::now() + batching.wait;
        let mut batch = vec![first];
        while batch.len() < batching.faces && !shutdown.is_requested() {
            let left = closes.saturating_duration_since(Instant::now());
            match self.queue.receive(left.min(IDLE)) {
                Ok(Received::Record(intake)) => batch.push(intake),
                // It is answered after this batch, which closes soon.
                Ok(Received::Knock) => {}
                Err(RecvTimeoutError::Timeout) if left > IDLE => {}
                Err(_) => break,
            }
        }
        Gathered::Batch(batch)
    }
}

/// Tells of a turn that was no batch of records.
fn tell_turn(shard: &mut Shard, traces: Option<&Traces>, name: &'static str, began: Instant) {
    if let Some(traces) = traces {
        traces.turn(Lap::new(name, began, Instant::now()), shard.laps());
    }
}

/// Answers what was asked. Nobody may be waiting for it any more.
fn answer(shard: &mut Shard, committed: &SyncSender<()>, traces: Option<&Traces>, ask: Ask) -> Result<(), ShardError> {
    match ask {
        Ask::Look { collection, look } => look(shard.engine(&collection)),
        Ask::Operate { collection, requests, answer } => {
            if !answer.is_closed() {
                let began = Instant::now();
                let _ = answer.send(shard.operate(&collection, requests, now())?);
                tell_turn(shard, traces, "operate", began);
                let _ = committed.try_send(());
            }
        }
        Ask::Cut { to, answer } => drop(answer.send(shard.store().cut(&to))),
    }
    Ok(())
}

/// What there was to take.
enum Gathered {
    Batch(Vec<Intake>),
    /// Something was asked.
    Knock,
    Nothing,
    End,
}
