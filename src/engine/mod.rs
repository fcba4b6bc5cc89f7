//! The engine: a batch of requests in, changes of clusters out. One a collection, with one door,
//! [`Engine::apply`].
//!
//! Plain synchronous code: no tokio, no Kafka, no clock and no chance. Time and the refresh budget
//! arrive with the batch, which may be empty, so a test, the batch command and the daemon drive the
//! very same engine: `facetd cluster` is one batch that holds every face.
//!
//! A batch walks five steps: [`index`] → [`graph`] → [`encode`] → [`link`] → [`cluster`]. Before them
//! [`intake`] sorts out what is asked, between them [`scoring`] decides who is scored: the newcomers,
//! and of the faces they made stale ([`refresh`]) as many as the budget allows. The others wait; once
//! none does, the collection is settled, and its clusters are those of the batch pipeline.
//!
//! What it derives can be cut as a [`snapshot`] between two batches; [`resume`] goes on from what a
//! store kept, with a snapshot or without.
//!
//! Cost of a batch of b faces: b inserts and searches, RE for the newcomers and those whose first
//! `hop2` they entered, LP for the newcomers and at most `refresh_budget` stale faces, and the merging
//! rule on the components in which a linkage changed.

pub mod changes;
pub mod cluster;
pub mod edges;
pub mod encode;
pub mod event;
pub mod faces;
pub mod graph;
pub mod index;
mod intake;
pub mod link;
pub mod look;
pub mod merging;
pub mod refresh;
mod resume;
pub mod retention;
mod scoring;
pub mod snapshot;
pub mod standing;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::face::{Embedding, FaceId, NodeId, Timestamp};
use crate::model::{FaceTransformer, ModelError};
use changes::{Batch, Changes, Counters, FaceRecord, KeptFace, KeptLinkage, KeptLinkages, NewVector, Work};
use cluster::{ClusterSettings, Clusters, Mode};
use event::Cause;
use faces::{Faces, Known};
use graph::Graph;
use index::{Index, IndexKind};
use link::Linkage;
use refresh::StaleFaces;
use retention::{Ages, Retention};

/// Why a batch could not be applied. The engine is then unusable: its memory may be ahead of the
/// store, so the caller starts again from what was committed.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    #[error(transparent)]
    Model(#[from] ModelError),
    #[error("the collection holds {0} faces, the most a node number can count; start another collection")]
    Full(usize),
}

/// How a collection is clustered.
#[derive(Debug, Clone, PartialEq)]
pub struct EngineSettings {
    pub index: IndexKind,
    pub clusters: ClusterSettings,
    pub retention: Retention,
}

/// The steps of a batch, for those who time them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    Insert,
    Search,
    Graph,
    Encode,
    Link,
    Cluster,
}

impl Step {
    pub const ALL: [Step; 6] = [Step::Insert, Step::Search, Step::Graph, Step::Encode, Step::Link, Step::Cluster];

    pub fn name(self) -> &'static str {
        match self {
            Step::Insert => "insert",
            Step::Search => "search",
            Step::Graph => "graph",
            Step::Encode => "encode",
            Step::Link => "link",
            Step::Cluster => "cluster",
        }
    }
}

/// Is told when a step is over. The engine has no clock; whoever wants times brings one.
pub trait Observer {
    fn finished(&mut self, step: Step);
}

/// For those who want none.
impl Observer for () {
    fn finished(&mut self, _step: Step) {}
}

/// The faces of one collection, kept clustered.
pub struct Engine {
    model: Arc<dyn FaceTransformer>,
    faces: Faces,
    ages: Ages,
    index: Box<dyn Index>,
    graph: Graph,
    stale: StaleFaces,
    clusters: Clusters,
    /// The last arrival given.
    arrival: u64,
    /// The latest time a batch came with: time does not run backwards here.
    now: Timestamp,
    ledger: Ledger,
}

/// What the batch at hand touched, to be told at its end as it is then.
#[derive(Debug, Default)]
struct Ledger {
    /// Faces that came or were replaced and are on their way into index and graph.
    arriving: BTreeSet<NodeId>,
    faces: BTreeSet<NodeId>,
    vectors: BTreeSet<NodeId>,
    linkages: BTreeMap<NodeId, Vec<Linkage>>,
    gone_nodes: BTreeSet<NodeId>,
    gone_ids: BTreeSet<FaceId>,
    /// Faces that were there and whose `g` is to be written anew.
    encode: BTreeSet<NodeId>,
    /// Why a face is to be scored again, where the batch itself is why.
    causes: BTreeMap<NodeId, Cause>,
    work: Work,
}

impl Engine {
    pub fn new(settings: &EngineSettings, model: Arc<dyn FaceTransformer>) -> Engine {
        let shape = model.shape();
        Engine {
            model,
            faces: Faces::new(shape.dimension),
            ages: Ages::new(settings.retention),
            index: settings.index.build(),
            graph: Graph::new(shape.hop1, shape.hop2),
            stale: StaleFaces::default(),
            clusters: Clusters::new(settings.clusters.clone()),
            arrival: 0,
            now: Timestamp::default(),
            ledger: Ledger::default(),
        }
    }

    /// Applies a batch and says all that it changed. After an error the engine is not to be used any more.
    pub fn apply(&mut self, batch: Batch, observer: &mut dyn Observer) -> Result<Changes, EngineError> {
        let Batch { requests, refresh_budget, idle, now } = batch;
        if self.faces.len() + requests.len() > u32::MAX as usize {
            return Err(EngineError::Full(self.faces.len()));
        }
        self.now = self.now.max(now);
        self.expire(&requests);
        let outcomes = requests.into_iter().map(|request| self.take_in(request)).collect();
        self.admit(observer);
        self.score(refresh_budget, idle, observer)?;
        self.clusters.step(&self.faces, Mode { idle, fresh: self.stale.is_empty() });
        // Only in a quiet moment: in a steady stream every batch would end with one.
        if idle && self.is_settled() && !self.has_told_it_is_settled() {
            self.clusters.book_mut().settle(self.faces.len(), Cause::Refresh);
        }
        let changes = Changes { outcomes, ..self.take_changes() };
        observer.finished(Step::Cluster);
        Ok(changes)
    }

    /// Whether nothing is stale and clusters are what the merging rule gives.
    pub fn is_settled(&self) -> bool {
        self.stale.is_empty() && self.clusters.is_settled()
    }

    /// Whether nothing has happened since the last `settled` event.
    pub fn has_told_it_is_settled(&self) -> bool {
        let book = self.clusters.book();
        book.sequence() == book.settled_at()
    }

    /// Whether an empty batch at `now` would find something to do.
    pub fn has_work(&self, now: Timestamp) -> bool {
        !self.is_settled()
            || !self.has_told_it_is_settled()
            || self.index.is_building()
            || self.ages.next_to_expire(now, 0).is_some()
    }

    /// Tells everything anew, as if each face had just come, in events that count from 1.
    pub fn retell(&mut self) -> Changes {
        let (faces, order) = (&self.faces, |node| self.faces.arrival(node));
        self.clusters.book_mut().retell(|node| faces.id(node).clone(), order, Cause::Api);
        self.take_changes()
    }

    fn take_changes(&mut self) -> Changes {
        let ledger = std::mem::take(&mut self.ledger);
        let written = self.clusters.book_mut().take_written();
        let words = self.clusters.take_constraints();
        let touched = ledger.faces.union(&written.moved).copied().filter(|&node| self.faces.is_live(node));
        let faces = touched.map(|node| KeptFace { node, record: self.record(node) }).collect();
        let vectors = ledger.vectors.into_iter().filter(|&node| self.faces.is_live(node));
        let embedding = |node| Embedding::from_normalised(self.faces.embedding(node));
        let vectors = vectors.map(|node| NewVector { node, embedding: embedding(node) }).collect();
        let linkages = ledger.linkages.into_iter().map(|(node, linkages)| KeptLinkages {
            node,
            linkages: linkages
                .into_iter()
                .map(|Linkage { candidate, probability }| KeptLinkage {
                    candidate: self.faces.arrival(candidate),
                    probability,
                })
                .collect(),
        });
        let book = self.clusters.book();
        let (sequence, settled, cluster) = (book.sequence(), book.settled_at(), book.last_cluster());
        Changes {
            outcomes: Vec::new(),
            faces,
            vectors,
            linkages: linkages.collect(),
            gone_nodes: ledger.gone_nodes.into_iter().filter(|&node| !self.faces.is_live(node)).collect(),
            gone_ids: ledger.gone_ids.into_iter().filter(|id| self.faces.node(id).is_none()).collect(),
            clusters: written.clusters,
            retired: written.retired,
            described: written.described,
            constraints: words.given,
            released: words.released,
            events: written.events,
            counters: Counters { sequence, settled, cluster, arrival: self.arrival },
            work: Work { reclustered: self.clusters.take_reclustered(), ..ledger.work },
        }
    }

    /// A face as the store keeps it.
    fn record(&self, node: NodeId) -> FaceRecord {
        let Known { id, arrival, frame, quality, captured_at, arrived_at, place } = self.faces.known(node).clone();
        let seat = self.clusters.book().seat(node).expect("after a step every face is in a cluster");
        FaceRecord {
            id,
            arrival,
            home: seat.home,
            home_version: seat.home_version,
            frame_id: frame,
            quality,
            captured_at,
            arrived_at,
            place,
        }
    }

    pub fn len(&self) -> usize {
        self.faces.len()
    }

    pub fn is_empty(&self) -> bool {
        self.faces.is_empty()
    }

    pub fn faces(&self) -> &Faces {
        &self.faces
    }

    pub fn clusters(&self) -> &Clusters {
        &self.clusters
    }

    pub fn index(&self) -> &dyn Index {
        self.index.as_ref()
    }

    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// How many faces are stale.
    pub fn stale(&self) -> usize {
        self.stale.len()
    }

    /// Since when the longest waiting face is stale.
    pub fn stale_since(&self) -> Option<Timestamp> {
        self.stale.oldest()
    }
}

#[cfg(test)]
mod tests;
