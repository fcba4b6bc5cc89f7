//! The one sled tree, with values that carry a checksum.
//!
//! One tree, because a sled batch covers one tree. A value is postcard, then the CRC-32 of key and
//! postcard, so that a value found under another's key is noticed too.
//!
//! What was overwritten or removed stays in sled's file until sled needs the room, or until
//! [`super::rewrite`]. Under steady churn the file does not grow: benches/churn.rs.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::StoreError;
use super::keys::Key;
use super::opening::{self, CLOSING, guarded};
use crate::failpoint;

const CHECKSUM_BYTES: usize = 4;
/// Records copied at once.
const COPIED_AT_ONCE: usize = 1024;

/// The tree, with checked values. Cheap to clone; clones see the same tree.
#[derive(Clone)]
pub struct Space {
    tree: Arc<Guarded>,
    path: PathBuf,
}

/// sled's tree. Letting go of it writes, and what fails then is a panic of sled's.
struct Guarded(Option<sled::Tree>);

impl std::ops::Deref for Guarded {
    type Target = sled::Tree;

    fn deref(&self) -> &sled::Tree {
        self.0.as_ref().expect("the tree goes only with its guard")
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        let tree = self.0.take();
        let let_go = || {
            drop(tree);
            Ok(())
        };
        if let Err(error) = guarded(Path::new("sled"), let_go) {
            tracing::error!(%error, "closing failed");
        }
    }
}

/// What becomes of a record that is written anew: its new bytes, or none where it stays as it is.
pub type Rewritten = postcard::Result<Option<Vec<u8>>>;

/// Writes that happen together.
#[derive(Default)]
pub struct Batch {
    writes: sled::Batch,
}

impl Batch {
    pub fn put(&mut self, key: Key, value: &(impl Serialize + ?Sized)) {
        let bytes = postcard::to_stdvec(value).expect("records are plain data, which postcard always writes");
        self.put_bytes(key, bytes);
    }

    /// A value that postcard has written already.
    fn put_bytes(&mut self, key: Key, mut bytes: Vec<u8>) {
        bytes.extend(checksum(&key, &bytes));
        self.writes.insert(key, bytes);
    }

    pub fn remove(&mut self, key: Key) {
        self.writes.remove(key);
    }
}

impl Space {
    pub fn open(path: &Path) -> Result<Space, StoreError> {
        let tree = Arc::new(Guarded(Some(opening::open(path)?)));
        Ok(Space { tree, path: path.to_path_buf() })
    }

    /// Applies a batch and returns when it is on disk.
    pub fn apply(&self, batch: Batch) -> Result<(), StoreError> {
        self.apply_soon(batch)?;
        failpoint::reached("store::applied");
        failpoint::refused("store::flush").map_err(StoreError::io(&self.path))?;
        self.ask(|| self.tree.flush()).map(drop)
    }

    /// Applies a batch that may be lost when the machine dies before the next [`Space::apply`].
    pub fn apply_soon(&self, batch: Batch) -> Result<(), StoreError> {
        failpoint::refused("store::apply").map_err(StoreError::io(&self.path))?;
        self.ask(|| self.tree.apply_batch(batch.writes))
    }

    fn ask<T>(&self, ask: impl FnOnce() -> sled::Result<T>) -> Result<T, StoreError> {
        guarded(&self.path, ask)
    }

    pub fn get<T: DeserializeOwned>(&self, key: &[u8]) -> Result<Option<T>, StoreError> {
        match self.ask(|| self.tree.get(key))? {
            Some(value) => self.open_value(key, &value).map(Some),
            None => Ok(None),
        }
    }

    /// Every value whose key begins with `prefix`, in the order of keys.
    pub fn scan<T: DeserializeOwned>(&self, prefix: &[u8]) -> Result<Vec<(Key, T)>, StoreError> {
        self.collect(self.tree.scan_prefix(prefix))
    }

    /// Tells of every key whether its value has its checksum.
    pub fn look_over(&self, mut tell: impl FnMut(&[u8], bool)) -> Result<(), StoreError> {
        for item in self.items(self.tree.iter()) {
            let (key, value) = item?;
            tell(&key, self.checked(&key, &value).is_ok());
        }
        Ok(())
    }

    /// As [`Space::scan`], but what is damaged is listed in `damaged` and left out.
    pub fn survey<T: DeserializeOwned>(
        &self,
        prefix: &[u8],
        damaged: &mut Vec<Key>,
    ) -> Result<Vec<(Key, T)>, StoreError> {
        let mut values = Vec::new();
        for item in self.items(self.tree.scan_prefix(prefix)) {
            let (key, value) = item?;
            match self.open_value(&key, &value) {
                Ok(value) => values.push((key.to_vec(), value)),
                Err(_) => damaged.push(key.to_vec()),
            }
        }
        Ok(values)
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

    /// Whether there is a value at `key`.
    pub fn contains(&self, key: &[u8]) -> Result<bool, StoreError> {
        self.ask(|| self.tree.contains_key(key))
    }

    /// Every key that begins with `prefix`, in order.
    pub fn keys(&self, prefix: &[u8]) -> impl Iterator<Item = Result<sled::IVec, StoreError>> {
        self.items(self.tree.scan_prefix(prefix)).map(|item| item.map(|(key, _)| key))
    }

    /// How many keys begin with `prefix`. O(their number).
    pub fn count(&self, prefix: &[u8]) -> usize {
        self.items(self.tree.scan_prefix(prefix)).count()
    }

    /// Writes everything into the empty space `to`, as `rewritten` has it, and returns when it is on
    /// disk there. Every checksum is verified: damage is not carried over.
    pub fn copy_to(&self, to: &Space, rewritten: &dyn Fn(&[u8], &[u8]) -> Rewritten) -> Result<(), StoreError> {
        let mut batch = Batch::default();
        for (place, item) in self.items(self.tree.iter()).enumerate() {
            let (key, value) = item?;
            match rewritten(&key, self.checked(&key, &value)?).map_err(|_| self.damaged(&key))? {
                Some(bytes) => batch.put_bytes(key.to_vec(), bytes),
                None => batch.writes.insert(key, value),
            }
            if place % COPIED_AT_ONCE == COPIED_AT_ONCE - 1 {
                to.apply_soon(std::mem::take(&mut batch))?;
            }
        }
        to.apply(batch)
    }

    /// Lets go of it and returns when sled has too. There must be no clone left.
    pub fn close(self) -> Result<(), StoreError> {
        let Space { tree, path } = self;
        drop(tree);
        wait_until_closed(&path)
    }

    fn collect<T: DeserializeOwned>(
        &self,
        items: impl Iterator<Item = sled::Result<(sled::IVec, sled::IVec)>>,
    ) -> Result<Vec<(Key, T)>, StoreError> {
        self.items(items)
            .map(|item| {
                let (key, value) = item?;
                Ok((key.to_vec(), self.open_value(&key, &value)?))
            })
            .collect()
    }

    /// sled's items, up to the first it cannot give.
    fn items(
        &self,
        mut items: impl Iterator<Item = sled::Result<(sled::IVec, sled::IVec)>>,
    ) -> impl Iterator<Item = Result<(sled::IVec, sled::IVec), StoreError>> {
        let mut failed = false;
        std::iter::from_fn(move || {
            if failed {
                return None;
            }
            let item = self.ask(|| items.next().transpose()).transpose();
            failed = matches!(item, Some(Err(_)));
            item
        })
    }

    fn open_value<T: DeserializeOwned>(&self, key: &[u8], bytes: &[u8]) -> Result<T, StoreError> {
        postcard::from_bytes(self.checked(key, bytes)?).map_err(|_| self.damaged(key))
    }

    /// The value without its checksum, which is verified.
    fn checked<'a>(&self, key: &[u8], bytes: &'a [u8]) -> Result<&'a [u8], StoreError> {
        match bytes.split_last_chunk::<CHECKSUM_BYTES>() {
            Some((value, sum)) if *sum == checksum(key, value) => Ok(value),
            _ => Err(self.damaged(key)),
        }
    }

    pub(super) fn damaged(&self, key: &[u8]) -> StoreError {
        StoreError::Damaged { path: self.path.clone(), what: format!("the record {}", key.escape_ascii()) }
    }
}

/// Returns once sled has let go of the folder `path`: it locks the file `db` in it.
fn wait_until_closed(path: &Path) -> Result<(), StoreError> {
    let file = path.join("db");
    let started = Instant::now();
    loop {
        let locked = File::open(&file).map_err(StoreError::io(&file))?.try_lock();
        match locked {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) if started.elapsed() < CLOSING => {
                std::thread::sleep(Duration::from_millis(10));
            }
            Err(TryLockError::WouldBlock) => return Err(StoreError::Locked { path: path.to_path_buf() }),
            Err(TryLockError::Error(source)) => return Err(StoreError::Io { path: file, source }),
        }
    }
}

fn checksum(key: &[u8], value: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(key);
    hasher.update(value);
    hasher.finalize().to_le_bytes()
}

/// To put in place what no program writes.
#[cfg(test)]
impl Space {
    pub fn raw(&self, key: &[u8]) -> sled::IVec {
        self.tree.get(key).unwrap().unwrap()
    }

    pub fn put_raw(&self, key: &[u8], value: sled::IVec) {
        self.tree.insert(key, value).unwrap();
    }
}
