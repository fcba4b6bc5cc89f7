//! A shard in a folder of its own, driven as the daemon drives it, and a consumer of what it publishes
//! that trusts the wire alone. At every `settled` the two must know the same clusters.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use facetd::config::Config;
use facetd::daemon::shard::{Shard, ShardSettings};
use facetd::engine::Engine;
use facetd::engine::changes::{Outcome, Request};
use facetd::engine::event::{Cause, Change, Event};
use facetd::face::{ClusterId, CollectionName, Face, FaceId, Offset, Partition, Place, Timestamp};
use facetd::metrics::Metrics;
use facetd::model::{Artefact, OnnxModel};
use facetd::publish::cloudevents::Wire;
use facetd::reader::{Clusters, EventReader};
use facetd::source::{Content, Intake, Record};
use facetd::store::{Entry, FaceKey, Published};
use facetd::view::View;

/// Between two steps, in milliseconds.
const STEP: i64 = 1000;
/// Quiet moments in which any of the tests' collections must have settled.
const PATIENCE: usize = 100_000;

/// What became of an operator's request, and what happened with it.
pub struct Answer {
    pub outcome: Outcome,
    pub events: Vec<Event>,
}

/// A shard with one collection at work, and its consumer.
pub struct DrivenShard {
    folder: tempfile::TempDir,
    settings: ShardSettings,
    config: Config,
    model: Arc<OnnxModel>,
    /// None only while it is opened again.
    shard: Option<Shard>,
    collection: CollectionName,
    offset: i64,
    now: Timestamp,
    published: u64,
    pub consumer: EventReader,
    /// How often the consumer's clusters were held against the engine's.
    pub comparisons: usize,
}

impl DrivenShard {
    pub fn open(config: Config, artefact: &Artefact, model: Arc<OnnxModel>) -> DrivenShard {
        let folder = tempfile::tempdir().unwrap();
        let settings = ShardSettings::new(&config, artefact);
        let collection = config.collections.default.clone();
        let mut driven = DrivenShard {
            folder,
            settings,
            config,
            model,
            shard: None,
            collection,
            offset: 0,
            now: Timestamp(1_000_000),
            published: 0,
            consumer: EventReader::default(),
            comparisons: 0,
        };
        driven.restart();
        driven
    }

    /// Goes on from what is on disk, under another configuration.
    pub fn restart_with(&mut self, config: Config, artefact: &Artefact) {
        self.settings = ShardSettings::new(&config, artefact);
        self.config = config;
        self.restart();
    }

    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Closes the state and goes on from what is on disk.
    pub fn restart(&mut self) {
        self.shard = None;
        let (view, metrics) = (Arc::new(View::default()), Arc::new(Metrics::new()));
        let shard = Shard::open(self.folder.path(), self.settings.clone(), self.model.clone(), view, metrics).unwrap();
        self.shard = Some(shard);
    }

    pub fn shard(&self) -> &Shard {
        self.shard.as_ref().unwrap()
    }

    pub fn collection(&self) -> &CollectionName {
        &self.collection
    }

    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// The place in the input of the next record.
    fn place(&mut self) -> Place {
        self.offset += 1;
        Place { partition: Partition(0), offset: Offset(self.offset - 1) }
    }

    /// A record that brings a face; its place is given here.
    pub fn arrival(&mut self, face: Face) -> Intake {
        let place = self.place();
        let key = face.id.clone();
        self.intake(place, &key, Content::Face { collection: self.collection.clone(), face: Face { place, ..face } })
    }

    /// A null payload.
    pub fn erasure(&mut self, face_id: FaceId) -> Intake {
        let place = self.place();
        let key = face_id.clone();
        self.intake(place, &key, Content::Erase { collection: self.collection.clone(), face_id })
    }

    fn intake(&self, place: Place, key: &FaceId, content: Content) -> Intake {
        let key = Some(key.as_str().as_bytes().into());
        Intake {
            record: Record { place, key, payload_bytes: 0, payload_sha256: [0; 32], timestamp: None, followed: None },
            content,
        }
    }

    /// Applies a batch of records; answers its events.
    pub fn apply(&mut self, records: Vec<Intake>) -> Vec<Event> {
        self.now.0 += STEP;
        self.shard.as_mut().unwrap().apply(records, self.now).unwrap();
        self.consume()
    }

    /// Does what an operator asks.
    pub fn operate(&mut self, request: Request) -> Answer {
        self.now.0 += STEP;
        let mut outcomes = self.shard.as_mut().unwrap().operate(&self.collection, vec![request], self.now).unwrap();
        Answer { outcome: outcomes.remove(0), events: self.consume() }
    }

    /// Lets an erased face come back.
    pub fn allow(&mut self, face: FaceId) {
        let key = FaceKey { collection: self.collection.clone(), face };
        self.shard.as_mut().unwrap().allow(vec![key], self.now).unwrap();
    }

    /// A quiet moment, if there is something to do in it; answers its events.
    pub fn idle(&mut self) -> Option<Vec<Event>> {
        let busy = self.shard.as_mut().unwrap().idle(self.now).unwrap();
        busy.then(|| self.consume())
    }

    /// Quiet moments until nothing is left to do; answers their events.
    pub fn settle(&mut self) -> Vec<Event> {
        let mut all = Vec::new();
        for _ in 0..PATIENCE {
            let Some(events) = self.idle() else { return all };
            all.extend(events);
        }
        panic!("it never settles");
    }

    /// Reads what was published since the last step, as a consumer of the topic would.
    fn consume(&mut self) -> Vec<Event> {
        let outbox = self.shard().outbox();
        let pending = outbox.pending(self.published, usize::MAX).unwrap();
        outbox.acknowledge(&Published::up_to(outbox.durable().sequence)).unwrap();
        let wire = Wire::new(&self.config.kafka, self.shard().state_uuid());
        let mut events = Vec::new();
        for pending in pending {
            self.published = pending.sequence;
            for record in wire.records(&pending.entry) {
                if *record.topic == *self.config.kafka.events_topic {
                    self.consumer.read(&record.payload.unwrap()).unwrap();
                }
            }
            if let Entry::Event { event, .. } = pending.entry {
                events.push(event);
            }
        }
        // The last event of a commit, so the engine is still as it was then.
        if let Some(Change::Settled { .. }) = events.last().map(|event| &event.change) {
            assert_eq!(self.consumer.clusters(self.collection.as_str()), self.clusters(), "at {:?}", events.last());
            self.comparisons += 1;
        }
        events
    }

    /// Who is with whom, as the engine has it.
    pub fn clusters(&self) -> Clusters {
        let mut clusters: BTreeMap<ClusterId, BTreeSet<FaceId>> = BTreeMap::new();
        let Some(engine) = self.shard().engine(&self.collection) else { return clusters };
        for node in engine.faces().live() {
            let cluster = engine.clusters().book().cluster_of(node).unwrap();
            clusters.entry(cluster).or_default().insert(engine.faces().id(node).clone());
        }
        clusters
    }

    pub fn engine(&self) -> &Engine {
        self.shard().engine(&self.collection).unwrap()
    }
}

/// The faces that events erase because of retention.
pub fn expired(events: &[Event]) -> Vec<FaceId> {
    let expired = events.iter().filter_map(|event| match (&event.change, event.cause) {
        (Change::Erased { face, .. }, Cause::Expired) => Some(face.clone()),
        _ => None,
    });
    expired.collect()
}
