//! The store: the one truth of a state directory, and the point at which a batch has happened.
//!
//! ```text
//! DIR/LOCK                                    held while a facetd uses the directory
//! DIR/COMMITTED                               the number of the last commit that was acknowledged
//! DIR/vectors/COLLECTION.GENERATION.vectors   embeddings, append-only, fixed records
//! DIR/snapshots/COLLECTION.SEQUENCE.snapshot  what an engine derived, see snapshots.rs
//! DIR/sled/                                   everything else: one tree, keys in keys.rs, records in records.rs
//! DIR/sled.new, DIR/sled.old                  there only while sled is rewritten
//! DIR/audit.jsonl                             what was done by hand, where log.audit names no other place: not the store's
//! ```
//!
//! A [`commit`] is atomic, and so is every step of a compaction: of vector files ([`compact`]) and
//! of sled ([`rewrite`]), which also brings an older format to today's ([`upgrade`]). Wherever any of
//! them dies, opening finds a whole state and clears up the rest.
//!
//! Cost of a commit: a sync for each collection with new vectors and one for sled, O(records of the
//! batch). Cost of opening: one file looked at for each collection; of [`Store::contents`] O(faces).

pub mod backup;
mod checks;
mod commit;
mod committed;
mod compact;
mod directory;
mod error;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod keys;
mod look;
mod opening;
pub mod outbox;
mod presence;
mod records;
pub mod repair;
mod restore;
mod rewrite;
mod salvage;
mod snapshots;
mod space;
mod sums;
mod suppressed;
mod upgrade;
mod vectors;
pub mod verify;

use std::collections::{HashMap, HashSet};
use std::path::Path;

use crate::engine::changes::{Constraint, FaceRecord};
use crate::engine::event::Cluster;
use crate::face::{ClusterId, CollectionName, FaceId, NodeId, Position, Timestamp};
pub use checks::{Broken, Check};
pub use commit::{CollectionCommit, Commit, Incarnation};
use committed::{Committed, Said};
pub use compact::Compacted;
use directory::Directory;
pub use directory::FilesystemRoom;
pub use error::StoreError;
pub use outbox::{Claim, Durable, Entry, Forgotten, Outbox, Published, StateTopic};
use records::{CollectionRecord, Identity};
pub use restore::{Contents, Resumed, SnapshotUsed};
pub use snapshots::{SnapshotName, Snapshots, Unusable};
use space::{Batch, Space};
pub use suppressed::FaceKey;
use suppressed::Suppressed;
use vectors::VectorFile;

/// The format of a state directory this program writes. Format 1 was never released.
const FORMAT: u32 = 3;

/// What a state directory must agree with.
#[derive(Debug, Clone)]
pub struct Model {
    pub fingerprint: String,
    pub dimension: usize,
}

/// An open state directory. There is one writer: the store itself.
pub struct Store {
    space: Space,
    identity: Identity,
    /// While a backup is copied.
    hold: backup::Hold,
    collections: HashMap<CollectionName, CollectionRecord>,
    /// How many commits there were.
    commit_sequence: u64,
    suppressed: Suppressed,
    outbox: Outbox,
    /// Where the number of commits is noted beside sled.
    committed: Committed,
    /// Last, so that it is let go last: it holds the lock.
    directory: Directory,
}

impl Store {
    /// Opens `path`, making it when there is none. Checks that it was made with `model`.
    pub fn open(path: &Path, model: &Model) -> Result<Store, StoreError> {
        presence::is_state(path)?;
        let directory = Directory::create(path)?;
        // Checks the model first, so that nothing is touched that another model has made.
        let (space, identity) = upgrade::open(&directory, Some(model))?;
        let identity = match identity {
            Some(identity) => identity,
            None => {
                presence::check_new(path)?;
                let identity = Identity::new(model)?;
                let mut batch = Batch::default();
                batch.put(keys::identity(), &identity);
                space.apply(batch)?;
                identity
            }
        };
        Store::with(directory, space, identity)
    }

    /// Whether there is a state in `path`; an error, if none can be made there either.
    pub fn is_state(path: &Path) -> Result<bool, StoreError> {
        presence::is_state(path)
    }

    /// Whether a state can be made or go on in `path`: it can be written and has room.
    pub fn check_room(path: &Path) -> Result<(), StoreError> {
        directory::check_room(path)
    }

    /// Whether the state was made with `model`.
    pub fn check_model(&self, model: &Model) -> Result<(), StoreError> {
        self.identity.check_model(self.directory.path(), model)
    }

    /// Opens a directory that is there, whatever model it was made with.
    pub fn open_existing(path: &Path) -> Result<Store, StoreError> {
        let missing = || StoreError::Missing { path: path.to_path_buf() };
        presence::is_state(path)?;
        let directory = Directory::open(path)?.ok_or_else(missing)?;
        let (space, identity) = upgrade::open(&directory, None)?;
        let Some(identity) = identity else {
            presence::check_new(path)?;
            return Err(missing());
        };
        Store::with(directory, space, identity)
    }

    fn with(directory: Directory, space: Space, identity: Identity) -> Result<Store, StoreError> {
        let positions = space.scan::<Position>(&keys::positions())?.into_iter();
        let durable = Durable {
            sequence: space.get::<u64>(&keys::outbox_sequence())?.unwrap_or(0),
            positions: positions.filter_map(|(key, position)| Some((keys::partition_of(&key)?, position))).collect(),
        };
        let hashes = space.scan::<Timestamp>(&keys::all_suppressed())?.into_iter();
        let hashes: HashSet<_> = hashes.filter_map(|(key, _)| keys::suppressed_of(&key)).collect();
        let (committed, said) = Committed::open(directory.path(), &identity.state_uuid)?;
        let mut store = Store {
            committed,
            outbox: Outbox::new(space.clone(), durable),
            suppressed: Suppressed::new(identity.suppression_key.clone(), hashes),
            hold: backup::Hold::default(),
            collections: HashMap::new(),
            commit_sequence: space.get::<u64>(&keys::commit_sequence())?.unwrap_or(0),
            space,
            identity,
            directory,
        };
        store.check_whole(said)?;
        for (key, record) in store.space.scan::<CollectionRecord>(&keys::collections())? {
            let name = keys::collection_of(&key).ok_or_else(|| store.damaged("a collection's key"))?;
            store.vectors(&name, &record).recover()?;
            store.collections.insert(name, record);
        }
        store.remove_orphans()?;
        let there = |name: &CollectionName| store.collections.contains_key(name);
        store.snapshots().clear_up(there, store.commit_sequence)?;
        Ok(store)
    }

    /// Whether sled lost commits that were acknowledged, or records that belong to no collection:
    /// those of a collection are checked when it is read. Before anything is touched.
    fn check_whole(&self, said: Said) -> Result<(), StoreError> {
        let found = self.commit_sequence;
        match said {
            Said::Commit(acknowledged) if acknowledged > found => {
                let what = format!("it ends with commit {found}, but commit {acknowledged} was acknowledged");
                return Err(StoreError::Damaged { path: self.directory.sled(), what });
            }
            // Of an older format, which had no sums.
            Said::Nothing if !self.space.has_sums() => self.space.apply(Batch::default())?,
            Said::Unusable => tracing::warn!("COMMITTED says nothing of this state: it is made anew"),
            Said::Commit(_) | Said::Nothing => {}
        }
        self.space.check_sum(&[], self.space.add_up_rest()?)?;
        self.committed.note(found)
    }

    /// The identity of this state: part of every event's id.
    pub fn state_uuid(&self) -> &str {
        &self.identity.state_uuid
    }

    /// The number of the last commit.
    pub fn commit_sequence(&self) -> u64 {
        self.commit_sequence
    }

    /// A handle on its snapshots, for another thread.
    pub fn snapshots(&self) -> Snapshots {
        Snapshots {
            folder: self.directory.snapshots(),
            state_uuid: self.identity.state_uuid.clone(),
            model: self.identity.model.clone(),
        }
    }

    /// How wide its embeddings are.
    pub fn dimension(&self) -> usize {
        self.identity.dimension
    }

    /// What is to be published; a clone is a handle on it for another thread.
    pub fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    pub fn collections(&self) -> impl Iterator<Item = &CollectionName> {
        self.collections.keys()
    }

    /// Faces of all collections.
    pub fn faces(&self) -> u64 {
        self.collections.values().map(|record| record.faces).sum()
    }

    /// A face's record, by the caller's name for it.
    pub fn face(&self, collection: &CollectionName, id: &FaceId) -> Result<Option<FaceRecord>, StoreError> {
        match self.space.get::<NodeId>(&keys::node_of(collection, id))? {
            Some(node) => self.space.get(&keys::face(collection, node)),
            None => Ok(None),
        }
    }

    pub fn cluster(&self, collection: &CollectionName, id: ClusterId) -> Result<Option<Cluster>, StoreError> {
        self.space.get(&keys::cluster(collection, id))
    }

    /// The cluster that lives on where `home` is or went.
    pub fn living_cluster(&self, collection: &CollectionName, home: ClusterId) -> Result<Cluster, StoreError> {
        let mut met = HashSet::new();
        let mut id = home;
        loop {
            let missing = || self.damaged(&format!("cluster {id} of collection {collection} is missing"));
            let cluster = self.cluster(collection, id)?.ok_or_else(missing)?;
            let Some(into) = cluster.merged_into else { return Ok(cluster) };
            // Ids do not order: a younger pinned cluster may have taken in an older one.
            if !met.insert(id) {
                return Err(self.damaged(&format!("cluster {id} of collection {collection} merged into itself")));
            }
            id = into;
        }
    }

    /// What operators said about pairs of faces.
    pub fn constraints(&self, collection: &CollectionName) -> Result<Vec<Constraint>, StoreError> {
        let constraints = self.space.scan(&keys::constraints(collection))?;
        Ok(constraints.into_iter().map(|(_, constraint)| constraint).collect())
    }

    /// Whether a face was erased and is not to come back.
    pub fn is_suppressed(&self, collection: &CollectionName, face: &FaceId) -> bool {
        self.suppressed.contains(collection, face)
    }

    /// How many faces are not to come back.
    pub fn suppressed_count(&self) -> usize {
        self.suppressed.len()
    }

    /// Bytes of all files of the directory.
    pub fn size_on_disk(&self) -> Result<u64, StoreError> {
        self.directory.size()
    }

    /// Room of the filesystem the directory is on.
    pub fn room(&self) -> Result<FilesystemRoom, StoreError> {
        self.directory.room()
    }

    /// The vector file that `record` speaks of.
    fn vectors(&self, collection: &CollectionName, record: &CollectionRecord) -> VectorFile {
        VectorFile {
            path: self.directory.vectors(collection, record.generation),
            dimension: self.identity.dimension,
            generation: record.generation,
            records: record.records,
        }
    }

    fn damaged(&self, what: &str) -> StoreError {
        StoreError::Damaged { path: self.directory.path().to_path_buf(), what: what.to_string() }
    }
}

#[cfg(test)]
mod tests;
