//! The engines of a state directory and the store they share: a batch of records in, a commit out.
//!
//! Synchronous and without Kafka, so that tests and benches drive what the daemon drives.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use crate::engine::cluster::Change;
use crate::engine::index::{HnswParameters, IndexKind};
use crate::engine::{Batch, Changes, Engine, EngineError, EngineSettings, Observer, Outcome, Step};
use crate::face::{CollectionName, Face, Offset, Partition, Timestamp};
use crate::metrics::Metrics;
use crate::model::{Artefact, FaceTransformer};
use crate::rejection::{Reason, Rejection};
use crate::source::{Content, FaceRejected, Intake, Record};
use crate::store::{self, CollectionCommit, Commit, Outbox, Store, StoreError};
use crate::view::View;

/// Why a batch could not be applied. The shard is then to be dropped and opened again.
#[derive(Debug, thiserror::Error)]
pub enum ShardError {
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// How a shard works.
#[derive(Debug, Clone)]
pub struct ShardSettings {
    pub engine: EngineSettings,
    pub model: store::Model,
    pub max_collections: usize,
    /// Affected faces scored again for each newcomer.
    pub refresh_per_face: usize,
}

impl ShardSettings {
    pub fn new(config: &crate::config::Config, artefact: &Artefact) -> ShardSettings {
        let engine = &config.engine;
        let index = match engine.index {
            crate::config::Index::Exact => IndexKind::Exact,
            crate::config::Index::Hnsw => IndexKind::Hnsw(HnswParameters {
                connections: engine.hnsw_connections,
                ef_construction: engine.hnsw_ef_construction,
                ef_search: engine.hnsw_ef_search,
            }),
        };
        ShardSettings {
            engine: EngineSettings { index, merging: artefact.merging.clone() },
            model: store::Model { fingerprint: artefact.fingerprint.clone(), dimension: artefact.shape.dimension },
            max_collections: config.collections.max,
            refresh_per_face: engine.refresh_per_face,
        }
    }
}

/// Engines and their store.
pub struct Shard {
    settings: ShardSettings,
    model: Arc<dyn FaceTransformer>,
    store: Store,
    engines: BTreeMap<CollectionName, Engine>,
    positions: BTreeMap<Partition, Offset>,
    view: Arc<View>,
    metrics: Arc<Metrics>,
}

/// What is left to tell of an applied batch.
#[derive(Debug, Default)]
pub struct Applied {
    pub outbox_entries: usize,
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
        let contents = store.contents()?;
        let mut engines = BTreeMap::new();
        for (name, restored) in contents.collections {
            let started = Instant::now();
            let engine = Engine::restore(&settings.engine, model.clone(), restored)?;
            tracing::info!(collection = %name, faces = engine.len(), seconds = started.elapsed().as_secs_f64(), "restored");
            view.show(&name, &engine);
            metrics.faces.add(engine.len() as i64);
            let living = engine.clusters().records().iter().filter(|cluster| cluster.merged_into.is_none());
            metrics.clusters.add(living.count() as i64);
            engines.insert(name, engine);
        }
        metrics.collections.set(engines.len() as i64);
        metrics.outbox_entries.set(store.outbox().len() as i64);
        Ok(Shard { settings, model, store, engines, positions: contents.positions, view, metrics })
    }

    pub fn state_uuid(&self) -> &str {
        self.store.state_uuid()
    }

    pub fn outbox(&self) -> Outbox {
        self.store.outbox()
    }

    /// For each partition, the offset of the first record that is not applied yet.
    pub fn positions(&self) -> &BTreeMap<Partition, Offset> {
        &self.positions
    }

    pub fn engine(&self, collection: &CollectionName) -> Option<&Engine> {
        self.engines.get(collection)
    }

    /// Applies records of the input, in the order they were read, as one commit: each is applied,
    /// ignored as a duplicate or written to the outbox as a dead letter.
    pub fn apply(&mut self, records: Vec<Intake>, now: Timestamp) -> Result<Applied, ShardError> {
        let mut commit = Commit { now, ..Commit::default() };
        let mut sorted: BTreeMap<CollectionName, Sorted> = BTreeMap::new();
        for Intake { record, content } in records {
            let next = record.place.offset.next();
            if self.positions.get(&record.place.partition).is_some_and(|&position| next <= position) {
                // Read a second time, such as after a change of the consumer's position.
                continue;
            }
            self.positions.insert(record.place.partition, next);
            commit.positions.insert(record.place.partition, next);
            match self.admit(content, &sorted) {
                Ok(Admitted { collection, face }) => {
                    let entry = sorted.entry(collection).or_default();
                    entry.records.push(record);
                    entry.faces.push(face);
                }
                Err(rejection) => commit.dead_letters.push(FaceRejected { record, rejection }.report(&self.metrics)),
            }
        }
        for (collection, Sorted { records, faces }) in sorted {
            let mut changes = self.apply_to(&collection, faces, now)?;
            for (record, outcome) in records.into_iter().zip(std::mem::take(&mut changes.outcomes)) {
                match outcome {
                    Outcome::Added(_) => {}
                    Outcome::Duplicate => self.metrics.duplicates.inc(),
                    Outcome::Rejected(rejection) => {
                        commit.dead_letters.push(FaceRejected { record, rejection }.report(&self.metrics));
                    }
                }
            }
            commit.collections.push(CollectionCommit { collection, changes });
        }
        self.commit(&commit)?;
        Ok(self.tell(&commit))
    }

    /// Whether a record's face may go to its collection.
    fn admit(&self, content: Content, sorted: &BTreeMap<CollectionName, Sorted>) -> Result<Admitted, Rejection> {
        let (collection, face) = match content {
            Content::Face { collection, face } => (collection, face),
            Content::Rejected(rejection) => return Err(rejection),
        };
        let known = self.engines.contains_key(&collection) || sorted.contains_key(&collection);
        let started = sorted.keys().filter(|name| !self.engines.contains_key(name)).count();
        if !known && self.engines.len() + started >= self.settings.max_collections {
            let most = self.settings.max_collections;
            let detail = format!("there are {most} collections already; raise collections.max");
            return Err(Rejection { reason: Reason::CollectionLimit, detail });
        }
        Ok(Admitted { collection, face })
    }

    fn apply_to(
        &mut self,
        collection: &CollectionName,
        faces: Vec<Face>,
        now: Timestamp,
    ) -> Result<Changes, ShardError> {
        let engine = self.engines.entry(collection.clone()).or_insert_with(|| {
            tracing::info!(%collection, "new collection");
            Engine::new(&self.settings.engine, self.model.clone())
        });
        let refresh_budget = faces.len() * self.settings.refresh_per_face;
        let mut observer = StepTimer { metrics: &self.metrics, since: Instant::now() };
        Ok(engine.apply(Batch { faces, refresh_budget, now }, &mut observer)?)
    }

    fn commit(&mut self, commit: &Commit) -> Result<(), ShardError> {
        let timer = self.metrics.commit_seconds.start_timer();
        self.store.commit(commit)?;
        timer.observe_duration();
        Ok(())
    }

    /// What is committed may be seen: by readers and in the metrics.
    fn tell(&self, commit: &Commit) -> Applied {
        let metrics = &self.metrics;
        let mut applied = Applied { outbox_entries: commit.dead_letters.len() };
        for CollectionCommit { collection, changes } in &commit.collections {
            self.view.update(collection, changes);
            metrics.faces.add(changes.added.len() as i64);
            metrics.encoded.inc_by(changes.work.encoded as u64);
            metrics.linked.inc_by(changes.work.linked as u64);
            metrics.affected.inc_by(changes.work.affected as u64);
            metrics.deferred.inc_by(changes.work.deferred as u64);
            for event in &changes.events {
                metrics.events.with_label_values(&[event.change.name()]).inc();
                match event.change {
                    Change::Created { .. } => metrics.clusters.inc(),
                    Change::Joined { .. } => {}
                    Change::Merged { .. } => metrics.clusters.dec(),
                }
            }
            applied.outbox_entries += changes.events.len();
        }
        metrics.collections.set(self.engines.len() as i64);
        metrics.outbox_entries.add(applied.outbox_entries as i64);
        applied
    }
}

/// A batch's faces of one collection, and the records they came in.
#[derive(Default)]
struct Sorted {
    records: Vec<Record>,
    faces: Vec<Face>,
}

/// A face and where it goes.
struct Admitted {
    collection: CollectionName,
    face: Face,
}

/// Gives the engine's steps the clock it has not.
struct StepTimer<'a> {
    metrics: &'a Metrics,
    since: Instant,
}

impl Observer for StepTimer<'_> {
    fn finished(&mut self, step: Step) {
        let now = Instant::now();
        let took = now - self.since;
        self.metrics.step_seconds.with_label_values(&[step.name()]).observe(took.as_secs_f64());
        self.since = now;
    }
}
