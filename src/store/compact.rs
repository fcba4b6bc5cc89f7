//! Compaction: writing anew what lives, so that what does not is gone from the disk and its room is free.
//!
//! A vector file is compacted in steps, and dying between any two of them leaves a directory that
//! opens right: the live vectors are written to the file of the next generation and synced; one sled
//! batch makes that generation count; the old file is removed. Files of generations that do not
//! count are orphans, which opening removes. Cost: the file read once and its live part written,
//! which the collection's commits wait for.
//!
//! sled keeps what was overwritten in its file, which only a [`rewrite`] clears: when most of it is dead,
//! or all of it at once where a stopped daemon's state is compacted, [`Store::compact_all`].

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};

use super::directory::VectorFileName;
use super::keys;
use super::records::CollectionRecord;
use super::rewrite;
use super::snapshots::{Found, SnapshotName};
use super::space::Batch;
use super::vectors::record_bytes;
use super::{Store, StoreError};
use crate::engine::changes::FaceRecord;
use crate::engine::snapshot::Reach;
use crate::face::{CollectionName, NodeId};
use crate::failpoint;
use crate::progress::{Progress, Tally};

/// The share of dead records above which a vector file is worth writing anew. At one half a face costs
/// one more write on average, and a file takes at most twice its room.
const DEAD_SHARE: f64 = 0.5;
/// Fewer dead bytes than these are left alone: a rewrite costs four syncs however small the file. With
/// the most collections there can be, 10,000, all of them together are 10 GB.
const DEAD_BYTES: u64 = 1 << 20;

/// What a compaction did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compacted {
    pub bytes_before: u64,
    pub bytes_after: u64,
}

impl Store {
    /// The share of a collection's vector file that no face needs any more.
    pub fn dead_share(&self, collection: &CollectionName) -> f64 {
        match self.collections.get(collection) {
            Some(record) if record.records > 0 => record.dead() as f64 / record.records as f64,
            _ => 0.0,
        }
    }

    /// The collections whose vector file is worth compacting now. Cheap enough to ask after every commit.
    pub fn needs_compaction(&self) -> Vec<CollectionName> {
        if self.hold.is_held() {
            return Vec::new();
        }
        let record_bytes = record_bytes(self.identity.dimension) as u64;
        let worth = |(name, record): &(&CollectionName, &CollectionRecord)| {
            record.dead() * record_bytes > DEAD_BYTES && self.dead_share(name) > DEAD_SHARE
        };
        self.collections.iter().filter(worth).map(|(name, _)| name.clone()).collect()
    }

    /// Writes a collection's vector file anew, without its dead records. Nothing to do when there are none.
    pub fn compact(&mut self, collection: &CollectionName) -> Result<(), StoreError> {
        self.compact_watched(collection, &|| {})
    }

    /// As [`Store::compact`]; tells of each record that is read.
    fn compact_watched(&mut self, collection: &CollectionName, read: &dyn Fn()) -> Result<(), StoreError> {
        let Some(before) = self.collections.get(collection).copied() else { return Ok(()) };
        if before.dead() == 0 {
            return Ok(());
        }
        failpoint::reached("compact::begin");
        let after = self.write_next_generation(collection, before, read)?;
        failpoint::reached("compact::written");
        self.make_it_count(collection, after)?;
        failpoint::reached("compact::counts");
        self.directory.remove_vectors(collection, before.generation)?;
        failpoint::reached("compact::removed");
        Ok(())
    }

    /// The first step: the live vectors are in a file of their own.
    pub(super) fn write_next_generation(
        &self,
        collection: &CollectionName,
        before: CollectionRecord,
        read: &dyn Fn(),
    ) -> Result<CollectionRecord, StoreError> {
        let mut live = HashSet::new();
        for key in self.space.keys(&keys::faces(collection)) {
            let node = keys::node_in(&key?).ok_or_else(|| self.damaged("the key of a face"))?;
            live.insert(node);
        }
        let path = self.directory.vectors(collection, before.generation + 1);
        let lives = |node: NodeId| {
            read();
            live.contains(&node)
        };
        let written = self.vectors(collection, &before).rewrite(path, lives)?;
        if written.records != before.faces {
            let what = format!("collection {collection} has {} faces and {} embeddings", before.faces, written.records);
            return Err(self.damaged(&what));
        }
        Ok(CollectionRecord { generation: written.generation, records: written.records, ..before })
    }

    /// The second step: sled knows of it.
    pub(super) fn make_it_count(
        &mut self,
        collection: &CollectionName,
        after: CollectionRecord,
    ) -> Result<(), StoreError> {
        let mut batch = Batch::default();
        batch.put(keys::collection(collection), &after);
        self.space.apply(batch)?;
        self.collections.insert(collection.clone(), after);
        Ok(())
    }

    /// Removes vector files that do not count: of compactions and of first commits that did not happen.
    pub(super) fn remove_orphans(&self) -> Result<(), StoreError> {
        for VectorFileName { collection, generation } in self.directory.vector_files()? {
            let counts = self.collections.get(&collection).is_some_and(|c| c.generation == generation && c.records > 0);
            if !counts {
                tracing::info!(%collection, generation, "removing a vector file that does not count");
                self.directory.remove_vectors(&collection, generation)?;
            }
        }
        Ok(())
    }

    /// Writes everything in the directory anew, so that nothing is left in its files of what was erased, replaced or
    /// published. Progress is in records.
    pub fn compact_all(mut self, progress: &mut dyn FnMut(Progress)) -> Result<Compacted, StoreError> {
        let store = &mut self;
        let bytes_before = store.size_on_disk()?;
        let names: Vec<CollectionName> = store.collections().cloned().collect();
        let with_dead = store.collections.values().filter(|record| record.dead() > 0);
        let in_sled = store.space.count(&[]) - store.space.count(&keys::sums());
        let records = with_dead.map(|record| record.records).sum::<u64>() + in_sled as u64;
        let tally = RefCell::new(Tally::new(records, progress));
        let read = || tally.borrow_mut().add(1);
        for name in names {
            store.compact_watched(&name, &read)?;
            store.compact_snapshots(&name)?;
        }
        let as_it_is = |key: &[u8], value: &[u8]| {
            read();
            rewrite::as_it_is(key, value)
        };
        rewrite::rewrite(&store.space, &store.directory, &as_it_is)?;
        Ok(Compacted { bytes_before, bytes_after: store.size_on_disk()? })
    }

    /// Leaves of a collection's snapshots one, without whoever is gone; none, if none can be used or written.
    fn compact_snapshots(&self, collection: &CollectionName) -> Result<(), StoreError> {
        let snapshots = self.snapshots();
        let found = snapshots.newest(collection, &snapshots.names()?, self.commit_sequence);
        let mut kept = None;
        if let Some(Found { sequence, mut snapshot }) = found {
            let mut arrivals = HashMap::new();
            for (key, record) in self.space.scan::<FaceRecord>(&keys::faces(collection))? {
                let node = keys::node_in(&key).ok_or_else(|| self.damaged("the key of a face"))?;
                arrivals.insert(node, record.arrival);
            }
            // What model it is of is not known here.
            kept = match snapshot.retain(Reach::Onlookers, |node, arrival| arrivals.get(&node) == Some(&arrival)) {
                0 => Some(sequence),
                _ => {
                    let name = SnapshotName { collection: collection.clone(), sequence };
                    let written = snapshots.write(&name, &snapshot, None, &|| false);
                    written.inspect_err(|error| tracing::warn!(%error, "a snapshot is lost")).ok().map(|_| sequence)
                }
            };
        }
        snapshots.remove_where(|name| name.collection == *collection && Some(name.sequence) != kept)
    }

    /// Whether sled is worth writing anew. Cheap enough to ask after every commit.
    pub fn sled_needs_rewrite(&self) -> Result<bool, StoreError> {
        self.space.needs_rewrite()
    }

    /// Writes sled anew, without what was overwritten or removed.
    pub fn rewrite_sled(&self) -> Result<(), StoreError> {
        rewrite::rewrite(&self.space, &self.directory, &rewrite::as_it_is)
    }
}
