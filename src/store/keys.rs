//! The one sled tree: its keys, and values that carry a checksum.
//!
//! One tree, because a sled batch covers one tree. The first byte of a key is its kind; numbers
//! are big-endian so that sled's order is theirs; a collection's name ends with a zero byte, which
//! no name contains. A value is postcard, then the CRC-32 of key and postcard, so that a value
//! found under another's key is noticed too.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::StoreError;
use crate::face::{ClusterId, CollectionName, FaceId, NodeId, Partition};

const CHECKSUM_BYTES: usize = 4;
/// How long sled may take to let go of a file that was closed.
const CLOSING: Duration = Duration::from_secs(5);

pub type Key = Vec<u8>;

pub fn identity() -> Key {
    b"!identity".to_vec()
}

pub fn outbox_sequence() -> Key {
    b"!outbox-sequence".to_vec()
}

pub fn outbox(sequence: u64) -> Key {
    [b"o", &sequence.to_be_bytes()[..]].concat()
}

pub fn outbox_entries() -> Key {
    b"o".to_vec()
}

/// The sequence in an outbox key.
pub fn outbox_sequence_of(key: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(key.strip_prefix(b"o")?.try_into().ok()?))
}

pub fn position(partition: Partition) -> Key {
    [b"p", &partition.0.to_be_bytes()[..]].concat()
}

pub fn positions() -> Key {
    b"p".to_vec()
}

/// The partition in a position's key.
pub fn partition_of(key: &[u8]) -> Option<Partition> {
    Some(Partition(i32::from_be_bytes(key.strip_prefix(b"p")?.try_into().ok()?)))
}

pub fn collections() -> Key {
    b"c".to_vec()
}

pub fn collection(name: &CollectionName) -> Key {
    [b"c", name.as_str().as_bytes()].concat()
}

/// The name in a collection's key.
pub fn collection_of(key: &[u8]) -> Option<CollectionName> {
    CollectionName::new(std::str::from_utf8(key.strip_prefix(b"c")?).ok()?).ok()
}

pub fn faces(collection: &CollectionName) -> Key {
    inside(b"f", collection, &[])
}

pub fn face(collection: &CollectionName, node: NodeId) -> Key {
    inside(b"f", collection, &node.0.to_be_bytes())
}

pub fn node_of(collection: &CollectionName, id: &FaceId) -> Key {
    inside(b"i", collection, id.as_str().as_bytes())
}

pub fn linkages(collection: &CollectionName, node: NodeId) -> Key {
    inside(b"l", collection, &node.0.to_be_bytes())
}

pub fn clusters(collection: &CollectionName) -> Key {
    inside(b"k", collection, &[])
}

pub fn cluster(collection: &CollectionName, id: ClusterId) -> Key {
    inside(b"k", collection, &id.0.to_be_bytes())
}

fn inside(kind: &[u8], collection: &CollectionName, rest: &[u8]) -> Key {
    [kind, collection.as_str().as_bytes(), &[0], rest].concat()
}

/// The tree, with checked values. Cheap to clone; clones see the same tree.
#[derive(Clone)]
pub struct Space {
    tree: sled::Tree,
    path: PathBuf,
}

/// Writes that happen together.
#[derive(Default)]
pub struct Batch {
    writes: sled::Batch,
}

impl Batch {
    pub fn put(&mut self, key: Key, value: &(impl Serialize + ?Sized)) {
        let mut bytes = postcard::to_stdvec(value).expect("records are plain data, which postcard always writes");
        bytes.extend(checksum(&key, &bytes));
        self.writes.insert(key, bytes);
    }

    pub fn remove(&mut self, key: Key) {
        self.writes.remove(key);
    }
}

impl Space {
    pub fn open(path: &Path, cache_bytes: u64) -> Result<Space, StoreError> {
        // Only a flush of ours is a commit, so sled need not flush on its own clock.
        let config = sled::Config::new().path(path).cache_capacity(cache_bytes).flush_every_ms(None);
        let fail = |source| StoreError::Sled { path: path.to_path_buf(), source };
        let database = open_when_free(&config).map_err(fail)?;
        let tree = database.open_tree("state").map_err(fail)?;
        Ok(Space { tree, path: path.to_path_buf() })
    }

    pub fn batch(&self) -> Batch {
        Batch::default()
    }

    /// Applies a batch and returns when it is on disk.
    pub fn apply(&self, batch: Batch) -> Result<(), StoreError> {
        self.apply_soon(batch)?;
        self.tree.flush().map(drop).map_err(|source| self.failed(source))
    }

    /// Applies a batch that may be lost when the machine dies before the next [`Space::apply`].
    pub fn apply_soon(&self, batch: Batch) -> Result<(), StoreError> {
        self.tree.apply_batch(batch.writes).map_err(|source| self.failed(source))
    }

    pub fn get<T: DeserializeOwned>(&self, key: &[u8]) -> Result<Option<T>, StoreError> {
        match self.tree.get(key).map_err(|source| self.failed(source))? {
            Some(value) => self.open_value(key, &value).map(Some),
            None => Ok(None),
        }
    }

    /// Every value whose key begins with `prefix`, in the order of keys.
    pub fn scan<T: DeserializeOwned>(&self, prefix: &[u8]) -> Result<Vec<(Key, T)>, StoreError> {
        self.collect(self.tree.scan_prefix(prefix))
    }

    /// The first `most` values of `prefix` at or after the key `from`.
    pub fn scan_from<T: DeserializeOwned>(
        &self,
        prefix: &[u8],
        from: Key,
        most: usize,
    ) -> Result<Vec<(Key, T)>, StoreError> {
        let inside = |item: &sled::Result<(sled::IVec, sled::IVec)>| match item {
            Ok((key, _)) => key.starts_with(prefix),
            Err(_) => true,
        };
        self.collect(self.tree.range(from..).take_while(inside).take(most))
    }

    /// How many keys begin with `prefix`. O(their number).
    pub fn count(&self, prefix: &[u8]) -> usize {
        self.tree.scan_prefix(prefix).keys().count()
    }

    fn collect<T: DeserializeOwned>(
        &self,
        items: impl Iterator<Item = sled::Result<(sled::IVec, sled::IVec)>>,
    ) -> Result<Vec<(Key, T)>, StoreError> {
        items
            .map(|item| {
                let (key, value) = item.map_err(|source| self.failed(source))?;
                Ok((key.to_vec(), self.open_value(&key, &value)?))
            })
            .collect()
    }

    fn open_value<T: DeserializeOwned>(&self, key: &[u8], bytes: &[u8]) -> Result<T, StoreError> {
        let damaged =
            || StoreError::Damaged { path: self.path.clone(), what: format!("the record {}", key.escape_ascii()) };
        let end = bytes.len().checked_sub(CHECKSUM_BYTES).ok_or_else(damaged)?;
        let (value, sum) = bytes.split_at(end);
        if sum != checksum(key, value) {
            return Err(damaged());
        }
        postcard::from_bytes(value).map_err(|_| damaged())
    }

    fn failed(&self, source: sled::Error) -> StoreError {
        StoreError::Sled { path: self.path.clone(), source }
    }
}

/// sled closes its file from a thread of its own, some time after its last handle is dropped, and
/// says nothing when it has. The directory's lock is ours by now, so nobody else can have it open.
fn open_when_free(config: &sled::Config) -> sled::Result<sled::Db> {
    let started = Instant::now();
    loop {
        match config.open() {
            Err(sled::Error::Io(error))
                if error.to_string().contains("could not acquire lock") && started.elapsed() < CLOSING =>
            {
                std::thread::sleep(Duration::from_millis(10));
            }
            opened => return opened,
        }
    }
}

fn checksum(key: &[u8], value: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(key);
    hasher.update(value);
    hasher.finalize().to_le_bytes()
}
