//! The engines of a state directory and the store they share: a batch of records in, a commit out.
//!
//! Synchronous and without Kafka, so that tests, benches and the commands that work on a stopped
//! state drive what the daemon drives.
//!
//! Collections share the refresh budget of a batch evenly, whoever's records fill it: a flood in one
//! does not keep another from settling. In a quiet moment they take turns.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use opentelemetry::KeyValue;

use super::gauges::Gauges;
use super::sharding::Sharding;
use super::snapshots::SnapshotCutter;
use super::sorting::{Requests, Sorted, Sorting};
use crate::config::Kafka;
use crate::engine::changes::{Batch, Changes, Outcome, Request};
use crate::engine::event::{Cause, Change, Cluster};
use crate::engine::{Engine, EngineError, Observer, Step};
use crate::face::{ClusterId, CollectionName, FaceId, Partition, Position, Timestamp};
use crate::metrics::Metrics;
use crate::model::FaceTransformer;
use crate::publish::Reconciliation;
use crate::source::{FaceRejected, Intake, Told};
use crate::store::{CollectionCommit, Commit, FaceKey, Incarnation, Outbox, Resumed, SnapshotUsed, Store, StoreError};
use crate::traces::{Lap, Laps};
use crate::view::{Home, View};

pub use super::settings::ShardSettings;

/// Faces refreshed at once in a quiet moment: who arrives meanwhile waits for no more than these.
const REFRESHED_WHEN_IDLE: usize = 256;
/// Collections without a record in a batch that are given a share of its refresh budget.
const OTHERS_REFRESHED: usize = 16;

/// Why a batch could not be applied. The shard is then to be dropped and opened again.
#[derive(Debug, thiserror::Error)]
pub enum ShardError {
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(
        "the state has faces of collection {collection}, whose home is shard {home} of {shards}, and this is shard {shard}: set \
         kafka.shard and kafka.shards to what they were, or start with a new state.dir and read the input again"
    )]
    NotAtHome { collection: CollectionName, home: u32, shard: u32, shards: u32 },
}

/// Engines and their store.
pub struct Shard {
    settings: ShardSettings,
    model: Arc<dyn FaceTransformer>,
    store: Store,
    engines: BTreeMap<CollectionName, Engine>,
    positions: BTreeMap<Partition, Position>,
    /// The collection that had its turn last.
    turn: Option<CollectionName>,
    view: Arc<View>,
    metrics: Arc<Metrics>,
    gauges: Gauges,
    snapshots: SnapshotCutter,
    /// Of rejected records.
    told: Told,
    /// What took how long since it was last asked for; none where nobody asks.
    laps: Option<Laps>,
}

/// What is asked of one collection in a batch.
struct Work {
    requests: Vec<Request>,
    refresh_budget: usize,
    idle: bool,
}

impl Shard {
    /// Opens the state in `path` and goes on where it was.
    pub fn open(
        path: &Path,
        settings: ShardSettings,
        model: Arc<dyn FaceTransformer>,
        view: Arc<View>,
        metrics: Arc<Metrics>,
    ) -> Result<Shard, ShardError> {
        let store = Store::open(path, &settings.model)?;
        let names: Vec<CollectionName> = store.collections().cloned().collect();
        let sharding = settings.sharding;
        if let Some(collection) = names.iter().find(|name| !sharding.is_home_of(name)).cloned() {
            let (home, Sharding { shard, shards }) = (sharding.home_of(&collection), sharding);
            return Err(ShardError::NotAtHome { collection, home, shard, shards });
        }
        Shard::restore(store, names, settings, model, view, metrics)
    }

    /// One collection of a stopped daemon's state, for what an operator asks of it: restoring the
    /// others would only take time. `store` was made with the model of `settings`.
    pub fn open_one(
        store: Store,
        collection: &CollectionName,
        settings: ShardSettings,
        model: Arc<dyn FaceTransformer>,
    ) -> Result<Shard, ShardError> {
        let (view, metrics) = (Arc::default(), Arc::new(Metrics::new()));
        Shard::restore(store, vec![collection.clone()], settings, model, view, metrics)
    }

    fn restore(
        store: Store,
        names: Vec<CollectionName>,
        settings: ShardSettings,
        model: Arc<dyn FaceTransformer>,
        view: Arc<View>,
        metrics: Arc<Metrics>,
    ) -> Result<Shard, ShardError> {
        let mut engines = BTreeMap::new();
        let mut snapshots = SnapshotCutter::new(settings.snapshot_interval, metrics.clone());
        let there = store.snapshots().names()?;
        for name in names {
            let started = Instant::now();
            // One after the other, so that no two are in memory twice.
            let Resumed { restored, snapshot } = store.resumed(&name, &there)?;
            let engine = Engine::restore(&settings.engine(&name), model.clone(), restored)?;
            tell_of(&name, &engine, snapshot, started.elapsed(), &metrics);
            snapshots.restored(&name, snapshot);
            show(&view, &name, &engine);
            engines.insert(name, engine);
        }
        metrics.outbox_entries.set(store.outbox().len() as i64);
        let positions = store.outbox().durable().positions;
        let mut shard = Shard {
            gauges: Gauges::new(metrics.clone(), settings.trained_at),
            settings,
            model,
            store,
            engines,
            positions,
            turn: None,
            view,
            snapshots,
            metrics,
            told: Told::default(),
            laps: None,
        };
        shard.gauges.show(&shard.engines, &shard.store, Timestamp::default());
        Ok(shard)
    }

    pub fn state_uuid(&self) -> &str {
        self.store.state_uuid()
    }

    pub fn outbox(&self) -> Outbox {
        self.store.outbox().clone()
    }

    pub fn store(&self) -> &Store {
        &self.store
    }

    /// How far each partition of the input is applied.
    pub fn positions(&self) -> &BTreeMap<Partition, Position> {
        &self.positions
    }

    pub fn engine(&self, collection: &CollectionName) -> Option<&Engine> {
        self.engines.get(collection)
    }

    /// Applies records of the input, in the order they were read, as one commit: each is applied,
    /// ignored because it is so already, or written to the outbox as a dead letter.
    pub fn apply(&mut self, records: Vec<Intake>, now: Timestamp) -> Result<(), ShardError> {
        let mut commit = Commit { now, ..Commit::default() };
        let refresh_budget = records.len() * self.settings.refresh_per_face;
        let mut sorting = Sorting::new(&self.engines, &self.store, &self.settings);
        for Intake { record, content } in records {
            let next = record.place.offset.next();
            if self.positions.get(&record.place.partition).is_some_and(|position| next <= position.next) {
                // Read a second time, such as after a change of the consumer's position.
                continue;
            }
            let position = Position { next, last: Some(record.hash()) };
            self.positions.insert(record.place.partition, position);
            commit.positions.insert(record.place.partition, position);
            if let Some(rejected) = sorting.take(record, content, &self.metrics) {
                commit.dead_letters.push(rejected.report(&self.metrics, &self.told));
            }
        }
        let Sorted { asked, erased } = sorting.finish();
        commit.suppress = erased;

        let others = self.unsettled(now).into_iter().filter(|name| !asked.contains_key(name));
        let others: Vec<CollectionName> = others.take(OTHERS_REFRESHED).collect();
        let share = refresh_budget.div_ceil((asked.len() + others.len()).max(1));
        for (collection, Requests { records, requests }) in asked {
            let work = Work { requests, refresh_budget: share, idle: false };
            let mut changes = self.apply_to(&collection, work, now)?;
            for (record, outcome) in records.into_iter().zip(std::mem::take(&mut changes.outcomes)) {
                match outcome {
                    Outcome::Duplicate => self.metrics.duplicates.inc(),
                    Outcome::Replaced => self.metrics.replaced.inc(),
                    Outcome::Rejected(rejection) => {
                        commit.dead_letters.push(FaceRejected { record, rejection }.report(&self.metrics, &self.told));
                    }
                    Outcome::Added | Outcome::Erased(_) | Outcome::Done => {}
                }
            }
            commit.collections.push(CollectionCommit { collection, changes });
        }
        for collection in others {
            // Nobody waits here: for it this is a quiet moment, or it would never settle in a flood elsewhere.
            let work = Work { requests: Vec::new(), refresh_budget: share, idle: true };
            let changes = self.apply_to(&collection, work, now)?;
            self.turn = Some(collection.clone());
            commit.collections.push(CollectionCommit { collection, changes });
        }
        self.commit(commit)
    }

    /// Applies what an operator asks of a collection, as one commit. Answers each in its order.
    pub fn operate(
        &mut self,
        collection: &CollectionName,
        requests: Vec<Request>,
        now: Timestamp,
    ) -> Result<Vec<Outcome>, ShardError> {
        let mut changes = self.apply_to(collection, Work { requests, refresh_budget: 0, idle: false }, now)?;
        let outcomes = std::mem::take(&mut changes.outcomes);
        let collections = vec![CollectionCommit { collection: collection.clone(), changes }];
        self.commit(Commit { collections, now, ..Commit::default() })?;
        Ok(outcomes)
    }

    /// Sets how many stale faces are scored again for each record from now on.
    pub fn refresh_per_face(&mut self, faces: usize) {
        self.settings.refresh_per_face = faces;
    }

    /// Keeps from now on what took how long, for [`Shard::laps`].
    pub fn keep_laps(&mut self) {
        self.laps = Some(Laps::default());
    }

    /// What took how long since this was last asked.
    pub fn laps(&mut self) -> Laps {
        self.laps.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// How many faces there are in all collections.
    pub fn faces(&self) -> usize {
        self.engines.values().map(Engine::len).sum()
    }

    /// Whether a collection's home is here.
    pub fn is_at_home(&self, collection: &CollectionName) -> bool {
        self.settings.sharding.is_home_of(collection)
    }

    pub fn has_face(&self, collection: &CollectionName, face: &FaceId) -> bool {
        self.engines.get(collection).is_some_and(|engine| engine.faces().node(face).is_some())
    }

    pub fn has_living_cluster(&self, collection: &CollectionName, id: ClusterId) -> bool {
        let cluster = self.engines.get(collection).and_then(|engine| engine.clusters().book().get(id));
        cluster.is_some_and(Cluster::lives)
    }

    /// What this state and Kafka have to agree on.
    pub fn reconciliation(&self, config: &Kafka, partitions: &[Partition]) -> Reconciliation {
        Reconciliation {
            config: config.clone(),
            partitions: partitions.to_vec(),
            state_uuid: self.store.state_uuid().to_string(),
            outbox: self.store.outbox().clone(),
        }
    }

    /// Goes on under another name and tells everything anew, as one commit.
    pub fn begin_incarnation(&mut self, incarnation: Incarnation, now: Timestamp) -> Result<(), ShardError> {
        self.positions.retain(|partition, _| !incarnation.reread.contains(partition));
        let retold = self.engines.iter_mut();
        let collections =
            retold.map(|(name, engine)| CollectionCommit { collection: name.clone(), changes: engine.retell() });
        let commit =
            Commit { collections: collections.collect(), incarnation: Some(incarnation), now, ..Commit::default() };
        self.commit(commit)
    }

    /// Lets faces that were erased come back.
    pub fn allow(&mut self, faces: Vec<FaceKey>, now: Timestamp) -> Result<(), ShardError> {
        self.commit(Commit { allow: faces, now, ..Commit::default() })
    }

    /// Uses a quiet moment: one collection with something left to do goes on with it. False: none has.
    pub fn idle(&mut self, now: Timestamp) -> Result<bool, ShardError> {
        let Some(collection) = self.unsettled(now).into_iter().next() else {
            self.gauges.show_now_and_then(&self.engines, &self.store, now);
            self.snapshots.go_on(&self.engines, &self.store);
            return Ok(false);
        };
        self.turn = Some(collection.clone());
        let work = Work { requests: Vec::new(), refresh_budget: REFRESHED_WHEN_IDLE, idle: true };
        let changes = self.apply_to(&collection, work, now)?;
        self.commit(Commit { collections: vec![CollectionCommit { collection, changes }], now, ..Commit::default() })?;
        Ok(true)
    }

    /// The collections with something left to do, from the one whose turn is next.
    fn unsettled(&self, now: Timestamp) -> Vec<CollectionName> {
        let turn = |name: &&CollectionName| Some(*name) > self.turn.as_ref();
        let busy = self.engines.iter().filter(|(_, engine)| engine.has_work(now)).map(|(name, _)| name);
        let (after, before): (Vec<_>, Vec<_>) = busy.partition(turn);
        after.into_iter().chain(before).cloned().collect()
    }

    fn apply_to(&mut self, collection: &CollectionName, work: Work, now: Timestamp) -> Result<Changes, ShardError> {
        let engine = self.engines.entry(collection.clone()).or_insert_with(|| {
            tracing::info!(%collection, "new collection");
            Engine::new(&self.settings.engine(collection), self.model.clone())
        });
        let Work { requests, refresh_budget, idle } = work;
        let asked = requests.len();
        let (began, steps) = (Instant::now(), self.laps.is_some().then(Vec::new));
        let mut timer = StepTimer { metrics: &self.metrics, since: began, steps };
        let changes = engine.apply(Batch { requests, refresh_budget, idle, now }, &mut timer)?;
        if let (Some(laps), Some(within)) = (&mut self.laps, timer.steps) {
            let facts = facts(collection, asked, &changes);
            laps.parts.push(Lap { facts, within, ..Lap::new("engine", began, Instant::now()) });
        }
        Ok(changes)
    }

    /// Writes a batch, then tells what it changed: readers and metrics see only what is committed.
    fn commit(&mut self, mut commit: Commit) -> Result<(), ShardError> {
        for CollectionCommit { collection, changes } in &commit.collections {
            let erased = changes.events.iter().filter_map(|event| match &event.change {
                Change::Erased { face, .. } if event.cause != Cause::Expired => Some(face.clone()),
                _ => None,
            });
            commit.suppress.extend(erased.map(|face| FaceKey { collection: collection.clone(), face }));
        }
        let began = Instant::now();
        self.store.commit(&commit)?;
        let ended = Instant::now();
        self.metrics.commit_seconds.observe((ended - began).as_secs_f64());
        if let Some(laps) = &mut self.laps {
            laps.parts.push(Lap::new("commit", began, ended));
            laps.rejected.extend(commit.dead_letters.iter().map(|letter| (letter.place, letter.rejection.reason)));
        }
        for CollectionCommit { collection, changes } in &commit.collections {
            self.view.update(collection, changes);
        }
        self.gauges.count(&commit);
        for collection in self.store.needs_compaction() {
            let began = Instant::now();
            self.store.compact(&collection)?;
            self.metrics.store_compactions.inc();
            tracing::info!(%collection, "compacted the vector file");
            self.note("compact", began);
        }
        if self.store.sled_needs_rewrite()? {
            let began = Instant::now();
            self.store.rewrite_sled()?;
            self.metrics.store_compactions.inc();
            tracing::info!(seconds = began.elapsed().as_secs_f64(), "wrote sled anew");
            self.note("rewrite", began);
        }
        self.gauges.show_now_and_then(&self.engines, &self.store, commit.now);
        commit.collections.iter().for_each(|commit| self.snapshots.committed(commit));
        self.snapshots.go_on(&self.engines, &self.store);
        Ok(())
    }

    /// Notes what is over now, where somebody asks.
    fn note(&mut self, name: &'static str, began: Instant) {
        if let Some(laps) = &mut self.laps {
            laps.parts.push(Lap::new(name, began, Instant::now()));
        }
    }

    /// Writes what a restart would have to derive anew, as far as `limit` allows. To be called last.
    pub fn cut_snapshots(&mut self, limit: Duration) {
        self.snapshots.finish(&self.engines, &self.store, limit);
    }
}

/// Tells how a collection was restored.
fn tell_of(
    collection: &CollectionName,
    engine: &Engine,
    snapshot: Option<SnapshotUsed>,
    took: Duration,
    metrics: &Metrics,
) {
    let (faces, stale, seconds) = (engine.len(), engine.stale(), took.as_secs_f64());
    match snapshot {
        Some(SnapshotUsed { sequence, tail, .. }) => {
            metrics.snapshot_restored_faces.add((faces - tail) as i64);
            metrics.snapshot_rebuilt_faces.add(tail as i64);
            tracing::info!(%collection, faces, snapshot = sequence, tail, stale, seconds, "restored");
        }
        None => {
            metrics.snapshot_rebuilt_faces.add(faces as i64);
            tracing::info!(%collection, faces, snapshot = "none", stale, seconds, "restored");
        }
    }
}

fn show(view: &View, name: &CollectionName, engine: &Engine) {
    let book = engine.clusters().book();
    let home = |node| Some(Home { face: engine.faces().id(node).clone(), home: book.seat(node)?.home });
    let (homes, constraints) = (engine.faces().live().filter_map(home), engine.clusters().words());
    view.show(name, homes, book.records(), constraints, book.sequence());
}

/// How much an engine did, for a trace. Of whom is nobody's business there.
fn facts(collection: &CollectionName, asked: usize, changes: &Changes) -> Vec<KeyValue> {
    let number = |key: &'static str, value: usize| KeyValue::new(key, value as i64);
    let Changes { work, events, .. } = changes;
    vec![
        KeyValue::new("facetd.collection", collection.to_string()),
        number("facetd.requests", asked),
        number("facetd.faces_encoded", work.encoded),
        number("facetd.faces_linked", work.linked),
        number("facetd.faces_refreshed", work.refreshed),
        number("facetd.faces_affected", work.affected),
        number("facetd.faces_reclustered", work.reclustered),
        number("facetd.events", events.len()),
    ]
}

/// Gives the engine's steps the clock it has not.
struct StepTimer<'a> {
    metrics: &'a Metrics,
    since: Instant,
    /// Kept where somebody asks.
    steps: Option<Vec<Lap>>,
}

impl Observer for StepTimer<'_> {
    fn finished(&mut self, step: Step) {
        let now = Instant::now();
        let took = now - self.since;
        self.metrics.step_seconds.with_label_values(&[step.name()]).observe(took.as_secs_f64());
        if let Some(steps) = &mut self.steps {
            steps.push(Lap::new(step.name(), self.since, now));
        }
        self.since = now;
    }
}
