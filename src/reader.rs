//! The reference consumer: the partition of the faces, rebuilt from the events alone.
//!
//! What a reader of the topic has to do, in the order of [`EventReader::read`]: drop what it has
//! seen (by sequence), notice what is missing, give a face its home, remember what merged into
//! what. Then a face is in home → merged_into → … This one also holds every event against what it
//! knows: sizes, versions, who lives. Cost: a walk of that way an event; memory by faces and by the
//! clusters their ways go through.

mod collection;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::Deserialize;

use crate::engine::event::EventType;
use crate::face::{ClusterId, FaceId};
use collection::Collection;

/// Why an event could not be read. What was known before stays known.
#[derive(Debug, thiserror::Error)]
pub enum ReaderError {
    #[error("not an event: {0}")]
    Malformed(#[from] serde_json::Error),
    #[error("collection {collection}: event {found} follows {last}; some are missing")]
    Gap { collection: String, last: u64, found: u64 },
    #[error("collection {collection}: event {sequence} contradicts those before it: {what}")]
    Contradiction { collection: String, sequence: u64, what: String },
}

/// What a reader of the partition needs of an event (schemas/cluster-event.schema.json).
#[derive(Debug, Deserialize)]
struct Event {
    collection: String,
    sequence: u64,
    #[serde(flatten)]
    change: Change,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Change {
    Created(OneFace),
    Joined(OneFace),
    Merged(Merge),
    Split(Move),
    Left(Move),
    Erased(OneFace),
    Settled(Settled),
}

impl Change {
    fn event_type(&self) -> EventType {
        match self {
            Change::Created(_) => EventType::Created,
            Change::Joined(_) => EventType::Joined,
            Change::Merged(_) => EventType::Merged,
            Change::Split(_) => EventType::Split,
            Change::Left(_) => EventType::Left,
            Change::Erased(_) => EventType::Erased,
            Change::Settled(_) => EventType::Settled,
        }
    }
}

/// The cluster an event is about.
#[derive(Debug, Deserialize)]
struct Subject {
    cluster_id: ClusterId,
    version: u64,
    size_before: u64,
    size_after: u64,
}

#[derive(Debug, Deserialize)]
struct OneFace {
    #[serde(flatten)]
    cluster: Subject,
    face_id: FaceId,
}

#[derive(Debug, Deserialize)]
struct Merge {
    #[serde(flatten)]
    cluster: Subject,
    merged: Merged,
}

#[derive(Debug, Deserialize)]
struct Merged {
    cluster_id: ClusterId,
    size_before: u64,
    version: u64,
}

#[derive(Debug, Deserialize)]
struct Move {
    #[serde(flatten)]
    cluster: Subject,
    face_id: FaceId,
    into: Into,
}

#[derive(Debug, Deserialize)]
struct Into {
    cluster_id: ClusterId,
    size_after: u64,
    version: u64,
}

/// What a collection held when it had settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct Settled {
    pub faces: u64,
    pub clusters: u64,
}

/// How many events were read.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Counts {
    by_type: BTreeMap<EventType, usize>,
    /// Seen before and dropped.
    pub repeated: usize,
}

impl Counts {
    pub fn of(&self, event_type: EventType) -> usize {
        self.by_type.get(&event_type).copied().unwrap_or(0)
    }

    /// All but the repeated.
    pub fn events(&self) -> usize {
        self.by_type.values().sum()
    }
}

/// The living clusters of a collection and the faces in each.
pub type Clusters = BTreeMap<ClusterId, BTreeSet<FaceId>>;

/// Reads events in the order of their topic.
#[derive(Debug, Default)]
pub struct EventReader {
    collections: HashMap<String, Collection>,
    pub counts: Counts,
}

impl EventReader {
    pub fn read(&mut self, payload: &[u8]) -> Result<(), ReaderError> {
        let Event { collection: name, sequence, change } = serde_json::from_slice(payload)?;
        let collection = self.collections.entry(name.clone()).or_default();
        let last = collection.last;
        if sequence <= last {
            self.counts.repeated += 1;
            return Ok(());
        }
        if sequence != last + 1 {
            return Err(ReaderError::Gap { collection: name, last, found: sequence });
        }
        let event_type = change.event_type();
        collection.apply(change).map_err(|what| ReaderError::Contradiction { collection: name, sequence, what })?;
        collection.last = sequence;
        *self.counts.by_type.entry(event_type).or_default() += 1;
        Ok(())
    }

    /// The faces known of a collection.
    pub fn faces(&self, collection: &str) -> usize {
        self.collections.get(collection).map_or(0, Collection::faces)
    }

    /// The living cluster of a face.
    pub fn cluster_of(&self, collection: &str, face: &FaceId) -> Option<ClusterId> {
        self.collections.get(collection)?.cluster_of(face)
    }

    /// The whole partition of a collection. Cost: a walk for each of its faces.
    pub fn clusters(&self, collection: &str) -> Clusters {
        self.collections.get(collection).map(Collection::clusters).unwrap_or_default()
    }

    /// What a collection holds, if the last word on it is that it has settled.
    pub fn settled(&self, collection: &str) -> Option<Settled> {
        self.collections.get(collection)?.settled
    }
}
