//! The folders of a state directory, and the lock that gives it one user.

use std::fs::{DirEntry, File, OpenOptions, Permissions, TryLockError};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::statvfs;

use super::StoreError;
use crate::audit;
use crate::face::CollectionName;

pub const VECTORS: &str = "vectors";
/// Where one of them is, there is a state; the second alone where a rewrite died.
pub const SLEDS: [&str; 2] = ["sled", "sled.old"];
/// What a new state takes at once, and what sled's log grows by, with something to spare.
const ROOM_BYTES: usize = 1 << 20;

/// The audit logs in a folder, by their names: the one that is written to, and those that a rotation put beside it. They are
/// no part of the state, and go where it goes.
pub fn audit_logs(folder: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let entries: Vec<DirEntry> =
        std::fs::read_dir(folder).and_then(Iterator::collect).map_err(StoreError::io(folder))?;
    let is_log = |name: &PathBuf| name.to_string_lossy().starts_with(audit::FILE);
    Ok(entries.iter().map(|entry| PathBuf::from(entry.file_name())).filter(is_log).collect())
}

/// A locked state directory. The lock goes with the process, also when it is killed.
pub struct Directory {
    path: PathBuf,
    _lock: File,
}

/// Room of a filesystem, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FilesystemRoom {
    pub free: u64,
    pub of: u64,
}

/// A directory that is only looked at, and the sled in it that counts.
pub struct LookedAt {
    pub directory: Directory,
    pub sled: PathBuf,
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
        // A folder lasts once the folder it is in is synced.
        let new: Vec<&Path> = vectors.ancestors().take_while(|folder| !folder.exists()).collect();
        let is_new = new.contains(&path);
        std::fs::create_dir_all(&vectors).map_err(StoreError::io(&vectors))?;
        if is_new {
            // What is in it is about people: it is for its owner, until who made the folder says otherwise.
            std::fs::set_permissions(path, Permissions::from_mode(0o700)).map_err(StoreError::io(path))?;
        }
        for parent in new.into_iter().filter_map(Path::parent) {
            sync_folder(if parent.as_os_str().is_empty() { Path::new(".") } else { parent })?;
        }
        let directory = Directory::lock(path)?;
        sync_folder(path)?;
        Ok(directory)
    }

    /// Locks `path` if it is a state directory.
    pub fn open(path: &Path) -> Result<Option<Directory>, StoreError> {
        let is_state = SLEDS.iter().any(|name| path.join(name).is_dir());
        if is_state { Directory::lock(path).map(Some) } else { Ok(None) }
    }

    /// Locks `path` if it is a state directory, and changes nothing in it.
    pub fn look(path: &Path) -> Result<Option<LookedAt>, StoreError> {
        let Some(sled) = SLEDS.map(|name| path.join(name)).into_iter().find(|sled| sled.is_dir()) else {
            return Ok(None);
        };
        let file = path.join("LOCK");
        let lock = match File::open(&file) {
            Ok(lock) => lock,
            // A copy that nobody has opened yet has none, and nobody has it open.
            Err(error) if error.kind() == ErrorKind::NotFound => File::open(path).map_err(StoreError::io(path))?,
            Err(source) => return Err(StoreError::Io { path: file, source }),
        };
        Ok(Some(LookedAt { directory: Directory::locked(path, lock)?, sled }))
    }

    fn lock(path: &Path) -> Result<Directory, StoreError> {
        let file = path.join("LOCK");
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(&file);
        Directory::locked(path, lock.map_err(StoreError::io(&file))?)
    }

    fn locked(path: &Path, lock: File) -> Result<Directory, StoreError> {
        match lock.try_lock() {
            Ok(()) => Ok(Directory { path: path.to_path_buf(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(StoreError::Locked { path: path.to_path_buf() }),
            Err(TryLockError::Error(source)) => Err(StoreError::Io { path: path.join("LOCK"), source }),
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Room of the filesystem it is on.
    pub fn room(&self) -> Result<FilesystemRoom, StoreError> {
        let found = statvfs(&self.path).map_err(|error| StoreError::io(&self.path)(error.into()))?;
        // What is reserved for root is not free for a daemon that is not.
        Ok(FilesystemRoom { free: found.f_bavail * found.f_frsize, of: found.f_blocks * found.f_frsize })
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
        vector_files_in(&self.path.join(VECTORS))
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

pub fn vector_files_in(folder: &Path) -> Result<Vec<VectorFileName>, StoreError> {
    let entries: Vec<DirEntry> =
        std::fs::read_dir(folder).and_then(Iterator::collect).map_err(StoreError::io(folder))?;
    Ok(entries.iter().filter_map(|entry| VectorFileName::parse(entry.file_name().to_str()?)).collect())
}

/// Whether a state can be kept in `path`, which need not be there yet: it can be written and has
/// room for a start. Leaves nothing behind.
pub fn check_room(path: &Path) -> Result<(), StoreError> {
    let there = path.ancestors().find(|folder| folder.exists()).filter(|folder| !folder.as_os_str().is_empty());
    let probe = || {
        let mut file = tempfile::tempfile_in(there.unwrap_or(Path::new(".")))?;
        file.write_all(&vec![0; ROOM_BYTES])?;
        file.sync_data()
    };
    probe().map_err(StoreError::io(path))
}

/// Makes a folder's list of files durable; or a file.
pub fn sync_folder(path: &Path) -> Result<(), StoreError> {
    File::open(path).and_then(|folder| folder.sync_all()).map_err(StoreError::io(path))
}

/// Makes everything in a folder, and in the folders in it, durable.
pub fn sync_tree(path: &Path) -> Result<(), StoreError> {
    for entry in std::fs::read_dir(path).map_err(StoreError::io(path))? {
        let entry = entry.map_err(StoreError::io(path))?;
        match entry.file_type().map_err(StoreError::io(path))?.is_dir() {
            true => sync_tree(&entry.path())?,
            false => sync_folder(&entry.path())?,
        }
    }
    sync_folder(path)
}

/// Makes a folder for its owner alone: what comes into it is about people.
pub fn make_private(folder: &Path) -> Result<(), StoreError> {
    let made = std::fs::create_dir_all(folder);
    made.and_then(|()| std::fs::set_permissions(folder, Permissions::from_mode(0o700))).map_err(StoreError::io(folder))
}

/// Copies the files of a folder, and of the folders in it, to `to`, which is made.
pub fn copy_folder(from: &Path, to: &Path) -> Result<(), StoreError> {
    std::fs::create_dir_all(to).map_err(StoreError::io(to))?;
    for entry in std::fs::read_dir(from).map_err(StoreError::io(from))? {
        let entry = entry.map_err(StoreError::io(from))?;
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type().map_err(StoreError::io(&path))?.is_dir() {
            copy_folder(&path, &target)?;
        } else {
            std::fs::copy(&path, &target).map_err(StoreError::io(&path))?;
        }
    }
    Ok(())
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
    fn a_folder_that_is_made_is_for_its_owner_and_one_that_was_there_stays_as_it_is() {
        let parent = tempfile::tempdir().unwrap();
        let (made, there) = (parent.path().join("made"), parent.path().join("there"));
        std::fs::create_dir(&there).unwrap();
        std::fs::set_permissions(&there, Permissions::from_mode(0o750)).unwrap();
        for (folder, expected) in [(made, 0o700), (there, 0o750)] {
            Directory::create(&folder).unwrap();
            assert_eq!(folder.metadata().unwrap().permissions().mode() & 0o777, expected, "{}", folder.display());
        }
    }

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
