//! The store: the one truth of a state directory, and the point at which a batch has happened.
//!
//! ```text
//! DIR/LOCK                         held while a facetd uses the directory
//! DIR/vectors/COLLECTION.vectors   embeddings, append-only, fixed records
//! DIR/sled/                        everything else: one tree, keys in keys.rs, records in records.rs
//! ```
//!
//! A commit is atomic. Either all of a batch is in (faces, linkages, clusters, outbox entries,
//! positions in the input) or nothing of it. The order makes it so: vectors are appended and
//! synced first, then one sled batch is applied and flushed. If it dies before the flush, sled
//! does not know the appended vectors, and opening cuts them off; the input is read again from
//! the old positions. If it dies after, the outbox holds what is still to be published.
//!
//! Cost of a commit: two syncs, O(records of the batch). Cost of opening: O(faces).

mod directory;
mod keys;
pub mod outbox;
mod records;
mod vectors;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use uuid::Uuid;

use crate::engine::cluster::Cluster;
use crate::engine::{Changes, Restored, RestoredFace};
use crate::face::{ClusterId, CollectionName, FaceId, NodeId, Offset, Partition, Timestamp};
use crate::rejection::DeadLetter;
use directory::Directory;
use keys::Space;
pub use outbox::{Durable, Entry, Outbox};
pub use records::FaceRecord;
use records::{CollectionRecord, Identity};
use vectors::VectorFile;

/// The format of a state directory this program writes.
const FORMAT: u32 = 1;
/// Memory sled may use for pages it keeps.
const CACHE_BYTES: u64 = 64 << 20;
/// Linkages below this are not kept: no merging rule asks for them.
const LINKAGE_FLOOR: f32 = 0.01;

/// What can be wrong with a state directory. Each names the place and the way out.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("cannot use {}: {source}; check that the path exists, is writable and has room", path.display())]
    Io { path: PathBuf, source: std::io::Error },
    #[error("{} is in use by another facetd; stop it, or give this one a state.dir of its own", path.display())]
    Locked { path: PathBuf },
    #[error("{}: sled: {source}; restore the directory from a backup if it does not open again", path.display())]
    Sled { path: PathBuf, source: sled::Error },
    #[error("{} is damaged: {what}; restore it from a backup, or start a new state.dir and read the input again", path.display())]
    Damaged { path: PathBuf, what: String },
    #[error("{} has format {found}, this facetd reads {FORMAT}: use the facetd that wrote it, or a newer one", path.display())]
    Format { path: PathBuf, found: u32 },
    #[error(
        "{} was made with another model ({found:.12}…, model.dir has {expected:.12}…): \
         set model.dir to the model it was made with, or start a new state.dir",
        path.display()
    )]
    OtherModel { path: PathBuf, expected: String, found: String },
    #[error("there is no facetd state in {}", path.display())]
    Missing { path: PathBuf },
}

/// What a state directory must agree with.
#[derive(Debug, Clone)]
pub struct Model {
    pub fingerprint: String,
    pub dimension: usize,
}

/// All that one batch writes.
#[derive(Debug, Default)]
pub struct Commit {
    pub collections: Vec<CollectionCommit>,
    pub dead_letters: Vec<DeadLetter>,
    /// For each partition the batch read from, the offset after its last record. One for all
    /// collections: a commit covers every record up to it, whichever collection it was for.
    pub positions: BTreeMap<Partition, Offset>,
    pub now: Timestamp,
}

/// What one batch changed in one collection.
#[derive(Debug)]
pub struct CollectionCommit {
    pub collection: CollectionName,
    pub changes: Changes,
}

/// What was found in a state directory.
#[derive(Debug, Default)]
pub struct Contents {
    pub collections: BTreeMap<CollectionName, Restored>,
    pub positions: BTreeMap<Partition, Offset>,
}

/// An open state directory. There is one writer: the store itself.
pub struct Store {
    tree: Space,
    identity: Identity,
    dimension: usize,
    vectors: HashMap<CollectionName, VectorFile>,
    collections: HashMap<CollectionName, CollectionRecord>,
    outbox: Outbox,
    /// Last, so that it is let go last: it holds the lock.
    directory: Directory,
}

impl Store {
    /// Opens `path`, making it when there is none. Checks that it was made with `model`.
    pub fn open(path: &Path, model: &Model) -> Result<Store, StoreError> {
        let directory = Directory::create(path)?;
        let tree = Space::open(&directory.sled(), CACHE_BYTES)?;
        let identity = match tree.get::<Identity>(&keys::identity())? {
            Some(identity) => identity,
            None => {
                let identity = Identity {
                    format: FORMAT,
                    state_uuid: Uuid::new_v4().to_string(),
                    model: model.fingerprint.clone(),
                    dimension: model.dimension,
                };
                let mut batch = tree.batch();
                batch.put(keys::identity(), &identity);
                tree.apply(batch)?;
                identity
            }
        };
        // First, so that nothing is touched that another model has made.
        identity.check_model(path, model)?;
        Store::with(directory, tree, identity)
    }

    /// Whether the state was made with `model`.
    pub fn check_model(&self, model: &Model) -> Result<(), StoreError> {
        self.identity.check_model(self.directory.path(), model)
    }

    /// Opens a directory that is there, whatever model it was made with, to read it.
    pub fn open_existing(path: &Path) -> Result<Store, StoreError> {
        let missing = || StoreError::Missing { path: path.to_path_buf() };
        let directory = Directory::open(path)?.ok_or_else(missing)?;
        let tree = Space::open(&directory.sled(), CACHE_BYTES)?;
        let identity = tree.get::<Identity>(&keys::identity())?.ok_or_else(missing)?;
        Store::with(directory, tree, identity)
    }

    fn with(directory: Directory, tree: Space, identity: Identity) -> Result<Store, StoreError> {
        if identity.format != FORMAT {
            return Err(StoreError::Format { path: directory.path().to_path_buf(), found: identity.format });
        }
        let positions = tree.scan::<Offset>(&keys::positions())?.into_iter();
        let durable = Durable {
            sequence: tree.get::<u64>(&keys::outbox_sequence())?.unwrap_or(0),
            positions: positions.filter_map(|(key, offset)| Some((keys::partition_of(&key)?, offset))).collect(),
        };
        let outbox = Outbox::new(tree.clone(), durable);
        let mut store = Store {
            dimension: identity.dimension,
            tree,
            identity,
            vectors: HashMap::new(),
            collections: HashMap::new(),
            outbox,
            directory,
        };
        for (name, record) in store.tree.scan::<CollectionRecord>(&keys::collections())? {
            let name = keys::collection_of(&name).ok_or_else(|| store.damaged("a collection's key"))?;
            let file = VectorFile::open(&store.directory.vectors(&name), store.dimension, &record)?;
            store.vectors.insert(name.clone(), file);
            store.collections.insert(name, record);
        }
        Ok(store)
    }

    /// The identity of this state: part of every event's id.
    pub fn state_uuid(&self) -> &str {
        &self.identity.state_uuid
    }

    /// A handle on what is to be published, for another thread.
    pub fn outbox(&self) -> Outbox {
        self.outbox.clone()
    }

    /// Reads everything an engine goes on from. Every record's checksum is verified.
    pub fn contents(&self) -> Result<Contents, StoreError> {
        let mut contents = Contents { positions: self.outbox.durable().positions, ..Contents::default() };
        for (name, record) in &self.collections {
            let mut restored = Restored { sequence: record.sequence, ..Restored::default() };
            let embeddings = self.vectors[name].read()?;
            let faces = self.tree.scan::<FaceRecord>(&keys::faces(name))?;
            if faces.len() != embeddings.len() {
                let what =
                    format!("collection {name} has {} face records and {} vectors", faces.len(), embeddings.len());
                return Err(self.damaged(&what));
            }
            for ((_, face), embedding) in faces.into_iter().zip(embeddings) {
                restored.faces.push(RestoredFace { id: face.id, embedding, home: face.home });
            }
            restored.clusters = self.tree.scan::<Cluster>(&keys::clusters(name))?.into_iter().map(|(_, c)| c).collect();
            self.check(name, &restored)?;
            contents.collections.insert(name.clone(), restored);
        }
        Ok(contents)
    }

    /// The links between records that an engine relies on.
    fn check(&self, name: &CollectionName, restored: &Restored) -> Result<(), StoreError> {
        let last = restored.clusters.len() as u64;
        for (place, cluster) in restored.clusters.iter().enumerate() {
            let numbered = cluster.id.0 == place as u64 + 1;
            if !numbered || cluster.merged_into.is_some_and(|into| into >= cluster.id || into.0 == 0) {
                return Err(self.damaged(&format!("cluster {} of collection {name}", cluster.id)));
            }
        }
        match restored.faces.iter().find(|face| face.home.0 == 0 || face.home.0 > last) {
            Some(face) => Err(self.damaged(&format!("the home of face {} of collection {name}", face.id))),
            None => Ok(()),
        }
    }

    /// Writes a batch. This operation is atomic: see the head of this file. After an error the
    /// store is not to be used any more; opening it again finds the last whole commit.
    pub fn commit(&mut self, commit: &Commit) -> Result<(), StoreError> {
        for CollectionCommit { collection, changes } in &commit.collections {
            self.append_vectors(collection, changes)?;
        }
        let mut batch = self.tree.batch();
        let mut sequence = self.outbox.durable().sequence;
        let mut post = |batch: &mut keys::Batch, entry: &Entry| {
            sequence += 1;
            batch.put(keys::outbox(sequence), entry);
        };
        for CollectionCommit { collection, changes } in &commit.collections {
            for added in &changes.added {
                batch.put(keys::face(collection, added.node), &FaceRecord::from(added));
                batch.put(keys::node_of(collection, &added.face.id), &added.node);
            }
            for scored in &changes.scored {
                let kept = scored.linkages.iter().filter(|linkage| linkage.probability >= LINKAGE_FLOOR);
                batch.put(keys::linkages(collection, scored.node), &kept.collect::<Vec<_>>());
            }
            for cluster in &changes.clusters {
                batch.put(keys::cluster(collection, cluster.id), cluster);
            }
            for event in &changes.events {
                let entry =
                    Entry::Event { collection: collection.clone(), event: event.clone(), committed_at: commit.now };
                post(&mut batch, &entry);
            }
            let record = self.collections.entry(collection.clone()).or_insert_with(CollectionRecord::new);
            record.faces += changes.added.len() as u64;
            record.sequence = changes.events.last().map_or(record.sequence, |event| event.sequence);
            batch.put(keys::collection(collection), record);
        }
        for dead_letter in &commit.dead_letters {
            post(&mut batch, &Entry::DeadLetter(dead_letter.clone()));
        }
        for (&partition, offset) in &commit.positions {
            batch.put(keys::position(partition), offset);
        }
        batch.put(keys::outbox_sequence(), &sequence);
        self.tree.apply(batch)?;
        self.outbox.committed(sequence, &commit.positions);
        Ok(())
    }

    fn append_vectors(&mut self, collection: &CollectionName, changes: &Changes) -> Result<(), StoreError> {
        if changes.added.is_empty() {
            return Ok(());
        }
        let file = match self.vectors.entry(collection.clone()) {
            std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::hash_map::Entry::Vacant(entry) => {
                entry.insert(VectorFile::create(&self.directory.vectors(collection), self.dimension)?)
            }
        };
        file.append(changes.added.iter().map(|added| added.face.embedding.values()))
    }

    pub fn collections(&self) -> impl Iterator<Item = &CollectionName> {
        self.collections.keys()
    }

    /// A face's record, by the caller's name for it.
    pub fn face(&self, collection: &CollectionName, id: &FaceId) -> Result<Option<FaceRecord>, StoreError> {
        match self.tree.get::<NodeId>(&keys::node_of(collection, id))? {
            Some(node) => self.tree.get(&keys::face(collection, node)),
            None => Ok(None),
        }
    }

    pub fn cluster(&self, collection: &CollectionName, id: ClusterId) -> Result<Option<Cluster>, StoreError> {
        self.tree.get(&keys::cluster(collection, id))
    }

    /// The cluster that lives on where `home` is or went.
    pub fn living_cluster(&self, collection: &CollectionName, home: ClusterId) -> Result<Cluster, StoreError> {
        let mut id = home;
        loop {
            let missing = || self.damaged(&format!("cluster {id} of collection {collection} is missing"));
            let cluster = self.cluster(collection, id)?.ok_or_else(missing)?;
            match cluster.merged_into {
                Some(older) if older < id => id = older,
                Some(_) => return Err(self.damaged(&format!("cluster {id} of collection {collection}"))),
                None => return Ok(cluster),
            }
        }
    }

    fn damaged(&self, what: &str) -> StoreError {
        StoreError::Damaged { path: self.directory.path().to_path_buf(), what: what.to_string() }
    }
}

#[cfg(test)]
mod tests;
