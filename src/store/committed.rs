//! `DIR/COMMITTED`: the number of the last commit that was acknowledged, outside of sled.
//!
//! Where the end of its log is damaged, sled 0.34 opens as it was some commits ago and says nothing.
//! Those commits' positions are gone with them, but not what was published of them. This file tells.
//!
//! ```text
//! two slots of 64 bytes, at 0 and 512; a commit writes the one of its number's parity
//! slot    magic "facetd-c", format u32, zero u32, state_uuid 16 bytes, commit u64, crc u32, zeros
//! ```
//! It is written once a commit is on disk, without a sync of its own: the newest slot may be lost or
//! torn with the machine, and the other then says less. So the file may lag behind sled, but never
//! lead it: sled's end is on disk before the file says so. When sled is behind, that is damage.
//! It is derived: one that is lost or damaged is made anew. Cost: one write of 64 bytes a commit.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::StoreError;
use super::directory::sync_folder;

const NAME: &str = "COMMITTED";
const MAGIC: &[u8; 8] = b"facetd-c";
const FORMAT: u32 = 1;
pub(super) const SLOT_BYTES: usize = 64;
/// Slots lie in sectors of their own, so that a torn write harms one.
const SLOT_AT: [u64; 2] = [0, 512];
const CRC_AT: usize = 40;

/// The file, open.
pub struct Committed {
    path: PathBuf,
    file: File,
    state: [u8; 16],
}

/// What the file said when it was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    /// So many commits were acknowledged, at least.
    Commit(u64),
    /// Nothing: there was none.
    Nothing,
    /// Nothing of use: it is damaged, or of another state.
    Unusable,
}

impl Committed {
    /// Opens the file of the state `state_uuid` in `folder`, making it when there is none.
    pub fn open(folder: &Path, state_uuid: &str) -> Result<(Committed, Said), StoreError> {
        let path = folder.join(NAME);
        let io = StoreError::io(&path);
        let state = *Uuid::parse_str(state_uuid).unwrap_or_default().as_bytes();
        let there = path.exists();
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).map_err(&io)?;
        let committed = Committed { path: path.clone(), file, state };
        let newest = committed.newest();
        let said = match (there, newest) {
            (_, Some(commit)) => Said::Commit(commit),
            (false, None) => Said::Nothing,
            (true, None) => Said::Unusable,
        };
        if !there {
            sync_folder(folder)?;
        }
        Ok((committed, said))
    }

    /// Whether `folder` has such a file: a state that was once made has.
    pub fn is_in(folder: &Path) -> bool {
        folder.join(NAME).exists()
    }

    /// Notes that commit `number` is on disk.
    pub fn note(&self, number: u64) -> Result<(), StoreError> {
        let place = SLOT_AT[(number % 2) as usize];
        self.file.write_all_at(&slot(&self.state, number), place).map_err(StoreError::io(&self.path))
    }

    fn newest(&self) -> Option<u64> {
        let slots = SLOT_AT.map(|place| {
            let mut found = [0; SLOT_BYTES];
            self.file.read_exact_at(&mut found, place).ok().map(|()| found)
        });
        slots.iter().flatten().filter_map(|found| commit_in(&self.state, found)).max()
    }
}

/// What a slot says, if it is whole and of this state.
pub(super) fn commit_in(state: &[u8; 16], found: &[u8; SLOT_BYTES]) -> Option<u64> {
    let (_, number) = found[..CRC_AT].split_last_chunk::<8>()?;
    let number = u64::from_le_bytes(*number);
    (*found == slot(state, number)).then_some(number)
}

pub(super) fn slot(state: &[u8; 16], number: u64) -> [u8; SLOT_BYTES] {
    let mut slot = [0; SLOT_BYTES];
    slot[..8].copy_from_slice(MAGIC);
    slot[8..12].copy_from_slice(&FORMAT.to_le_bytes());
    slot[16..32].copy_from_slice(state);
    slot[32..CRC_AT].copy_from_slice(&number.to_le_bytes());
    let crc = crc32fast::hash(&slot[..CRC_AT]);
    slot[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_le_bytes());
    slot
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATE: &str = "6f1ab0c4-9c3f-4b0f-8f52-0b5a4ad9f111";

    fn said(folder: &Path, state: &str) -> Said {
        Committed::open(folder, state).unwrap().1
    }

    #[test]
    fn a_torn_or_damaged_slot_leaves_the_one_before() {
        let folder = tempfile::tempdir().unwrap();
        let (committed, first) = Committed::open(folder.path(), STATE).unwrap();
        assert_eq!(first, Said::Nothing);
        committed.note(6).unwrap();
        committed.note(7).unwrap();
        assert_eq!(said(folder.path(), STATE), Said::Commit(7));
        let whole = std::fs::read(folder.path().join(NAME)).unwrap();
        for place in 512..512 + SLOT_BYTES {
            let mut bytes = whole.clone();
            bytes[place] ^= 4;
            std::fs::write(folder.path().join(NAME), bytes).unwrap();
            assert_eq!(said(folder.path(), STATE), Said::Commit(6), "byte {place}");
        }
        std::fs::write(folder.path().join(NAME), &whole[..20]).unwrap();
        assert_eq!(said(folder.path(), STATE), Said::Unusable);
    }

    #[test]
    fn the_file_of_another_state_says_nothing() {
        let folder = tempfile::tempdir().unwrap();
        Committed::open(folder.path(), STATE).unwrap().0.note(3).unwrap();
        assert_eq!(said(folder.path(), "00000000-9c3f-4b0f-8f52-0b5a4ad9f111"), Said::Unusable);
    }
}
