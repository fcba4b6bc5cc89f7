//! The reference consumer: the partition of the faces, rebuilt from the events alone.
//!
//! What a reader of the topic has to do, in the order of [`EventReader::read`]: drop what it has
//! seen (by sequence), give a face its home, remember what merged into what. Then a face is in
//! home → merged_into → … Cost: O(1) an event, memory by faces and clusters.

use std::collections::HashMap;

use serde::Deserialize;

use crate::face::{ClusterId, FaceId};

/// Why an event could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReaderError {
    #[error("not an event: {0}")]
    Malformed(#[from] serde_json::Error),
    #[error("collection {collection}: event {found} follows {last}; some are missing")]
    Gap { collection: String, last: u64, found: u64 },
}

/// The fields of an event that a reader of the partition needs (schemas/cluster-event.schema.json).
#[derive(Debug, Deserialize)]
struct Event {
    #[serde(rename = "type")]
    kind: Kind,
    collection: String,
    sequence: u64,
    cluster_id: ClusterId,
    face_id: Option<FaceId>,
    merged: Option<Merged>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Created,
    Joined,
    Merged,
}

#[derive(Debug, Deserialize)]
struct Merged {
    cluster_id: ClusterId,
}

/// How many of each were read.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    pub created: usize,
    pub joined: usize,
    pub merged: usize,
    /// Seen before and dropped.
    pub repeated: usize,
}

impl Counts {
    pub fn events(&self) -> usize {
        self.created + self.joined + self.merged
    }
}

/// Reads events in the order of their topic.
#[derive(Debug, Default)]
pub struct EventReader {
    collections: HashMap<String, Collection>,
    pub counts: Counts,
}

#[derive(Debug, Default)]
struct Collection {
    last: u64,
    homes: HashMap<FaceId, ClusterId>,
    merged_into: HashMap<ClusterId, ClusterId>,
}

impl EventReader {
    pub fn read(&mut self, payload: &[u8]) -> Result<(), ReaderError> {
        let event: Event = serde_json::from_slice(payload)?;
        let collection = self.collections.entry(event.collection.clone()).or_default();
        if event.sequence <= collection.last {
            self.counts.repeated += 1;
            return Ok(());
        }
        if event.sequence != collection.last + 1 {
            let last = collection.last;
            return Err(ReaderError::Gap { collection: event.collection, last, found: event.sequence });
        }
        collection.last = event.sequence;
        if let Some(face) = event.face_id {
            collection.homes.insert(face, event.cluster_id);
        }
        if let Some(merged) = event.merged {
            collection.merged_into.insert(merged.cluster_id, event.cluster_id);
        }
        match event.kind {
            Kind::Created => self.counts.created += 1,
            Kind::Joined => self.counts.joined += 1,
            Kind::Merged => self.counts.merged += 1,
        }
        Ok(())
    }

    /// The faces known of a collection.
    pub fn faces(&self, collection: &str) -> usize {
        self.collections.get(collection).map_or(0, |collection| collection.homes.len())
    }

    /// The living cluster of a face.
    pub fn cluster_of(&self, collection: &str, face: &FaceId) -> Option<ClusterId> {
        let collection = self.collections.get(collection)?;
        let mut id = *collection.homes.get(face)?;
        while let Some(&older) = collection.merged_into.get(&id) {
            id = older;
        }
        Some(id)
    }
}
