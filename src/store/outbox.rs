//! What is committed and not yet published: events, states and dead letters, in one sequence.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use super::StoreError;
use super::keys;
use super::space::{Batch, Space};
use crate::engine::event::{Cluster, Event};
use crate::face::{CollectionName, Offset, OutputPartition, Partition, Position, Timestamp};
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
    /// A key of a compacted topic that is of an earlier incarnation and means nobody any more.
    Forgotten(Forgotten),
}

/// A key to be deleted from a compacted topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forgotten {
    pub topic: StateTopic,
    pub key: Vec<u8>,
}

/// A compacted topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum StateTopic {
    FaceState,
    ClusterState,
}

/// How far the outbox is published, as far as the state knows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// Every entry up to this one.
    pub sequence: u64,
    /// For each partition of an output topic, the offset after the last record written to it.
    pub ends: BTreeMap<OutputPartition, Offset>,
    /// Claims of the shard under which something may be published: that of the last entry, and those since.
    pub claims: Vec<Claim>,
    /// A new incarnation has not published anything yet: what Kafka has is of those before it, whose claims are among
    /// `claims` from its own first claim on.
    pub takes_over: bool,
}

/// One start of a daemon on a state, by chance: two copies of a state never have the same one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim(pub u32);

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

impl Published {
    /// Every entry up to `sequence`, wherever they went.
    pub fn up_to(sequence: u64) -> Published {
        Published { sequence, ..Published::default() }
    }
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
    pub positions: BTreeMap<Partition, Position>,
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
    pub(super) fn committed(&self, sequence: u64, positions: &BTreeMap<Partition, Position>) {
        let mut durable = self.lock();
        durable.sequence = sequence;
        durable.positions.extend(positions.iter().map(|(&partition, &position)| (partition, position)));
    }

    /// Told by the store when partitions are to be read from their beginning.
    pub(super) fn reread(&self, partitions: &[Partition]) {
        self.lock().positions.retain(|partition, _| !partitions.contains(partition));
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

    /// How far it is known to be published.
    pub fn published(&self) -> Result<Published, StoreError> {
        Ok(self.space.get(&keys::published())?.unwrap_or_default())
    }

    /// A new claim, on disk before anything is published under it.
    pub fn claim(&self, published: &mut Published) -> Result<Claim, StoreError> {
        let chance = getrandom::u32().map_err(|source| StoreError::Random { source })?;
        let claim = Claim(chance);
        published.claims.push(claim);
        let mut batch = Batch::default();
        batch.put(keys::published(), published);
        self.space.apply(batch)?;
        Ok(claim)
    }

    /// Forgets the entries up to `published`, which Kafka has, and says how many those were. Should this be
    /// lost with the machine, Kafka tells it at the next start.
    pub fn acknowledge(&self, published: &Published) -> Result<usize, StoreError> {
        let mut batch = Batch::default();
        let mut forgotten = 0;
        for key in self.space.keys(&keys::outbox_entries()) {
            let key = key?;
            match keys::outbox_sequence_of(&key) {
                Some(sequence) if sequence > published.sequence => break,
                _ => {
                    batch.remove(key.to_vec());
                    forgotten += 1;
                }
            }
        }
        batch.put(keys::published(), published);
        self.space.apply_soon(batch)?;
        Ok(forgotten)
    }
}
