//! The engine: a batch of faces in, changes of clusters out. One a collection, with one door,
//! [`Engine::apply`].
//!
//! Plain synchronous code: no tokio, no Kafka, no clock and no chance. Time and the refresh budget
//! arrive with the batch, so a test, the batch command and the daemon drive the very same engine:
//! `facetd cluster` is one batch that holds every face.
//!
//! A batch walks five steps, each a file: [`index`] → [`graph`] → [`encode`] → [`link`] → [`cluster`].
//! Cost of a batch of b faces: b inserts and searches, RE for the newcomers and those whose first
//! `hop2` they entered, LP for the newcomers and at most `refresh_budget` of those affected.

pub mod cluster;
pub mod encode;
pub mod faces;
pub mod graph;
pub mod index;
pub mod link;

use std::collections::BTreeMap;
use std::sync::Arc;

use rayon::prelude::*;

use crate::face::{ClusterId, Embedding, Face, FaceId, NodeId, Timestamp};
use crate::model::artefact::Merging;
use crate::model::{FaceTransformer, ModelError};
use crate::rejection::{Reason, Rejection};
use cluster::{Cluster, Clusters, Event, Newcomer};
use faces::{Faces, nodes};
use graph::{Affected, Graph};
use index::{Index, IndexKind};
use link::Scored;

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
    pub merging: Merging,
}

/// What is applied at once.
#[derive(Debug, Clone)]
pub struct Batch {
    pub faces: Vec<Face>,
    /// How many affected faces may be scored again beside the newcomers.
    pub refresh_budget: usize,
    /// When the batch is applied.
    pub now: Timestamp,
}

/// What became of a face of a batch.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    Added(NodeId),
    /// The same id with the same embedding is there already: nothing to do.
    Duplicate,
    Rejected(Rejection),
}

/// A face that the batch added, as the store keeps it.
#[derive(Debug, Clone, PartialEq)]
pub struct AddedFace {
    pub node: NodeId,
    pub face: Face,
    pub home: ClusterId,
    pub arrived_at: Timestamp,
}

/// Everything a batch changed. What the store writes is in here and nothing else.
#[derive(Debug, Default)]
pub struct Changes {
    /// One for each face of the batch, in its order.
    pub outcomes: Vec<Outcome>,
    pub added: Vec<AddedFace>,
    /// Each replaces what was known of that face's linkages.
    pub scored: Vec<Scored>,
    pub clusters: Vec<Cluster>,
    pub events: Vec<Event>,
    pub work: Work,
}

/// How much a batch had to do.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Work {
    pub encoded: usize,
    pub linked: usize,
    /// Faces whose neighbourhood a newcomer entered.
    pub affected: usize,
    /// Of those, how many the budget left unscored.
    pub deferred: usize,
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

/// A face as the store kept it.
#[derive(Debug, Clone)]
pub struct RestoredFace {
    pub id: FaceId,
    pub embedding: Embedding,
    pub home: ClusterId,
}

/// What an engine goes on from.
#[derive(Debug, Default)]
pub struct Restored {
    /// By node.
    pub faces: Vec<RestoredFace>,
    /// By id from 1.
    pub clusters: Vec<Cluster>,
    /// Sequence of the last event.
    pub sequence: u64,
}

/// The faces of one collection, kept clustered.
pub struct Engine {
    model: Arc<dyn FaceTransformer>,
    merging: Merging,
    faces: Faces,
    index: Box<dyn Index>,
    graph: Graph,
    clusters: Clusters,
}

impl Engine {
    pub fn new(settings: &EngineSettings, model: Arc<dyn FaceTransformer>) -> Engine {
        let shape = model.shape();
        Engine {
            model,
            merging: settings.merging.clone(),
            faces: Faces::new(shape.dimension),
            index: settings.index.build(),
            graph: Graph::new(shape.hop1, shape.hop2),
            clusters: Clusters::restore(Vec::new(), Vec::new(), 0),
        }
    }

    /// An engine that goes on from what a store kept: clusters as they were, index, neighbourhoods
    /// and `g` computed anew. n inserts and searches, n rows of RE.
    pub fn restore(
        settings: &EngineSettings,
        model: Arc<dyn FaceTransformer>,
        restored: Restored,
    ) -> Result<Engine, EngineError> {
        let mut engine = Engine::new(settings, model);
        let mut homes = Vec::with_capacity(restored.faces.len());
        for face in restored.faces {
            engine.faces.add(face.id, &face.embedding);
            homes.push(face.home);
        }
        engine.clusters = Clusters::restore(restored.clusters, homes, restored.sequence);
        engine.admit(0, &mut ());
        let all: Vec<NodeId> = nodes(0..engine.faces.len()).collect();
        encode::encode(engine.model.as_ref(), &engine.graph, &mut engine.faces, &all)?;
        Ok(engine)
    }

    /// Adds a batch of faces and says all that it changed. After an error the engine is not to be
    /// used any more.
    pub fn apply(&mut self, batch: Batch, observer: &mut dyn Observer) -> Result<Changes, EngineError> {
        let Batch { faces, refresh_budget, now } = batch;
        let first_new = self.faces.len();
        if first_new + faces.len() > u32::MAX as usize {
            return Err(EngineError::Full(first_new));
        }
        let Admission { outcomes, newcomers } = self.take_in(faces);
        if newcomers.is_empty() {
            return Ok(Changes { outcomes, ..Changes::default() });
        }

        let affected = self.admit(first_new, observer);
        let refreshed = nearest_affected(&affected, refresh_budget);

        let mut to_encode: Vec<NodeId> = nodes(first_new..self.faces.len()).collect();
        to_encode.extend(affected.iter().filter(|(_, how)| how.enhanced_is_stale).map(|(&node, _)| node));
        encode::encode(self.model.as_ref(), &self.graph, &mut self.faces, &to_encode)?;
        observer.finished(Step::Encode);

        let mut to_link: Vec<NodeId> = nodes(first_new..self.faces.len()).collect();
        to_link.extend(&refreshed);
        let scored = link::link(self.model.as_ref(), &self.graph, &self.faces, &to_link)?;
        observer.finished(Step::Link);

        // A newcomer's links are its own doing, an affected face's that of the nearest newcomer.
        let cause = |node: NodeId| {
            let newcomer = affected.get(&node).map_or(node, |how| how.newcomer);
            newcomers[newcomer.index() - first_new].place
        };
        let links = cluster::links(&self.merging, &scored, cause);
        let arrivals: Vec<Newcomer> =
            newcomers.iter().map(|face| Newcomer { face: face.id.clone(), place: face.place }).collect();
        let events = self.clusters.apply(&arrivals, &links);
        let added = newcomers.into_iter().zip(nodes(first_new..self.faces.len()));
        let added = added.map(|(face, node)| AddedFace { node, face, home: self.clusters.home(node), arrived_at: now });
        let changes = Changes {
            outcomes,
            added: added.collect(),
            work: Work {
                encoded: to_encode.len(),
                linked: to_link.len(),
                affected: affected.len(),
                deferred: affected.len() - refreshed.len(),
            },
            scored,
            clusters: self.clusters.take_changed(),
            events,
        };
        observer.finished(Step::Cluster);
        Ok(changes)
    }

    /// Gives every face that is new its node; the others are told apart by what is known of them.
    fn take_in(&mut self, faces: Vec<Face>) -> Admission {
        let mut admission = Admission { outcomes: Vec::with_capacity(faces.len()), newcomers: Vec::new() };
        for face in faces {
            let outcome = match self.faces.node(&face.id) {
                None => {
                    let node = self.faces.add(face.id.clone(), &face.embedding);
                    admission.newcomers.push(face);
                    Outcome::Added(node)
                }
                Some(node) if self.faces.embedding(node) == face.embedding.values() => Outcome::Duplicate,
                Some(_) => Outcome::Rejected(Rejection {
                    reason: Reason::ConflictingEmbedding,
                    detail: "this face_id is there with another embedding; give the new face an id of its own".into(),
                }),
            };
            admission.outcomes.push(outcome);
        }
        admission
    }

    /// Inserts the faces from node `first_new` on, lets them meet the others and finds whom they affect.
    fn admit(&mut self, first_new: usize, observer: &mut dyn Observer) -> BTreeMap<NodeId, Affected> {
        let new = first_new..self.faces.len();
        self.index.insert(&self.faces, new.clone());
        observer.finished(Step::Insert);
        let (faces, index, graph) = (&self.faces, &self.index, &self.graph);
        let nearest = self.model.shape().hop1;
        let newcomers: Vec<NodeId> = nodes(new).collect();
        let search =
            |&newcomer: &NodeId| index.search(faces, newcomer, nearest, &|met| graph.would_enter(faces, met, newcomer));
        let met: Vec<_> = newcomers.par_iter().map(search).collect();
        observer.finished(Step::Search);
        let affected = self.graph.admit(&self.faces, met);
        observer.finished(Step::Graph);
        affected
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

    pub fn graph(&self) -> &Graph {
        &self.graph
    }
}

/// A batch told apart.
struct Admission {
    outcomes: Vec<Outcome>,
    newcomers: Vec<Face>,
}

/// The affected faces that the budget lets score again: those nearest to a newcomer, in order of node.
fn nearest_affected(affected: &BTreeMap<NodeId, Affected>, budget: usize) -> Vec<NodeId> {
    let mut chosen: Vec<(&NodeId, &Affected)> = affected.iter().collect();
    if chosen.len() > budget {
        chosen.sort_by(|(a, left), (b, right)| right.similarity.total_cmp(&left.similarity).then_with(|| a.cmp(b)));
        chosen.truncate(budget);
    }
    let mut chosen: Vec<NodeId> = chosen.into_iter().map(|(&node, _)| node).collect();
    chosen.sort_unstable();
    chosen
}

#[cfg(test)]
mod tests;
