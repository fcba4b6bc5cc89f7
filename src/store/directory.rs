//! The folders of a state directory, and the lock that gives it one user.

use std::fs::{DirEntry, File, OpenOptions, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::StoreError;
use crate::face::CollectionName;

const VECTORS: &str = "vectors";

/// A locked state directory. The lock goes with the process, also when it is killed.
pub struct Directory {
    path: PathBuf,
    _lock: File,
}

/// A vector file, by what its name says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VectorFileName {
    pub collection: CollectionName,
    pub generation: u64,
}

impl VectorFileName {
    /// A collection's name may contain dots, a generation does not: the last two name it.
    fn parse(name: &str) -> Option<VectorFileName> {
        let (collection, generation) = name.strip_suffix(".vectors")?.rsplit_once('.')?;
        Some(VectorFileName { collection: CollectionName::new(collection).ok()?, generation: generation.parse().ok()? })
    }
}

impl Directory {
    /// Locks `path`, making it first when there is none.
    pub fn create(path: &Path) -> Result<Directory, StoreError> {
        let vectors = path.join(VECTORS);
        std::fs::create_dir_all(&vectors).map_err(StoreError::io(&vectors))?;
        let directory = Directory::lock(path)?;
        sync_folder(path)?;
        Ok(directory)
    }

    /// Locks `path` if it is a state directory.
    pub fn open(path: &Path) -> Result<Option<Directory>, StoreError> {
        let is_state = path.join("sled").is_dir() || path.join("sled.old").is_dir();
        if is_state { Directory::lock(path).map(Some) } else { Ok(None) }
    }

    fn lock(path: &Path) -> Result<Directory, StoreError> {
        let file = path.join("LOCK");
        let io = StoreError::io(&file);
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(&file).map_err(&io)?;
        match lock.try_lock() {
            Ok(()) => Ok(Directory { path: path.to_path_buf(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(StoreError::Locked { path: path.to_path_buf() }),
            Err(TryLockError::Error(source)) => Err(io(source)),
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn sled(&self) -> PathBuf {
        self.path.join("sled")
    }

    /// A rewritten sled that does not count yet.
    pub fn new_sled(&self) -> PathBuf {
        self.path.join("sled.new")
    }

    /// The sled that a rewritten one took the place of.
    pub fn old_sled(&self) -> PathBuf {
        self.path.join("sled.old")
    }

    pub fn snapshots(&self) -> PathBuf {
        self.path.join("snapshots")
    }

    pub fn vectors(&self, collection: &CollectionName, generation: u64) -> PathBuf {
        self.path.join(VECTORS).join(format!("{collection}.{generation}.vectors"))
    }

    /// The vector files that are there, whether or not they count.
    pub fn vector_files(&self) -> Result<Vec<VectorFileName>, StoreError> {
        let folder = self.path.join(VECTORS);
        let entries: Vec<DirEntry> =
            std::fs::read_dir(&folder).and_then(Iterator::collect).map_err(StoreError::io(&folder))?;
        Ok(entries.iter().filter_map(|entry| VectorFileName::parse(entry.file_name().to_str()?)).collect())
    }

    /// Removes a vector file, if it is there, and returns when that is on disk.
    pub fn remove_vectors(&self, collection: &CollectionName, generation: u64) -> Result<(), StoreError> {
        let file = self.vectors(collection, generation);
        match std::fs::remove_file(&file) {
            Ok(()) => sync_folder(&self.path.join(VECTORS)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(source) => Err(StoreError::Io { path: file, source }),
        }
    }

    /// Bytes of all files in it.
    pub fn size(&self) -> Result<u64, StoreError> {
        size_of(&self.path).map_err(StoreError::io(&self.path))
    }
}

/// Makes a folder's list of files durable.
pub fn sync_folder(path: &Path) -> Result<(), StoreError> {
    File::open(path).and_then(|folder| folder.sync_all()).map_err(StoreError::io(path))
}

/// Bytes of the files in a folder and below. Files that go meanwhile count nothing.
fn size_of(folder: &Path) -> std::io::Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let size =
            entry.metadata().and_then(|found| if found.is_dir() { size_of(&entry.path()) } else { Ok(found.len()) });
        bytes += match size {
            Err(error) if error.kind() == ErrorKind::NotFound => 0,
            size => size?,
        };
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vector_file_says_whose_it_is() {
        let name = |collection, generation| {
            Some(VectorFileName { collection: CollectionName::new(collection).unwrap(), generation })
        };
        assert_eq!(VectorFileName::parse("lobby.1.vectors"), name("lobby", 1));
        assert_eq!(VectorFileName::parse("lobby.1.22.vectors"), name("lobby.1", 22));
        assert_eq!(VectorFileName::parse("..a.3.vectors"), name("..a", 3));
        assert_eq!(VectorFileName::parse("lobby.vectors"), None);
        assert_eq!(VectorFileName::parse("lobby.one.vectors"), None);
    }
}
