//! What is committed and not yet published: events, states and dead letters, in one sequence.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use super::StoreError;
use super::keys;
use super::space::{Batch, Space};
use crate::engine::event::{Cluster, Event};
use crate::face::{CollectionName, Offset, Partition, Timestamp};
use crate::rejection::DeadLetter;

/// Something to publish.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Entry {
    Event {
        collection: CollectionName,
        event: Event,
        committed_at: Timestamp,
    },
    DeadLetter(DeadLetter),
    /// What an operator says of a cluster: nobody is elsewhere, so no event tells of it.
    ClusterState {
        collection: CollectionName,
        cluster: Cluster,
    },
}

/// An entry and its number in the state directory's one sequence.
#[derive(Debug, Clone, PartialEq)]
pub struct Pending {
    pub sequence: u64,
    pub entry: Entry,
}

/// How far commits are on disk.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Durable {
    /// Sequence of the last entry.
    pub sequence: u64,
    /// For each partition, the offset before which every record is applied, ignored or rejected.
    pub positions: BTreeMap<Partition, Offset>,
}

/// Reads and clears what is to be published. Used beside the store, from the publisher's thread.
///
/// sled shows a batch to other threads before it is on disk. What is not on disk must not be
/// published, since the commit may still not have happened, so the store says how far it is.
#[derive(Clone)]
pub struct Outbox {
    space: Space,
    durable: Arc<Mutex<Durable>>,
}

impl Outbox {
    pub(super) fn new(space: Space, durable: Durable) -> Outbox {
        Outbox { space, durable: Arc::new(Mutex::new(durable)) }
    }

    /// How far commits are on disk.
    pub fn durable(&self) -> Durable {
        self.lock().clone()
    }

    /// Told by the store once a commit is on disk.
    pub(super) fn committed(&self, sequence: u64, positions: &BTreeMap<Partition, Offset>) {
        let mut durable = self.lock();
        durable.sequence = sequence;
        durable.positions.extend(positions.iter().map(|(&partition, &offset)| (partition, offset)));
    }

    fn lock(&self) -> MutexGuard<'_, Durable> {
        // Nothing that holds it can leave it half written.
        self.durable.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The oldest `most` entries after sequence `after` that are on disk.
    pub fn pending(&self, after: u64, most: usize) -> Result<Vec<Pending>, StoreError> {
        let durable = self.lock().sequence;
        let entries = self.space.scan_from::<Entry>(&keys::outbox_entries(), keys::outbox(after + 1), most)?;
        let numbered = entries
            .into_iter()
            .filter_map(|(key, entry)| keys::outbox_sequence_of(&key).map(|sequence| Pending { sequence, entry }));
        Ok(numbered.take_while(|pending| pending.sequence <= durable).collect())
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.space.count(&keys::outbox_entries())
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets entries that Kafka has. Should this be lost with the machine, they are published
    /// once more, with the same ids.
    pub fn acknowledge(&self, published: &[Pending]) -> Result<(), StoreError> {
        let mut batch = Batch::default();
        for pending in published {
            batch.remove(keys::outbox(pending.sequence));
        }
        self.space.apply_soon(batch)
    }
}
