//! Is there a state in a folder, was there one, or may one be made?

use std::fs::DirEntry;
use std::io::ErrorKind;
use std::path::Path;

use super::StoreError;
use super::committed::Committed;
use super::directory;
use crate::audit;

/// What may be there before there is a state: what a first start that died left, and what a new file system has.
const NEW: [&str; 4] = ["LOCK", directory::VECTORS, "control.sock", "lost+found"];

/// Whether there is a state in `path`. An error where there was one, and where there is something else: a new state is made
/// in a folder of its own.
pub fn is_state(path: &Path) -> Result<bool, StoreError> {
    if directory::SLEDS.iter().any(|name| path.join(name).is_dir()) {
        return Ok(true);
    }
    check_new(path)?;
    let entries = match std::fs::read_dir(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        entries => {
            entries.and_then(Iterator::collect::<std::io::Result<Vec<DirEntry>>>).map_err(StoreError::io(path))?
        }
    };
    // What was done by hand to a state that has gone is no state.
    let is_log = |entry: &DirEntry| entry.file_name().to_string_lossy().starts_with(audit::FILE);
    match entries.iter().all(|entry| is_log(entry) || NEW.iter().any(|name| entry.file_name() == *name)) {
        true => Ok(false),
        false => Err(StoreError::NotEmpty { path: path.to_path_buf() }),
    }
}

/// Whether nothing in `path`, where sled holds nothing, says that it ever was a state.
pub fn check_new(path: &Path) -> Result<(), StoreError> {
    let vectors = path.join(directory::VECTORS);
    let remains = match vectors.is_dir() && !directory::vector_files_in(&vectors)?.is_empty() {
        true => "its vector files are",
        false if Committed::is_in(path) => "COMMITTED is",
        false => return Ok(()),
    };
    let what = format!("{remains} there, what its sled folder held is not");
    Err(StoreError::Unreadable { path: path.join("sled"), what })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_made_in_a_folder_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        assert!(!is_state(&path.join("nothing")).unwrap());
        for name in ["LOCK", "control.sock", "audit.jsonl", "audit.jsonl.1"] {
            std::fs::write(path.join(name), b"").unwrap();
        }
        std::fs::create_dir(path.join(directory::VECTORS)).unwrap();
        assert!(!is_state(path).unwrap(), "a first start died here");
        std::fs::write(path.join("photo.jpg"), b"").unwrap();
        assert!(matches!(is_state(path), Err(StoreError::NotEmpty { .. })));
        std::fs::write(path.join("vectors/lobby.1.vectors"), b"").unwrap();
        assert!(matches!(is_state(path), Err(StoreError::Unreadable { .. })));
        std::fs::create_dir(path.join("sled.old")).unwrap();
        assert!(is_state(path).unwrap());
    }
}
