//! What is committed and not yet published: events and dead letters, in one sequence.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::StoreError;
use super::keys::{self, Space};
use crate::engine::cluster::Event;
use crate::face::{CollectionName, Offset, Partition, Timestamp};
use crate::rejection::DeadLetter;

/// Something to publish.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Entry {
    Event { collection: CollectionName, event: Event, committed_at: Timestamp },
    DeadLetter(DeadLetter),
}

/// An entry and its number in the state directory's one sequence.
#[derive(Debug, Clone, PartialEq)]
pub struct Pending {
    pub sequence: u64,
    pub entry: Entry,
}

/// Reads and clears what is to be published. Used beside the store, from the publisher's thread.
#[derive(Clone)]
pub struct Outbox {
    tree: Space,
}

impl Outbox {
    pub(super) fn new(tree: Space) -> Outbox {
        Outbox { tree }
    }

    /// The oldest `most` entries after sequence `after`.
    pub fn pending(&self, after: u64, most: usize) -> Result<Vec<Pending>, StoreError> {
        let entries = self.tree.scan_from::<Entry>(&keys::outbox_entries(), keys::outbox(after + 1), most)?;
        let numbered = entries
            .into_iter()
            .filter_map(|(key, entry)| keys::outbox_sequence_of(&key).map(|sequence| Pending { sequence, entry }));
        Ok(numbered.collect())
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.tree.count(&keys::outbox_entries())
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets entries that Kafka has. Should this be lost with the machine, they are published
    /// once more, with the same ids.
    pub fn acknowledge(&self, published: &[Pending]) -> Result<(), StoreError> {
        let mut batch = self.tree.batch();
        for pending in published {
            batch.remove(keys::outbox(pending.sequence));
        }
        self.tree.apply_soon(batch)
    }

    /// For each partition, the offset before which every record is applied, ignored or rejected.
    pub fn positions(&self) -> Result<BTreeMap<Partition, Offset>, StoreError> {
        let positions = self.tree.scan::<Offset>(&keys::positions())?;
        Ok(positions.into_iter().filter_map(|(key, offset)| Some((keys::partition_of(&key)?, offset))).collect())
    }
}
