//! The folders of a state directory, and the lock that gives it one user.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

use super::StoreError;
use crate::face::CollectionName;

/// A locked state directory. The lock goes with the process, also when it is killed.
pub struct Directory {
    path: PathBuf,
    _lock: File,
}

impl Directory {
    /// Locks `path`, making it first when there is none.
    pub fn create(path: &Path) -> Result<Directory, StoreError> {
        let vectors = path.join("vectors");
        std::fs::create_dir_all(&vectors).map_err(|source| StoreError::Io { path: vectors, source })?;
        let directory = Directory::lock(path)?;
        sync_folder(path)?;
        Ok(directory)
    }

    /// Locks `path` if it is a state directory.
    pub fn open(path: &Path) -> Result<Option<Directory>, StoreError> {
        if !path.join("sled").is_dir() { Ok(None) } else { Directory::lock(path).map(Some) }
    }

    fn lock(path: &Path) -> Result<Directory, StoreError> {
        let file = path.join("LOCK");
        let io = |source| StoreError::Io { path: file.clone(), source };
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(&file).map_err(io)?;
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

    pub fn vectors(&self, collection: &CollectionName) -> PathBuf {
        self.path.join("vectors").join(format!("{collection}.vectors"))
    }
}

/// Makes a folder's list of files durable.
pub fn sync_folder(path: &Path) -> Result<(), StoreError> {
    File::open(path)
        .and_then(|folder| folder.sync_all())
        .map_err(|source| StoreError::Io { path: path.to_path_buf(), source })
}
