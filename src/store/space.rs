//! The one sled tree, with values that carry a checksum.
//!
//! One tree, because a sled batch covers one tree. A value is postcard, then the CRC-32 of key and
//! postcard, so that a value found under another's key is noticed too.
//!
//! What was overwritten or removed stays in sled's file until [`super::rewrite`], which the daemon
//! does when most of the file is of that kind: [`Space::needs_rewrite`].
//!
//! Beside the records stand their [`sums`], by which what sled lost is noticed.

use std::collections::{BTreeMap, HashMap};
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::StoreError;
use super::keys::{self, Key};
use super::opening::{self, CLOSING, guarded};
use super::sums::{self, Sum};
use crate::failpoint;

const CHECKSUM_BYTES: usize = 4;
/// Records copied at once.
const COPIED_AT_ONCE: usize = 1024;
/// How many times as large as when it was last written anew a log may get: three in four of its bytes are
/// then dead, and a byte written costs a third of one more. A test that kills has no time for that.
const LOG_GROWTH: u64 = if cfg!(feature = "failpoints") { 2 } else { 4 };
/// A smaller log is left alone.
const SMALL_LOG_BYTES: u64 = if cfg!(feature = "failpoints") { 4 << 20 } else { 16 << 20 };

/// The tree, with checked values. Cheap to clone; clones see the same tree.
#[derive(Clone)]
pub struct Space {
    /// None once it is closed. Held while another takes its place: [`Space::exchange`].
    tree: Arc<Mutex<Option<Arc<Guarded>>>>,
    path: PathBuf,
    /// As sled holds them, for those who write: one at a time.
    sums: Arc<Mutex<Sums>>,
}

/// What sled says that each scope adds up to.
type Sums = HashMap<Vec<u8>, Sum>;

/// Whoever has it is the only one who writes.
pub struct OnlyWriter<'a>(MutexGuard<'a, Sums>);

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

/// A key and its value.
type Item = Result<(sled::IVec, sled::IVec), StoreError>;

/// Some of the tree. The iterator has a handle of its own, which goes before the guarded one.
struct Items {
    iterator: sled::Iter,
    _tree: Arc<Guarded>,
}

/// What becomes of a record that is written anew: its new bytes, or none where it stays as it is.
pub type Rewritten = postcard::Result<Option<Vec<u8>>>;

/// Writes that happen together.
#[derive(Default)]
pub struct Batch {
    /// A value with its checksum, or nothing where there is to be none.
    writes: BTreeMap<Key, Option<Vec<u8>>>,
}

impl Batch {
    pub fn put(&mut self, key: Key, value: &(impl Serialize + ?Sized)) {
        let bytes = postcard::to_stdvec(value).expect("records are plain data, which postcard always writes");
        self.put_bytes(key, bytes);
    }

    /// A value that postcard has written already.
    fn put_bytes(&mut self, key: Key, mut bytes: Vec<u8>) {
        bytes.extend(checksum(&key, &bytes));
        self.writes.insert(key, Some(bytes));
    }

    pub fn remove(&mut self, key: Key) {
        self.writes.insert(key, None);
    }
}

impl Space {
    pub fn open(path: &Path) -> Result<Space, StoreError> {
        let tree = Arc::new(Mutex::new(Some(open_tree(path)?)));
        let space = Space { tree, path: path.to_path_buf(), sums: Arc::default() };
        space.read_sums(&mut space.lock())?;
        Ok(space)
    }

    fn read_sums(&self, sums: &mut Sums) -> Result<(), StoreError> {
        sums.clear();
        for (key, sum) in self.scan::<u64>(&keys::sums())? {
            let scope = sums::scope_of(&key).ok_or_else(|| self.damaged(&key))?;
            sums.insert(scope, Sum(sum));
        }
        Ok(())
    }

    /// The tree as it is now. Whoever keeps it delays its closing.
    fn tree(&self) -> Result<Arc<Guarded>, StoreError> {
        lock(&self.tree).clone().ok_or_else(|| StoreError::Closed { path: self.path.clone() })
    }

    /// Bytes of sled's log, in which all is that was ever written since it was last written anew.
    pub fn log_bytes(&self) -> Result<u64, StoreError> {
        let file = self.path.join("db");
        Ok(std::fs::metadata(&file).map_err(StoreError::io(&file))?.len())
    }

    /// Whether so much of the log is overwritten or removed that it is worth writing anew. Cheap enough to
    /// ask after every commit.
    pub fn needs_rewrite(&self) -> Result<bool, StoreError> {
        let bytes = self.log_bytes()?;
        if bytes < SMALL_LOG_BYTES {
            return Ok(false);
        }
        let anew = self.get::<u64>(&keys::bytes_when_written_anew())?.unwrap_or(0);
        Ok(bytes > anew.saturating_mul(LOG_GROWTH))
    }

    /// Lets nobody else write as long as what it returns is kept.
    pub fn only_writer(&self) -> OnlyWriter<'_> {
        OnlyWriter(self.lock())
    }

    /// Closes sled, has `exchange` put another in its folder's place, and opens that. Readers wait; after a
    /// failure they and writers find it closed.
    pub fn exchange(
        &self,
        writer: &mut OnlyWriter<'_>,
        exchange: impl FnOnce() -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let mut place = lock(&self.tree);
        drop(place.take());
        wait_until_closed(&self.path)?;
        exchange()?;
        *place = Some(open_tree(&self.path)?);
        drop(place);
        self.read_sums(&mut writer.0)
    }

    /// Applies a batch and returns when it is on disk.
    pub fn apply(&self, batch: Batch) -> Result<(), StoreError> {
        self.apply_soon(batch)?;
        failpoint::reached("store::applied");
        failpoint::refused("store::flush").map_err(StoreError::io(&self.path))?;
        self.flush()
    }

    fn flush(&self) -> Result<(), StoreError> {
        self.ask(|tree| tree.flush()).map(drop)
    }

    /// Applies a batch that may be lost when the machine dies before the next [`Space::apply`].
    pub fn apply_soon(&self, mut batch: Batch) -> Result<(), StoreError> {
        failpoint::refused("store::apply").map_err(StoreError::io(&self.path))?;
        let mut sums = self.lock();
        let changed = self.sums_with(&sums, &batch)?;
        for (scope, sum) in &changed {
            batch.put(sums::key(scope), &sum.0);
        }
        self.write(batch)?;
        sums.extend(changed);
        Ok(())
    }

    /// The sums that a batch changes, as they are with it: all of them for a state that has none yet.
    fn sums_with(&self, sums: &HashMap<Vec<u8>, Sum>, batch: &Batch) -> Result<HashMap<Vec<u8>, Sum>, StoreError> {
        let mut changed = if sums.is_empty() { self.add_up_all()? } else { HashMap::new() };
        for (key, value) in &batch.writes {
            let Some(scope) = sums::scope(key) else { continue };
            if !changed.contains_key(scope) {
                changed.insert(scope.to_vec(), sums.get(scope).copied().unwrap_or_default());
            }
            let sum = changed.get_mut(scope).expect("it was just put in");
            if let Some(before) = self.ask(|tree| tree.get(key))? {
                sum.take(key, &before);
            }
            if let Some(value) = value {
                sum.add(key, value);
            }
        }
        Ok(changed)
    }

    fn add_up_all(&self) -> Result<HashMap<Vec<u8>, Sum>, StoreError> {
        let mut sums: HashMap<Vec<u8>, Sum> = HashMap::new();
        for item in self.items(self.range(|tree| tree.iter())) {
            let (key, value) = item?;
            if let Some(scope) = sums::scope(&key) {
                sums.entry(scope.to_vec()).or_default().add(&key, &value);
            }
        }
        Ok(sums)
    }

    /// Writes a batch as it is, sums and all.
    fn write(&self, batch: Batch) -> Result<(), StoreError> {
        let mut writes = sled::Batch::default();
        for (key, value) in batch.writes {
            match value {
                Some(value) => writes.insert(key, value),
                None => writes.remove(key),
            }
        }
        self.ask(|tree| tree.apply_batch(writes))
    }

    /// Whether what was read of a scope is all that was written of it.
    pub fn check_sum(&self, scope: &[u8], read: Sum) -> Result<(), StoreError> {
        if self.lock().get(scope).copied().unwrap_or_default() == read {
            return Ok(());
        }
        let of =
            if scope.is_empty() { "the state".to_string() } else { format!("collection {}", scope.escape_ascii()) };
        let what = format!("records of {of} are lost or older than they should be");
        Err(StoreError::Damaged { path: self.path.clone(), what })
    }

    /// The scopes of which not all is there that was written.
    pub fn incomplete(&self) -> Result<Vec<Vec<u8>>, StoreError> {
        let read = self.add_up_all()?;
        let sums = self.lock();
        if sums.is_empty() {
            return Ok(Vec::new());
        }
        let all: std::collections::BTreeSet<&Vec<u8>> = read.keys().chain(sums.keys()).collect();
        let differs = all.into_iter().filter(|&scope| {
            read.get(scope).copied().unwrap_or_default() != sums.get(scope).copied().unwrap_or_default()
        });
        Ok(differs.cloned().collect())
    }

    /// Whether it holds sums: a state of an older format does not, until its first batch.
    pub fn has_sums(&self) -> bool {
        !self.lock().is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, Sums> {
        lock(&self.sums)
    }

    fn ask<T>(&self, ask: impl FnOnce(&sled::Tree) -> sled::Result<T>) -> Result<T, StoreError> {
        let tree = self.tree()?;
        guarded(&self.path, || ask(&tree))
    }

    pub fn get<T: DeserializeOwned>(&self, key: &[u8]) -> Result<Option<T>, StoreError> {
        match self.ask(|tree| tree.get(key))? {
            Some(value) => self.open_value(key, &value).map(Some),
            None => Ok(None),
        }
    }

    /// Every value whose key begins with `prefix`, in the order of keys.
    pub fn scan<T: DeserializeOwned>(&self, prefix: &[u8]) -> Result<Vec<(Key, T)>, StoreError> {
        self.collect(self.items(self.range(|tree| tree.scan_prefix(prefix))))
    }

    /// Tells of every key whether its value has its checksum.
    pub fn look_over(&self, mut tell: impl FnMut(&[u8], bool)) -> Result<(), StoreError> {
        for item in self.items(self.range(|tree| tree.iter())) {
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
        self.survey_summed(prefix, damaged, &mut Sum::default())
    }

    /// As [`Space::survey`], and adds what there is to `sum`, damaged or not.
    pub fn survey_summed<T: DeserializeOwned>(
        &self,
        prefix: &[u8],
        damaged: &mut Vec<Key>,
        sum: &mut Sum,
    ) -> Result<Vec<(Key, T)>, StoreError> {
        let mut values = Vec::new();
        for item in self.items(self.range(|tree| tree.scan_prefix(prefix))) {
            let (key, value) = item?;
            sum.add(&key, &value);
            match self.open_value(&key, &value) {
                Ok(value) => values.push((key.to_vec(), value)),
                Err(_) => damaged.push(key.to_vec()),
            }
        }
        Ok(values)
    }

    /// Adds what belongs to no collection to a sum.
    pub fn add_up_rest(&self) -> Result<Sum, StoreError> {
        let mut sum = Sum::default();
        for kind in keys::of_no_collection() {
            for item in self.items(self.range(|tree| tree.scan_prefix(&kind))) {
                let (key, value) = item?;
                if sums::scope(&key).is_some() {
                    sum.add(&key, &value);
                }
            }
        }
        Ok(sum)
    }

    /// The first `most` values of `prefix` at or after the key `from`.
    pub fn scan_from<T: DeserializeOwned>(
        &self,
        prefix: &[u8],
        from: Key,
        most: usize,
    ) -> Result<Vec<(Key, T)>, StoreError> {
        let inside = |item: &Item| match item {
            Ok((key, _)) => key.starts_with(prefix),
            Err(_) => true,
        };
        self.collect(self.items(self.range(|tree| tree.range(from..))).take_while(inside).take(most))
    }

    /// Whether there is a value at `key`.
    pub fn contains(&self, key: &[u8]) -> Result<bool, StoreError> {
        self.ask(|tree| tree.contains_key(key))
    }

    /// Every key that begins with `prefix`, in order.
    pub fn keys(&self, prefix: &[u8]) -> impl Iterator<Item = Result<sled::IVec, StoreError>> {
        self.items(self.range(|tree| tree.scan_prefix(prefix))).map(|item| item.map(|(key, _)| key))
    }

    /// How many keys begin with `prefix`. O(their number).
    pub fn count(&self, prefix: &[u8]) -> usize {
        self.items(self.range(|tree| tree.scan_prefix(prefix))).count()
    }

    /// Writes everything into the empty space `to`, as `rewritten` has it, and returns when it is on
    /// disk there. Every checksum is verified: damage is not carried over.
    pub fn copy_to(&self, to: &Space, rewritten: &dyn Fn(&[u8], &[u8]) -> Rewritten) -> Result<(), StoreError> {
        let mut batch = Batch::default();
        let mut changed = false;
        for (place, item) in self.items(self.range(|tree| tree.iter())).enumerate() {
            let (key, value) = item?;
            let value_alone = self.checked(&key, &value)?;
            let is_record = sums::scope(&key).is_some();
            let new = if is_record { rewritten(&key, value_alone).map_err(|_| self.damaged(&key))? } else { None };
            match new {
                Some(bytes) => {
                    changed = true;
                    batch.put_bytes(key.to_vec(), bytes);
                }
                // The sums too, as they are: what was lost is not covered up.
                None => drop(batch.writes.insert(key.to_vec(), Some(value.to_vec()))),
            }
            if place % COPIED_AT_ONCE == COPIED_AT_ONCE - 1 {
                to.write(std::mem::take(&mut batch))?;
            }
        }
        if changed {
            // They are of the values before; the first batch makes new ones.
            for key in self.keys(&keys::sums()) {
                batch.remove(key?.to_vec());
            }
        }
        to.write(batch)?;
        to.read_sums(&mut to.lock())?;
        to.flush()
    }

    /// Lets go of it and returns when sled has too. A clone finds it closed.
    pub fn close(&self) -> Result<(), StoreError> {
        drop(lock(&self.tree).take());
        wait_until_closed(&self.path)
    }

    fn collect<T: DeserializeOwned>(&self, items: impl Iterator<Item = Item>) -> Result<Vec<(Key, T)>, StoreError> {
        items
            .map(|item| {
                let (key, value) = item?;
                Ok((key.to_vec(), self.open_value(&key, &value)?))
            })
            .collect()
    }

    /// Some of the tree, as it is now. Whoever keeps it delays its closing.
    fn range(&self, range: impl FnOnce(&sled::Tree) -> sled::Iter) -> Result<Items, StoreError> {
        self.tree().map(|tree| Items { iterator: range(&tree), _tree: tree })
    }

    /// sled's items, up to the first it cannot give.
    fn items(&self, items: Result<Items, StoreError>) -> impl Iterator<Item = Item> {
        let mut items = Some(items);
        std::iter::from_fn(move || match items.take()? {
            Ok(mut some) => {
                let item = guarded(&self.path, || some.iterator.next().transpose()).transpose();
                if let Some(Ok(_)) = item {
                    items = Some(Ok(some));
                }
                item
            }
            Err(error) => Some(Err(error)),
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

fn open_tree(path: &Path) -> Result<Arc<Guarded>, StoreError> {
    Ok(Arc::new(Guarded(Some(opening::open(path)?))))
}

/// Whoever panics while it holds one of these has changed nothing yet.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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
        self.tree().unwrap().get(key).unwrap().unwrap()
    }

    pub fn lose(&self, key: &[u8]) {
        self.tree().unwrap().remove(key).unwrap().expect("what is lost was there");
    }

    pub fn put_raw(&self, key: &[u8], value: sled::IVec) {
        self.tree().unwrap().insert(key, value).unwrap();
    }
}
