//! When snapshots are cut: now and then while the daemon works, and when it stops.
//!
//! The engine's thread copies what an engine derived, between two batches; a thread of its own writes
//! it. One at a time, so that memory holds one copy. A disk that refuses is told of and tried again at
//! the next interval: the daemon can do without snapshots, only its next start is slower.
//!
//! A collection is due once its faces or linkages changed. After an erasure it is due twice: the next
//! snapshot is without the face, but the one before is kept beside it, and goes with the one after.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError, channel};
use std::time::{Duration, Instant};

use crate::clock;
use crate::engine::Engine;
use crate::engine::changes::Changes;
use crate::face::CollectionName;
use crate::metrics::Metrics;
use crate::store::{CollectionCommit, SnapshotName, SnapshotUsed, Store, StoreError};

/// Snapshots in which an erased face may still be: those that are kept.
const KEPT: u8 = 2;

/// Cuts the snapshots of a shard.
pub struct SnapshotCutter {
    /// How often; none: never.
    interval: Option<Duration>,
    metrics: Arc<Metrics>,
    due: BTreeMap<CollectionName, Due>,
    /// After which commit the newest good one of a collection was cut.
    newest: BTreeMap<CollectionName, u64>,
    /// Those whose turn it is in this round, the next first.
    round: VecDeque<CollectionName>,
    round_began: Instant,
    writing: Option<Writing>,
}

/// What a collection is owed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Due {
    /// So many more snapshots.
    snapshots: u8,
    /// The next one would be another than the newest there is.
    is_changed: bool,
}

impl Due {
    /// Until erased faces are in none that is kept.
    const EVERY: Due = Due { snapshots: KEPT, is_changed: true };
}

/// A snapshot that is being written by a thread of its own.
struct Writing {
    name: SnapshotName,
    since: Instant,
    /// Has the thread stop.
    is_abandoned: Arc<AtomicBool>,
    outcome: Receiver<Result<Option<Written>, StoreError>>,
}

/// What was written, in bytes: one, and all there are now.
struct Written {
    one: u64,
    all: u64,
}

impl SnapshotCutter {
    pub fn new(interval: Option<Duration>, metrics: Arc<Metrics>) -> SnapshotCutter {
        SnapshotCutter {
            interval,
            metrics,
            due: BTreeMap::new(),
            newest: BTreeMap::new(),
            round: VecDeque::new(),
            round_began: Instant::now(),
            writing: None,
        }
    }

    /// Notes which snapshot a collection went on from.
    pub fn restored(&mut self, collection: &CollectionName, used: Option<SnapshotUsed>) {
        self.newest.extend(used.map(|used| (collection.clone(), used.sequence)));
        // Erased faces may be in every one there is, but for one that is of now.
        let due = match used {
            Some(SnapshotUsed { is_current: true, .. }) => Due { snapshots: KEPT - 1, is_changed: false },
            _ => Due::EVERY,
        };
        self.due.insert(collection.clone(), due);
    }

    /// Notes what a commit changed.
    pub fn committed(&mut self, CollectionCommit { collection, changes }: &CollectionCommit) {
        if changes.is_empty() {
            return;
        }
        let snapshots = if forgets(changes) { KEPT } else { 1 };
        let due = self.due.entry(collection.clone()).or_insert(Due { snapshots, is_changed: true });
        *due = Due { snapshots: snapshots.max(due.snapshots), is_changed: true };
    }

    /// Goes on with what is due. To be called between two batches.
    pub fn go_on(&mut self, engines: &BTreeMap<CollectionName, Engine>, store: &Store) {
        let Some(interval) = self.interval else { return };
        if let Some(writing) = self.writing.take() {
            match writing.outcome.try_recv() {
                Err(TryRecvError::Empty) => {
                    self.writing = Some(writing);
                    return;
                }
                outcome => self.finished(&writing, outcome.ok()),
            }
        }
        if self.round.is_empty() && self.round_began.elapsed() >= interval {
            self.round_began = Instant::now();
            self.round = self.due.keys().cloned().collect();
        }
        if let Some(collection) = self.round.pop_front() {
            self.begin(collection, engines, store);
        }
    }

    /// Cuts what is due, the largest first, within `limit`: before a stop, after which a start need not
    /// derive anything anew. What cannot be written in time is left out.
    pub fn finish(&mut self, engines: &BTreeMap<CollectionName, Engine>, store: &Store, limit: Duration) {
        if self.interval.is_none() {
            return;
        }
        let ends = Instant::now() + limit;
        self.wait(ends);
        let changed = self.due.iter().filter(|(_, due)| due.is_changed);
        let mut due: Vec<CollectionName> = changed.map(|(name, _)| name.clone()).collect();
        due.sort_by_key(|name| std::cmp::Reverse(engines.get(name).map_or(0, Engine::len)));
        for collection in due {
            if Instant::now() >= ends {
                tracing::warn!("not every collection got its snapshot in time; the next start takes longer");
                return;
            }
            self.begin(collection, engines, store);
            self.wait(ends);
        }
    }

    /// Copies what the engine of a collection derived and has it written.
    fn begin(&mut self, collection: CollectionName, engines: &BTreeMap<CollectionName, Engine>, store: &Store) {
        let Some(engine) = engines.get(&collection) else {
            self.due.remove(&collection);
            return;
        };
        let since = Instant::now();
        let snapshot = engine.cut();
        self.metrics.snapshot_pause_seconds.observe(since.elapsed().as_secs_f64());
        let name = SnapshotName { collection, sequence: store.commit_sequence() };
        // What comes from now on is not in it.
        if let Some(Due { snapshots: 2.., .. }) = self.due.remove(&name.collection) {
            self.due.insert(name.collection.clone(), Due { snapshots: KEPT - 1, is_changed: false });
        }
        let (tell, outcome) = channel();
        let is_abandoned = Arc::new(AtomicBool::new(false));
        let write = {
            let (snapshots, name, is_abandoned) = (store.snapshots(), name.clone(), is_abandoned.clone());
            let keep = self.newest.get(&name.collection).copied().filter(|&newest| newest != name.sequence);
            move || {
                let written = snapshots.write(&name, &snapshot, keep, &|| is_abandoned.load(Ordering::Relaxed));
                let all = |one: Option<u64>| one.map(|one| Ok(Written { one, all: snapshots.bytes()? })).transpose();
                // Nobody may wait for it any more.
                let _ = tell.send(written.and_then(all));
            }
        };
        let writing = Writing { name, since, is_abandoned, outcome };
        match std::thread::Builder::new().name("snapshot".to_string()).spawn(write) {
            Ok(_) => self.writing = Some(writing),
            Err(error) => self.failed(&writing.name, &format!("cannot start a thread: {error}")),
        }
    }

    /// Waits until nothing is being written; what is not done in time is abandoned.
    fn wait(&mut self, ends: Instant) {
        let Some(writing) = self.writing.take() else { return };
        match writing.outcome.recv_timeout(ends.saturating_duration_since(Instant::now())) {
            Err(RecvTimeoutError::Timeout) => {
                writing.is_abandoned.store(true, Ordering::Relaxed);
                tracing::warn!(collection = %writing.name.collection, "no time to write the snapshot; the next start takes longer");
            }
            outcome => self.finished(&writing, outcome.ok()),
        }
    }

    /// `outcome`: none, if the thread ended without a word.
    fn finished(&mut self, writing: &Writing, outcome: Option<Result<Option<Written>, StoreError>>) {
        let Writing { name, since, .. } = writing;
        match outcome {
            Some(Ok(Some(Written { one: bytes, all }))) => {
                let seconds = since.elapsed().as_secs_f64();
                self.newest.insert(name.collection.clone(), name.sequence);
                self.metrics.snapshot_seconds.observe(seconds);
                self.metrics.snapshot_last_success.set(clock::now().0 as f64 / 1000.0);
                self.metrics.snapshot_bytes.set(all as i64);
                tracing::debug!(collection = %name.collection, commit = name.sequence, bytes, seconds, "snapshot written");
            }
            Some(Ok(None)) => {}
            Some(Err(error)) => self.failed(name, &error.to_string()),
            None => self.failed(name, "the thread that wrote it panicked; this is a bug, its place is in the log"),
        }
    }

    fn failed(&mut self, name: &SnapshotName, reason: &str) {
        self.metrics.snapshot_failures.inc();
        self.due.insert(name.collection.clone(), Due::EVERY);
        tracing::warn!(collection = %name.collection, reason, "cannot write a snapshot; trying again later");
    }
}

impl Drop for SnapshotCutter {
    fn drop(&mut self) {
        if let Some(writing) = &self.writing {
            writing.is_abandoned.store(true, Ordering::Relaxed);
        }
    }
}

/// Whether changes are to leave something out of snapshots that older ones have.
fn forgets(changes: &Changes) -> bool {
    !changes.gone_nodes.is_empty() || !changes.gone_ids.is_empty() || !changes.vectors.is_empty()
}
