//! Looking at a state directory without changing anything in it.
//!
//! Opening one mends it: what a commit or a compaction that died has left is cleared up, an older
//! format is upgraded, and sled writes even when it is only read. So sled is copied into a folder of
//! its own and opened there, and what opening would mend is listed. Cost: sled's size, written once
//! where temporary files go (TMPDIR).

use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};

use super::directory::{Directory, LookedAt, copy_folder};
use super::records::Identity;
use super::space::Space;
use super::{FORMAT, StoreError, presence, upgrade};

/// A state directory that is looked at. Nobody else has it open meanwhile.
pub struct Look {
    pub space: Space,
    pub identity: Identity,
    pub directory: Directory,
    /// Of the directory, which `space` is a copy of.
    sled: PathBuf,
    /// What opening it would do, for people.
    pub mends: Vec<String>,
    /// After the space that is in it.
    _copy: tempfile::TempDir,
}

impl Look {
    pub fn open(path: &Path) -> Result<Look, StoreError> {
        let missing = || StoreError::Missing { path: path.to_path_buf() };
        presence::is_state(path)?;
        let LookedAt { directory, sled } = Directory::look(path)?.ok_or_else(missing)?;
        let mut mends = Vec::new();
        if sled == directory.old_sled() {
            mends.push("put sled.old back in the place of sled: a rewrite died".to_string());
        } else if directory.old_sled().exists() {
            mends.push("remove sled.old: a rewrite died".to_string());
        }
        if directory.new_sled().exists() {
            mends.push("remove sled.new: a rewrite died".to_string());
        }
        let folder = std::env::temp_dir();
        let copy = tempfile::tempdir_in(&folder).map_err(StoreError::io(&folder))?;
        let copied = Directory::create(copy.path())?;
        copy_folder(&sled, &copied.sled())?;

        // sled does not expect every damage that may be there.
        let opened = std::panic::catch_unwind(AssertUnwindSafe(|| {
            let space = Space::open(&copied.sled())?;
            let identity = upgrade::identity_in(&space, &directory)?;
            space.close().map(|()| identity)
        }));
        let unreadable = || StoreError::Unreadable { path: sled.clone(), what: "sled gives up on it".to_string() };
        let opened = opened.unwrap_or_else(|_| Err(unreadable())).map_err(|error| of_the_original(error, &sled));
        let Some(identity) = opened? else {
            presence::check_new(path)?;
            return Err(missing());
        };
        if identity.format.0 != FORMAT {
            mends.push(format!("upgrade format {} to {FORMAT}", identity.format.0));
        }
        let (space, identity) = upgrade::open(&copied, None)?;
        Ok(Look { space, identity: identity.ok_or_else(missing)?, directory, sled, mends, _copy: copy })
    }

    /// What went wrong with `space`, said of what it is a copy of.
    pub fn failed(&self, error: StoreError) -> StoreError {
        of_the_original(error, &self.sled)
    }
}

fn of_the_original(error: StoreError, sled: &Path) -> StoreError {
    let path = || sled.to_path_buf();
    match error {
        StoreError::Sled { source, .. } => StoreError::Unreadable { path: path(), what: source.to_string() },
        StoreError::Damaged { path: of, what } if of.ends_with("sled") => StoreError::Unreadable { path: path(), what },
        error => error,
    }
}
