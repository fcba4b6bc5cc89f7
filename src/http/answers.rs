//! What is answered, as JSON. As on the wire, cluster ids are strings, times RFC 3339.

use chrono::{DateTime, SecondsFormat};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::engine::changes;
use crate::engine::look;
use crate::face::{CollectionName, FaceId};
use crate::view::{CollectionView, Listed};

/// Whether a cluster lives.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    Live,
    Merged,
}

#[derive(Serialize, ToSchema)]
pub struct Cluster {
    #[schema(example = "12")]
    pub cluster_id: String,
    /// Its faces; of a merged one, those it had.
    pub size: u32,
    /// Counts its changes from 1.
    pub version: u64,
    /// Sequence of the event that changed it last; none since the daemon started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sequence: Option<u64>,
    pub status: Status,
    /// Where its faces are now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub merged_into: Option<String>,
    /// An operator's name for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its id is to outlive those of others.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub pinned: bool,
}

impl Cluster {
    pub fn of(Listed { cluster, sequence }: &Listed) -> Cluster {
        Cluster {
            cluster_id: cluster.id.to_string(),
            size: cluster.size,
            version: cluster.version,
            sequence: *sequence,
            status: if cluster.lives() { Status::Live } else { Status::Merged },
            merged_into: cluster.merged_into.map(|id| id.to_string()),
            name: cluster.name.clone(),
            pinned: cluster.pinned,
        }
    }
}

#[derive(Serialize, ToSchema)]
pub struct Clusters {
    pub clusters: Vec<Cluster>,
    /// To be given as `after` for the next page; null at the end.
    pub next: Option<String>,
}

/// A face and the living cluster it is in.
#[derive(Serialize, ToSchema)]
pub struct Face {
    pub face_id: String,
    #[serde(flatten)]
    pub cluster: Cluster,
}

impl Face {
    pub fn of(face: &FaceId, listed: &Listed) -> Face {
        Face { face_id: face.to_string(), cluster: Cluster::of(listed) }
    }
}

#[derive(Serialize, ToSchema)]
pub struct Member {
    pub face_id: String,
}

#[derive(Serialize, ToSchema)]
pub struct Members {
    pub faces: Vec<Member>,
    pub next: Option<String>,
}

/// How many clusters are of about one size.
#[derive(Serialize, ToSchema)]
pub struct SizeClass {
    /// A power of two; the class is of sizes above half of it.
    pub up_to: u32,
    pub clusters: usize,
}

#[derive(Serialize, ToSchema)]
pub struct Collection {
    pub collection: String,
    pub faces: usize,
    /// Those that live.
    pub clusters: usize,
    /// Of the last event.
    pub sequence: u64,
    pub sizes: Vec<SizeClass>,
}

impl Collection {
    pub fn of(name: &CollectionName, shown: &CollectionView) -> Collection {
        let sizes = shown.sizes().into_iter();
        Collection {
            collection: name.to_string(),
            faces: shown.faces(),
            clusters: shown.living(),
            sequence: shown.sequence(),
            sizes: sizes.map(|class| SizeClass { up_to: class.up_to, clusters: class.clusters }).collect(),
        }
    }
}

#[derive(Serialize, ToSchema)]
pub struct Collections {
    pub collections: Vec<Collection>,
}

#[derive(Serialize, ToSchema)]
pub struct Erased {
    /// How many faces.
    pub erased: usize,
}

#[derive(Serialize, ToSchema)]
pub struct Released {
    /// How many constraints.
    pub released: usize,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ConstraintKind {
    /// The two are one person.
    MustLink,
    /// The two never are.
    CannotLink,
}

impl From<ConstraintKind> for changes::ConstraintKind {
    fn from(kind: ConstraintKind) -> changes::ConstraintKind {
        match kind {
            ConstraintKind::MustLink => changes::ConstraintKind::MustLink,
            ConstraintKind::CannotLink => changes::ConstraintKind::CannotLink,
        }
    }
}

/// An operator's word on two faces.
#[derive(Serialize, ToSchema)]
pub struct Constraint {
    pub kind: ConstraintKind,
    pub a: String,
    pub b: String,
    /// Who said so.
    pub by: String,
    #[schema(example = "2026-11-28T10:15:00.000Z")]
    pub at: String,
}

impl Constraint {
    pub fn of(constraint: &changes::Constraint) -> Constraint {
        let kind = match constraint.kind {
            changes::ConstraintKind::MustLink => ConstraintKind::MustLink,
            changes::ConstraintKind::CannotLink => ConstraintKind::CannotLink,
        };
        let at = DateTime::from_timestamp_millis(constraint.at.0).unwrap_or_default();
        let (a, b, by) = (constraint.a.to_string(), constraint.b.to_string(), constraint.by.clone());
        Constraint { kind, a, b, by, at: at.to_rfc3339_opts(SecondsFormat::Millis, true) }
    }
}

#[derive(Serialize, ToSchema)]
pub struct Constraints {
    pub constraints: Vec<Constraint>,
    pub next: Option<String>,
}

/// A face like the embedding.
#[derive(Serialize, ToSchema)]
pub struct FoundFace {
    pub face_id: String,
    /// The model's probability that it is the same person, 0 to 1.
    pub linkage: f32,
    /// The cosine of the two embeddings.
    pub similarity: f32,
}

#[derive(Serialize, ToSchema)]
pub struct FoundCluster {
    #[serde(flatten)]
    pub cluster: Cluster,
    /// What the merging rule would go by, 0 to 1; above the threshold the embedding would join.
    pub evidence: f32,
    /// Its faces in the embedding's neighbourhood, nearest first.
    pub faces: Vec<FoundFace>,
}

impl FoundCluster {
    pub fn of(found: look::FoundCluster, listed: &Listed) -> FoundCluster {
        let face = |found: look::FoundFace| FoundFace {
            face_id: found.face.to_string(),
            linkage: found.linkage,
            similarity: found.similarity,
        };
        let faces = found.faces.into_iter().map(face).collect();
        FoundCluster { cluster: Cluster::of(listed), evidence: found.evidence, faces }
    }
}

#[derive(Serialize, ToSchema)]
pub struct Found {
    /// The cluster a face with this embedding would join; null: it would found one.
    pub would_join: Option<String>,
    /// By evidence, the highest first.
    pub clusters: Vec<FoundCluster>,
}

/// What ties two faces together.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Tie {
    /// Their linkage is above the threshold.
    Link,
    /// An operator said so.
    MustLink,
}

#[derive(Serialize, ToSchema)]
pub struct Step {
    pub from: String,
    pub to: String,
    pub tie: Tie,
    /// 1 of a must-link.
    pub linkage: f64,
}

impl Step {
    pub fn of(look::Step { from, to, tie }: look::Step) -> Step {
        let (tie, linkage) = match tie {
            look::Tie::Link(probability) => (Tie::Link, probability),
            look::Tie::MustLink => (Tie::MustLink, 1.0),
        };
        Step { from: from.to_string(), to: to.to_string(), tie, linkage }
    }
}

#[derive(Serialize, ToSchema)]
pub struct Why {
    /// They are in one cluster.
    pub together: bool,
    /// What a linkage has to be above to be a link.
    pub threshold: f32,
    /// The way of links whose weakest is the strongest; empty: there is none.
    pub path: Vec<Step>,
}

#[derive(Serialize, ToSchema)]
pub struct Pictured {
    pub face_id: String,
    pub cluster_id: String,
    /// On the axis along which the enhanced embeddings vary most.
    pub x: f32,
    /// On the next.
    pub y: f32,
}

#[derive(Serialize, ToSchema)]
pub struct PicturedLinkage {
    pub a: String,
    pub b: String,
    pub linkage: f64,
}

/// A cluster's neighbourhood in two dimensions.
#[derive(Serialize, ToSchema)]
pub struct Picture {
    pub cluster_id: String,
    pub size: u32,
    /// How many of its faces are shown, the oldest.
    pub shown: usize,
    /// What a linkage has to be above to be a link.
    pub threshold: f32,
    /// Its faces, then the strangers most like them.
    pub faces: Vec<Pictured>,
    /// Of pairs of them, where it is 0.1 at least.
    pub linkages: Vec<PicturedLinkage>,
}
