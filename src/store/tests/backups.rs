//! A backup is the state as it was when it was cut, whatever is committed while it is copied.

use super::*;
use crate::store::backup::{BackupError, restore};
use crate::store::verify::Known;

#[test]
fn what_is_committed_after_the_cut_is_not_in_the_backup() {
    let folder = tempfile::tempdir().unwrap();
    let (path, to, into) = (folder.path().join("state"), folder.path().join("backup"), folder.path().join("restored"));
    let mut store = filled(&path, 3);
    let cut = store.cut(&to).unwrap();
    // More is dead than alive afterwards, but nothing is compacted while the copy needs the old file.
    let mut changes = arrives(4, 3);
    changes.vectors = vec![NewVector { node: NodeId(3), embedding: embedding(4) }; 30_000];
    store.commit(&commit_of(changes)).unwrap();
    store.commit(&commit_of(goes(1, 0, 4))).unwrap();
    assert_eq!(store.needs_compaction(), []);
    assert!(!to.exists(), "a backup is whole or not there");
    let mut told = Vec::new();
    let manifest = cut.finish(Timestamp(7), &mut |progress| told.push(progress)).unwrap();
    assert_eq!((manifest.commit_sequence, manifest.at), (3, Timestamp(7)));
    assert_eq!(told.last().map(|progress| (progress.done, progress.of)), Some((manifest.bytes(), manifest.bytes())));
    assert_eq!(store.needs_compaction(), [lobby()]);

    let restored = restore(&to, &into, &Known::default(), &mut |_| ()).unwrap();
    restored.put_in_place().unwrap();
    assert_eq!(restored.manifest, manifest);
    assert_eq!(held(&open(&into)), [1, 2, 3]);
    assert_eq!(open(&into).state_uuid(), store.state_uuid());
    assert_eq!(held(&store), [2, 3, 4]);
    assert!(matches!(store.cut(&to), Err(StoreError::NotEmpty { .. })));
    assert!(matches!(store.cut(&path.join("backup")), Err(StoreError::Inside { .. })));
}

#[test]
fn a_publisher_at_work_leaves_no_gap() {
    const ENTRIES: u64 = 600;
    let folder = tempfile::tempdir().unwrap();
    let store = filled(&folder.path().join("state"), ENTRIES);
    let outbox = store.outbox();
    std::thread::scope(|scope| {
        let publisher = scope.spawn(|| {
            for sequence in 1..=ENTRIES {
                outbox.acknowledge(&Published::up_to(sequence)).unwrap();
            }
        });
        for number in 0.. {
            let last = publisher.is_finished();
            let [to, into] = ["backup", "restored"].map(|name| folder.path().join(format!("{name}-{number}")));
            store.cut(&to).unwrap().finish(Timestamp(7), &mut |_| ()).unwrap();
            restore(&to, &into, &Known::default(), &mut |_| ()).unwrap().put_in_place().unwrap();
            let restored = open(&into);
            let outbox = restored.outbox();
            let published = outbox.published().unwrap().sequence;
            let pending = outbox.pending(0, ENTRIES as usize).unwrap();
            assert!(pending.iter().map(|pending| pending.sequence).eq(published + 1..=ENTRIES), "{published}");
            if last {
                assert_eq!(published, ENTRIES);
                break;
            }
        }
    });
}

#[test]
fn a_backup_that_fails_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (path, to) = (folder.path().join("state"), folder.path().join("backup"));
    let store = filled(&path, 3);
    let cut = store.cut(&to).unwrap();
    std::fs::remove_dir_all(path.join("vectors")).unwrap();
    cut.finish(Timestamp(7), &mut |_| ()).unwrap_err();
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["state"]);
}

#[test]
fn what_sled_lost_is_not_covered_up_by_a_backup() {
    let folder = tempfile::tempdir().unwrap();
    let (path, to, into) = (folder.path().join("state"), folder.path().join("backup"), folder.path().join("restored"));
    let store = filled(&path, 3);
    let lost = store.space.keys(&keys::faces(&lobby())).next().unwrap().unwrap();
    store.space.lose(&lost);
    store.cut(&to).unwrap().finish(Timestamp(7), &mut |_| ()).unwrap();
    let refused = restore(&to, &into, &Known::default(), &mut |_| ()).unwrap_err();
    assert!(matches!(refused, BackupError::Broken { .. }), "{refused}");
    assert!(!into.exists());
}
