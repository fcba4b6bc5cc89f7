//! What the engine tells the world: every change of a cluster as an event, in the collection's own
//! gapless sequence.
//!
//! Each event changes where one face is, or merges two clusters whole; so the sizes it gives are
//! right at its place in the sequence, a merge is one event however large the clusters are, and a
//! split is one event for each face that moves: `split` for the first, `left` for the others.

use serde::{Deserialize, Serialize};

use crate::face::{ClusterId, FaceId, Place};

/// A cluster's record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cluster {
    pub id: ClusterId,
    /// The cluster it went into; `None` while it lives.
    pub merged_into: Option<ClusterId>,
    /// Its faces; of a merged one, those it had.
    pub size: u32,
    /// Counts its changes from 1.
    pub version: u64,
    /// An operator's word that its id is to outlive those of others.
    pub pinned: bool,
    /// An operator's name for it.
    pub name: Option<String>,
}

impl Cluster {
    pub fn lives(&self) -> bool {
        self.merged_into.is_none()
    }
}

/// What made a change happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cause {
    /// A record of the input.
    Record(Place),
    /// Faces were scored again.
    Refresh,
    /// Retention.
    Expired,
    /// An operator.
    Api,
}

impl Cause {
    /// Its kind, as it is called on the wire and as a metric's label.
    pub fn kind(self) -> &'static str {
        match self {
            Cause::Record(_) => "record",
            Cause::Refresh => "refresh",
            Cause::Expired => "expired",
            Cause::Api => "api",
        }
    }
}

/// What happened to a cluster. Clusters in it are as they are after.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// `face` is the first of a new `cluster`.
    Created { cluster: Cluster, face: FaceId },
    /// `face` is new in `cluster`.
    Joined { cluster: Cluster, face: FaceId, size_before: u32 },
    /// `merged` went into `cluster`.
    Merged { cluster: Cluster, merged: Cluster, size_before: u32 },
    /// `cluster` came apart: `face` left it as the first of the new cluster `into`.
    Split { cluster: Cluster, into: Cluster, face: FaceId, home_version: u32, size_before: u32 },
    /// `face` left `cluster` for the cluster `into`, which was there.
    Left { cluster: Cluster, into: Cluster, face: FaceId, home_version: u32, size_before: u32 },
    /// `face` is erased. Of its last face a cluster ends, with size 0.
    Erased { cluster: Cluster, face: FaceId, size_before: u32 },
    /// Nothing is stale: until the next event, clusters are what the batch pipeline would give.
    Settled { faces: u64, clusters: u64 },
}

/// The types of events, as they are called on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EventType {
    Created,
    Joined,
    Merged,
    Split,
    Left,
    Erased,
    Settled,
}

impl EventType {
    pub const ALL: [EventType; 7] = [
        EventType::Created,
        EventType::Joined,
        EventType::Merged,
        EventType::Split,
        EventType::Left,
        EventType::Erased,
        EventType::Settled,
    ];

    pub fn name(self) -> &'static str {
        match self {
            EventType::Created => "created",
            EventType::Joined => "joined",
            EventType::Merged => "merged",
            EventType::Split => "split",
            EventType::Left => "left",
            EventType::Erased => "erased",
            EventType::Settled => "settled",
        }
    }
}

impl Change {
    pub fn event_type(&self) -> EventType {
        match self {
            Change::Created { .. } => EventType::Created,
            Change::Joined { .. } => EventType::Joined,
            Change::Merged { .. } => EventType::Merged,
            Change::Split { .. } => EventType::Split,
            Change::Left { .. } => EventType::Left,
            Change::Erased { .. } => EventType::Erased,
            Change::Settled { .. } => EventType::Settled,
        }
    }

    /// The cluster it is about; none when it is about the collection.
    pub fn cluster(&self) -> Option<&Cluster> {
        match self {
            Change::Created { cluster, .. }
            | Change::Joined { cluster, .. }
            | Change::Merged { cluster, .. }
            | Change::Split { cluster, .. }
            | Change::Left { cluster, .. }
            | Change::Erased { cluster, .. } => Some(cluster),
            Change::Settled { .. } => None,
        }
    }
}

/// A change and what caused it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    pub sequence: u64,
    pub cause: Cause,
    pub change: Change,
    /// Clusters whose record ended with it: no live face has its home there, and none that merged
    /// into them has either. Their state is deleted from the compacted topic.
    pub retired: Vec<ClusterId>,
}
