//! Writing sled anew. sled 0.34 keeps overwritten and removed values in its file, and empties parts of it
//! only in a thread that is not run here ([`opening`]). So an erase is gone from the disk, and the room
//! of what is dead is free again, once what lives was copied to a fresh sled and the old one removed.
//!
//! | step | afterwards there are | if it dies here, opening |
//! | --- | --- | --- |
//! | copy to `sled.new`, synced and closed | `sled`, `sled.new` | removes `sled.new`, whole or not |
//! | rename `sled` to `sled.old` | `sled.old`, `sled.new` | renames `sled.old` back |
//! | rename `sled.new` to `sled` | `sled.old`, `sled` | removes `sled.old` |
//! | remove `sled.old` | `sled` | has nothing to do |
//!
//! Every step is on disk before the next begins. Cost: everything in sled read and written once, while
//! which nobody writes; who reads waits for the renames.

use std::path::Path;

use super::StoreError;
use super::directory::{Directory, sync_folder};
use super::keys;
use super::opening;
use super::space::{Batch, Rewritten, Space};
use crate::failpoint;

/// Says of each record, by its key, what is to be written of it.
type Rewriting<'a> = &'a dyn Fn(&[u8], &[u8]) -> Rewritten;

/// For a rewrite that changes nothing.
pub fn as_it_is(_key: &[u8], _value: &[u8]) -> Rewritten {
    Ok(None)
}

/// Writes what is in `space`, the sled of `directory`, anew, each record as `rewriting` has it. `space` and its
/// clones have the new one then; after a failure they are closed, or the old one is as it was.
pub fn rewrite(space: &Space, directory: &Directory, rewriting: Rewriting) -> Result<(), StoreError> {
    failpoint::reached("rewrite::began");
    let mut writer = space.only_writer();
    copy(space, directory, rewriting)?;
    failpoint::reached("rewrite::copied");
    space.exchange(&mut writer, || {
        put_old_aside(directory)?;
        failpoint::reached("rewrite::put_aside");
        put_new_in_place(directory)?;
        failpoint::reached("rewrite::put_in_place");
        Ok(())
    })?;
    remove(&directory.old_sled(), directory)?;
    failpoint::reached("rewrite::done");
    Ok(())
}

/// Brings the directory of a rewrite that died back to one sled.
pub fn repair(directory: &Directory) -> Result<(), StoreError> {
    let (sled, old, new) = (directory.sled(), directory.old_sled(), directory.new_sled());
    if old.exists() && !sled.exists() {
        rename(&old, &sled, directory)?;
    }
    remove(&old, directory)?;
    remove(&new, directory)
}

fn copy(space: &Space, directory: &Directory, rewriting: Rewriting) -> Result<(), StoreError> {
    let path = directory.new_sled();
    // Of one that failed, as on a full disk.
    remove(&path, directory)?;
    let fresh = Space::open(&path)?;
    space.copy_to(&fresh, rewriting)?;
    let mut batch = Batch::default();
    batch.put(keys::bytes_when_written_anew(), &fresh.log_bytes()?);
    fresh.apply(batch)?;
    fresh.close()?;
    opening::sync_files(&path)
}

fn put_old_aside(directory: &Directory) -> Result<(), StoreError> {
    rename(&directory.sled(), &directory.old_sled(), directory)
}

fn put_new_in_place(directory: &Directory) -> Result<(), StoreError> {
    rename(&directory.new_sled(), &directory.sled(), directory)
}

fn rename(from: &Path, to: &Path, directory: &Directory) -> Result<(), StoreError> {
    std::fs::rename(from, to).map_err(StoreError::io(from))?;
    sync_folder(directory.path())
}

fn remove(folder: &Path, directory: &Directory) -> Result<(), StoreError> {
    if !folder.exists() {
        return Ok(());
    }
    std::fs::remove_dir_all(folder).map_err(StoreError::io(folder))?;
    sync_folder(directory.path())
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEPS: usize = 3;
    /// How the keys of the records begin.
    const KIND: &[u8] = &[0];

    fn records() -> Vec<(Vec<u8>, u32)> {
        (0..3000u32).map(|number| (number.to_be_bytes().to_vec(), number * 7)).collect()
    }

    fn filled(directory: &Directory) -> Space {
        let space = Space::open(&directory.sled()).unwrap();
        let mut batch = Batch::default();
        for (key, value) in records() {
            batch.put(key, &value);
        }
        space.apply(batch).unwrap();
        space
    }

    /// Rewrites and dies after so many steps.
    fn died_after(steps: usize, space: Space, directory: &Directory, rewriting: Rewriting) {
        let mut done = 0;
        let mut goes_on = || {
            done += 1;
            done <= steps
        };
        if goes_on() {
            copy(&space, directory, rewriting).unwrap();
        } else {
            // In the middle of the first.
            std::fs::create_dir(directory.new_sled()).unwrap();
            std::fs::write(directory.new_sled().join("db"), b"half").unwrap();
        }
        space.close().unwrap();
        if goes_on() {
            put_old_aside(directory).unwrap();
        }
        if goes_on() {
            put_new_in_place(directory).unwrap();
        }
    }

    #[test]
    fn a_rewrite_that_dies_after_any_step_leaves_a_whole_state() {
        for steps in 0..=STEPS {
            let folder = tempfile::tempdir().unwrap();
            let directory = Directory::create(folder.path()).unwrap();
            died_after(steps, filled(&directory), &directory, &as_it_is);
            drop(directory);
            let directory = Directory::open(folder.path()).unwrap().expect("it is still a state directory");
            // Repairing may die as well, and is then done again.
            for _ in 0..2 {
                repair(&directory).unwrap();
                assert!(!directory.old_sled().exists() && !directory.new_sled().exists(), "after step {steps}");
                let space = Space::open(&directory.sled()).unwrap();
                assert_eq!(space.scan::<u32>(KIND).unwrap(), records(), "after step {steps}");
                space.close().unwrap();
            }
        }
    }

    #[test]
    fn a_rewrite_that_changes_records_has_changed_all_or_none() {
        let doubled = |_: &[u8], value: &[u8]| {
            let number: u32 = postcard::from_bytes(value)?;
            if number.is_multiple_of(2) { postcard::to_stdvec(&(number * 2)).map(Some) } else { Ok(None) }
        };
        let changed: Vec<_> = records()
            .into_iter()
            .map(|(key, number)| (key, if number.is_multiple_of(2) { number * 2 } else { number }))
            .collect();
        for steps in 0..=STEPS {
            let folder = tempfile::tempdir().unwrap();
            let directory = Directory::create(folder.path()).unwrap();
            died_after(steps, filled(&directory), &directory, &doubled);
            repair(&directory).unwrap();
            let expected = if steps < STEPS { records() } else { changed.clone() };
            assert_eq!(Space::open(&directory.sled()).unwrap().scan::<u32>(KIND).unwrap(), expected, "after {steps}");
        }
    }

    #[test]
    fn whoever_reads_and_writes_meanwhile_loses_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let directory = Directory::create(folder.path()).unwrap();
        let space = filled(&directory);
        let (clone, done) = (space.clone(), std::sync::atomic::AtomicBool::new(false));
        let others = |number: u32| [&[1], &number.to_be_bytes()[..]].concat();
        let written = std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                let mut number = 0;
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    let mut batch = Batch::default();
                    batch.put(others(number), &number);
                    clone.apply(batch).unwrap();
                    number += 1;
                    assert_eq!(clone.scan::<u32>(KIND).unwrap().len(), records().len());
                }
                number
            });
            for _ in 0..5 {
                rewrite(&space, &directory, &as_it_is).unwrap();
            }
            done.store(true, std::sync::atomic::Ordering::Relaxed);
            writer.join().unwrap()
        });
        assert!(!directory.old_sled().exists() && !directory.new_sled().exists());
        space.close().unwrap();
        let space = Space::open(&directory.sled()).unwrap();
        let expected: Vec<_> = (0..written).map(|number| (others(number), number)).collect();
        assert_eq!(space.scan::<u32>(&[1]).unwrap(), expected);
        assert_eq!(space.incomplete().unwrap(), Vec::<Vec<u8>>::new());
    }

    #[test]
    fn a_log_that_is_mostly_dead_is_worth_it_until_it_was_written_anew() {
        let folder = tempfile::tempdir().unwrap();
        let directory = Directory::create(folder.path()).unwrap();
        let space = filled(&directory);
        assert!(!space.needs_rewrite().unwrap());
        let values = |round: u32| (0..100u32).map(move |number| (number, vec![round; 1000]));
        // How soon sled takes segments of its log again, a busy machine decides.
        let mut round = 0;
        while !space.needs_rewrite().unwrap() {
            assert!(round < 20_000, "{} bytes", space.log_bytes().unwrap());
            round += 1;
            let mut batch = Batch::default();
            values(round).for_each(|(number, value)| batch.put([&[1], &number.to_be_bytes()[..]].concat(), &value));
            space.apply_soon(batch).unwrap();
        }
        rewrite(&space, &directory, &as_it_is).unwrap();
        assert!(!space.needs_rewrite().unwrap() && space.log_bytes().unwrap() < 4 << 20);
        assert_eq!(space.scan::<u32>(KIND).unwrap(), records());
        let kept: Vec<_> = space.scan::<Vec<u32>>(&[1]).unwrap().into_iter().map(|(_, value)| value).collect();
        assert_eq!(kept, values(round).map(|(_, value)| value).collect::<Vec<_>>());
    }

    #[test]
    fn damage_is_not_carried_over() {
        let folder = tempfile::tempdir().unwrap();
        let directory = Directory::create(folder.path()).unwrap();
        let space = filled(&directory);
        space.put_raw(&7u32.to_be_bytes(), space.raw(&8u32.to_be_bytes()));
        assert!(matches!(rewrite(&space, &directory, &as_it_is), Err(StoreError::Damaged { .. })));
        assert_eq!(space.count(KIND), records().len(), "what was there goes on");
        space.close().unwrap();
        assert!(matches!(space.get::<u32>(KIND), Err(StoreError::Closed { .. })), "closed, and says so");
        repair(&directory).unwrap();
        assert_eq!(Space::open(&directory.sled()).unwrap().count(KIND), records().len());
    }
}
