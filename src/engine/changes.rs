//! What goes into the engine and what comes out: a [`Batch`] of requests, and its [`Changes`].

use serde::{Deserialize, Serialize};

use super::event::{Cause, Cluster, Event};
use super::snapshot::Since;
use crate::face::{Arrival, ClusterId, Embedding, Face, FaceId, NodeId, Place, Timestamp};
use crate::rejection::{Reason, Rejection};

/// The longest name of a cluster, in bytes: it goes into every record of the cluster's state.
pub const MAX_NAME_BYTES: usize = 256;

/// What is applied at once.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    /// In order. May be empty.
    pub requests: Vec<Request>,
    /// How many stale faces may be scored again beside the newcomers.
    pub refresh_budget: usize,
    /// Nobody waits: what is left for a quiet moment has its turn.
    pub idle: bool,
    /// When the batch is applied.
    pub now: Timestamp,
}

/// Something asked of the engine.
#[derive(Debug, Clone, PartialEq)]
pub enum Request {
    /// A face that is new, or another embedding of one that is there.
    Face(Face),
    Erase {
        face: FaceId,
        cause: Cause,
    },
    /// Erases every face of a living cluster: a person.
    EraseCluster {
        cluster: ClusterId,
    },
    /// Erases every face of the collection.
    EraseCollection,
    /// Has two faces be, or never be, one person, whatever their linkages.
    Constrain(Constraint),
    /// Takes a constraint between two faces back.
    Release {
        a: FaceId,
        b: FaceId,
    },
    /// Pins and names a living cluster.
    Describe {
        cluster: ClusterId,
        pinned: bool,
        name: Option<String>,
    },
}

/// The engine asks it of every name; a command may ask before it restores a state for it.
pub fn check_name(name: Option<&str>) -> Result<(), Rejection> {
    match name.map_or(0, str::len) {
        0..=MAX_NAME_BYTES => Ok(()),
        bytes => {
            let detail = format!("the name is {bytes} bytes long, at most {MAX_NAME_BYTES} are accepted");
            Err(Rejection::new(Reason::BadName, detail))
        }
    }
}

/// An operator's word on two faces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Constraint {
    pub kind: ConstraintKind,
    pub a: FaceId,
    pub b: FaceId,
    /// Who said so, for those who ask later.
    pub by: String,
    pub at: Timestamp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConstraintKind {
    MustLink,
    CannotLink,
}

/// Two faces, in order of face_id.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PairOfFaces {
    pub first: FaceId,
    pub second: FaceId,
}

impl PairOfFaces {
    pub fn new(a: &FaceId, b: &FaceId) -> PairOfFaces {
        let (first, second) = if a <= b { (a, b) } else { (b, a) };
        PairOfFaces { first: first.clone(), second: second.clone() }
    }
}

/// What became of a request.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    Added,
    /// The face has another embedding now.
    Replaced,
    /// The same id with the same embedding is there already, or what is asked for is so already: nothing to do.
    Duplicate,
    /// How many faces were erased.
    Erased(usize),
    /// Done, with nothing more to say.
    Done,
    Rejected(Rejection),
}

/// A live face but for its embedding.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FaceRecord {
    pub id: FaceId,
    pub arrival: Arrival,
    /// The cluster it joined or moved to; see [`Cluster::merged_into`].
    pub home: ClusterId,
    /// Counts its homes from 1.
    pub home_version: u32,
    pub frame_id: Option<FaceId>,
    pub quality: Option<f32>,
    pub captured_at: Option<Timestamp>,
    pub arrived_at: Timestamp,
    /// The record of the input that brought it.
    pub place: Place,
}

/// A face whose record is to be kept as it is now.
#[derive(Debug, Clone, PartialEq)]
pub struct KeptFace {
    pub node: NodeId,
    pub record: FaceRecord,
}

/// The embedding of a face that is new or was replaced.
#[derive(Debug, Clone, PartialEq)]
pub struct NewVector {
    pub node: NodeId,
    pub embedding: Embedding,
}

/// A face's linkages as they are kept. Candidates go by arrival, which is never given twice: the
/// linkage to a face that was erased or replaced meanwhile finds nobody.
#[derive(Debug, Clone, PartialEq)]
pub struct KeptLinkages {
    pub node: NodeId,
    pub linkages: Vec<KeptLinkage>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct KeptLinkage {
    pub candidate: Arrival,
    pub probability: f32,
}

/// How far a collection has counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Sequence of the last event.
    pub sequence: u64,
    /// Sequence of the last `settled` event.
    pub settled: u64,
    /// The last cluster id given.
    pub cluster: u64,
    /// The last arrival given.
    pub arrival: u64,
}

/// Everything a batch changed, as it is at its end. What the store writes is in here and nothing else.
#[derive(Debug, Default)]
pub struct Changes {
    /// One for each request of the batch, in its order.
    pub outcomes: Vec<Outcome>,
    /// Faces that are new, were replaced or moved.
    pub faces: Vec<KeptFace>,
    pub vectors: Vec<NewVector>,
    /// Nodes that were freed and not given again.
    pub gone_nodes: Vec<NodeId>,
    /// Ids that no face has any more.
    pub gone_ids: Vec<FaceId>,
    /// Each replaces what was known of that face's linkages.
    pub linkages: Vec<KeptLinkages>,
    /// Records that are new or changed.
    pub clusters: Vec<Cluster>,
    /// Records that ended.
    pub retired: Vec<ClusterId>,
    /// Of [`Changes::clusters`], those an operator pinned or named: told of without an event.
    pub described: Vec<Cluster>,
    /// Constraints that are new, or replace the one of the same two faces.
    pub constraints: Vec<Constraint>,
    /// Constraints that ended.
    pub released: Vec<Released>,
    pub events: Vec<Event>,
    pub counters: Counters,
    pub work: Work,
}

/// The two faces of a constraint that ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Released {
    pub a: FaceId,
    pub b: FaceId,
}

impl Changes {
    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.faces.is_empty()
            && self.gone_nodes.is_empty()
            && self.gone_ids.is_empty()
            && self.linkages.is_empty()
            && self.clusters.is_empty()
            && self.retired.is_empty()
            && self.constraints.is_empty()
            && self.released.is_empty()
            && self.events.is_empty()
    }
}

/// How much a batch had to do.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Work {
    /// Rows of RE.
    pub encoded: usize,
    /// Rows of LP, newcomers and refreshed faces alike.
    pub linked: usize,
    /// Stale faces that were scored again.
    pub refreshed: usize,
    /// Searches of the index.
    pub searched: usize,
    /// Faces that became stale, or more so.
    pub affected: usize,
    /// Faces of the components whose clusters were computed anew.
    pub reclustered: usize,
    /// Faces erased because of retention.
    pub expired: usize,
}

/// A face as the store kept it.
#[derive(Debug, Clone)]
pub struct RestoredFace {
    pub node: NodeId,
    pub record: FaceRecord,
    pub embedding: Embedding,
}

/// What an engine goes on from.
#[derive(Debug, Default)]
pub struct Restored {
    /// In order of node.
    pub faces: Vec<RestoredFace>,
    pub linkages: Vec<KeptLinkages>,
    pub clusters: Vec<Cluster>,
    pub constraints: Vec<Constraint>,
    pub counters: Counters,
    /// What an engine had derived some time ago; without it everything is derived anew.
    pub since: Option<Since>,
}
