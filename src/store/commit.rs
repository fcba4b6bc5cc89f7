//! A commit: all that one batch writes, at once or not at all.
//!
//! The order makes it atomic. Vectors are appended and synced first, then one sled batch is applied
//! and flushed. If it dies before the flush, sled does not know the appended vectors, and opening
//! cuts them off; the input is read again from the old positions. If it dies after, the outbox
//! holds what is still to be published.

use std::collections::{BTreeMap, HashSet};

use super::committed::Committed;
use super::keys;
use super::outbox::{Entry, Forgotten, Pending, Published};
use super::records::{CollectionRecord, LinkagesRecord};
use super::space::Batch;
use super::suppressed::{FaceKey, KeyedHash};
use super::{Model, Store, StoreError};
use crate::engine::changes::Changes;
use crate::face::{CollectionName, NodeId, Partition, Position, Timestamp};
use crate::failpoint;
use crate::rejection::DeadLetter;

/// Collections whose vectors are written at once.
const SYNCED_AT_ONCE: usize = 32;

/// All that one batch writes.
#[derive(Debug, Default)]
pub struct Commit {
    /// Each collection at most once.
    pub collections: Vec<CollectionCommit>,
    /// Faces that may come back. What the same commit suppresses stays suppressed.
    pub allow: Vec<FaceKey>,
    /// Faces that are not to come back.
    pub suppress: Vec<FaceKey>,
    pub dead_letters: Vec<DeadLetter>,
    /// For each partition the batch read from, how far. One for all
    /// collections: a commit covers every record up to it, whichever collection it was for.
    pub positions: BTreeMap<Partition, Position>,
    /// The model the linkages are from that are kept from now on, when it is another: the changes
    /// then replace every linkage of every collection. Memory for a time: about 3 KB a face.
    pub model: Option<Model>,
    /// The state takes another name, under which the changes tell everything anew.
    pub incarnation: Option<Incarnation>,
    pub now: Timestamp,
}

/// What a new incarnation does away with.
#[derive(Debug, Default)]
pub struct Incarnation {
    /// Keys of the compacted topics that mean nobody any more.
    pub forgotten: Vec<Forgotten>,
    /// Partitions of the input that are to be read from their beginning.
    pub reread: Vec<Partition>,
}

/// What one batch changed in one collection.
#[derive(Debug)]
pub struct CollectionCommit {
    pub collection: CollectionName,
    pub changes: Changes,
}

impl Commit {
    /// Whether there is nothing to write.
    fn is_empty(&self) -> bool {
        self.collections.iter().all(|commit| commit.changes.is_empty())
            && self.allow.is_empty()
            && self.suppress.is_empty()
            && self.dead_letters.is_empty()
            && self.positions.is_empty()
            && self.model.is_none()
            && self.incarnation.is_none()
    }
}

impl Store {
    /// Writes a batch. This operation is atomic: see the head of this file. After an error the
    /// store is not to be used any more; opening it again finds the last whole commit.
    pub fn commit(&mut self, commit: &Commit) -> Result<(), StoreError> {
        if commit.is_empty() {
            return Ok(());
        }
        let commit_sequence = self.commit_sequence + 1;
        let mut batch = Batch::default();
        batch.put(keys::commit_sequence(), &commit_sequence);
        if let Some(model) = &commit.model {
            self.identity = self.identity.with_model(self.directory.path(), model)?;
            batch.put(keys::identity(), &self.identity);
        }
        let mut entries = Vec::new();
        if let Some(incarnation) = &commit.incarnation {
            entries = self.begin_incarnation(incarnation, &mut batch)?;
        }
        // Changes that change nothing count nothing either: their counters are not to be kept. Those of a new
        // incarnation are: they begin anew.
        let counts = |c: &&CollectionCommit| !c.changes.is_empty() || commit.incarnation.is_some();
        let changed: Vec<&CollectionCommit> = commit.collections.iter().filter(counts).collect();
        failpoint::reached("store::begun");
        let records = self.append_all(&changed)?;
        failpoint::reached("store::appended");
        for (CollectionCommit { collection, changes }, record) in changed.into_iter().zip(records) {
            put_changes(&mut batch, collection, changes, commit_sequence);
            batch.put(keys::collection(collection), &record);
            self.collections.insert(collection.clone(), record);
            entries.extend(changes.events.iter().map(|event| Entry::Event {
                collection: collection.clone(),
                event: event.clone(),
                committed_at: commit.now,
            }));
            // After the events, as which they are newer.
            entries.extend(
                changes
                    .described
                    .iter()
                    .map(|cluster| Entry::ClusterState { collection: collection.clone(), cluster: cluster.clone() }),
            );
        }
        entries.extend(commit.dead_letters.iter().cloned().map(Entry::DeadLetter));
        let mut sequence = self.outbox.durable().sequence;
        for entry in &entries {
            sequence += 1;
            batch.put(keys::outbox(sequence), entry);
        }
        batch.put(keys::outbox_sequence(), &sequence);
        for (&partition, position) in &commit.positions {
            batch.put(keys::position(partition), position);
        }
        let allow = self.hashes(&commit.allow);
        let suppress = self.hashes(&commit.suppress);
        allow.iter().for_each(|&hash| batch.remove(keys::suppressed(hash)));
        suppress.iter().for_each(|&hash| batch.put(keys::suppressed(hash), &commit.now));

        self.space.apply(batch)?;
        failpoint::reached("store::flushed");
        self.commit_sequence = commit_sequence;
        if commit.incarnation.is_some() {
            // What it said was of the one before.
            self.committed = Committed::open(self.directory.path(), &self.identity.state_uuid)?.0;
        }
        self.committed.note(commit_sequence)?;
        failpoint::reached("store::noted");
        if commit.model.is_some() || commit.incarnation.is_some() {
            // They are of the model or the state before.
            self.snapshots().remove_where(|_| true)?;
        }
        allow.into_iter().for_each(|hash| self.suppressed.remove(hash));
        suppress.into_iter().for_each(|hash| self.suppressed.insert(hash));
        if let Some(incarnation) = &commit.incarnation {
            self.outbox.reread(&incarnation.reread);
        }
        self.outbox.committed(sequence, &commit.positions);
        failpoint::reached("store::committed");
        Ok(())
    }

    /// Takes another name and does away with what is of the one before. Answers the entries that stay or are new.
    fn begin_incarnation(&mut self, incarnation: &Incarnation, batch: &mut Batch) -> Result<Vec<Entry>, StoreError> {
        self.identity = self.identity.renamed();
        batch.put(keys::identity(), &self.identity);
        let mut entries: Vec<Entry> = incarnation.forgotten.iter().cloned().map(Entry::Forgotten).collect();
        for Pending { sequence, entry } in self.outbox.pending(0, usize::MAX)? {
            batch.remove(keys::outbox(sequence));
            // Events and states not told yet are part of what is told anew. A dead letter is told once.
            if let Entry::DeadLetter(_) = entry {
                entries.push(entry);
            }
        }
        let published =
            Published { sequence: self.outbox.durable().sequence, takes_over: true, ..Published::default() };
        batch.put(keys::published(), &published);
        incarnation.reread.iter().for_each(|&partition| batch.remove(keys::position(partition)));
        Ok(entries)
    }

    /// Writes the embeddings of every collection, many at once: a sync waits for the disk, and a disk
    /// does many in hardly more time than one.
    fn append_all(&self, changed: &[&CollectionCommit]) -> Result<Vec<CollectionRecord>, StoreError> {
        let append = &|part: &[&CollectionCommit]| -> Result<Vec<CollectionRecord>, StoreError> {
            part.iter().map(|commit| self.append_vectors(&commit.collection, &commit.changes)).collect()
        };
        if changed.len() <= 1 {
            return append(changed);
        }
        let parts = changed.chunks(changed.len().div_ceil(SYNCED_AT_ONCE));
        let appended: Vec<Result<Vec<CollectionRecord>, StoreError>> = std::thread::scope(|scope| {
            let threads: Vec<_> = parts.map(|part| scope.spawn(move || append(part))).collect();
            threads.into_iter().map(|thread| thread.join().expect("appending does not panic")).collect()
        });
        Ok(appended.into_iter().collect::<Result<Vec<_>, _>>()?.concat())
    }

    /// Writes the embeddings of a batch and returns the collection's record as it is with them.
    pub(super) fn append_vectors(
        &self,
        collection: &CollectionName,
        changes: &Changes,
    ) -> Result<CollectionRecord, StoreError> {
        let before = self.collections.get(collection).copied().unwrap_or_default();
        if !changes.vectors.is_empty() {
            self.vectors(collection, &before).append(&changes.vectors)?;
        }
        Ok(CollectionRecord {
            records: before.records + changes.vectors.len() as u64,
            faces: self.faces_after(collection, changes, before.faces)?,
            counters: changes.counters,
            ..before
        })
    }

    /// How many faces a collection has after `changes`, when there were `before`.
    fn faces_after(&self, collection: &CollectionName, changes: &Changes, before: u64) -> Result<u64, StoreError> {
        let gone: HashSet<NodeId> = changes.gone_nodes.iter().copied().collect();
        let mut faces = before;
        for node in changes.faces.iter().map(|face| face.node).filter(|node| !gone.contains(node)) {
            faces += u64::from(!self.space.contains(&keys::face(collection, node))?);
        }
        for node in gone {
            faces -= u64::from(self.space.contains(&keys::face(collection, node))?);
        }
        Ok(faces)
    }

    fn hashes(&self, faces: &[FaceKey]) -> Vec<KeyedHash> {
        faces.iter().map(|FaceKey { collection, face }| self.suppressed.hash(collection, face)).collect()
    }
}

/// Within a batch the last write to a key counts. What is gone goes last: it is gone whatever else is said of it.
fn put_changes(batch: &mut Batch, collection: &CollectionName, changes: &Changes, written_at: u64) {
    // Of a node that was given again the linkages are those of another face.
    for vector in &changes.vectors {
        batch.remove(keys::linkages(collection, vector.node));
    }
    for kept in &changes.faces {
        batch.put(keys::face(collection, kept.node), &kept.record);
        batch.put(keys::node_of(collection, &kept.record.id), &kept.node);
    }
    for kept in &changes.linkages {
        // All of them, although DESIGN.md's table of the state speaks of a floor: the evidence of two
        // clusters counts every candidate pair between them, and one that is missing would raise it.
        let record = LinkagesRecord { written_at, linkages: kept.linkages.clone() };
        batch.put(keys::linkages(collection, kept.node), &record);
    }
    for cluster in &changes.clusters {
        batch.put(keys::cluster(collection, cluster.id), cluster);
    }
    for constraint in &changes.constraints {
        batch.put(keys::constraint(collection, &constraint.a, &constraint.b), constraint);
    }
    for &node in &changes.gone_nodes {
        batch.remove(keys::face(collection, node));
        batch.remove(keys::linkages(collection, node));
    }
    for id in &changes.gone_ids {
        batch.remove(keys::node_of(collection, id));
    }
    for &cluster in &changes.retired {
        batch.remove(keys::cluster(collection, cluster));
    }
    for released in &changes.released {
        batch.remove(keys::constraint(collection, &released.a, &released.b));
    }
}
