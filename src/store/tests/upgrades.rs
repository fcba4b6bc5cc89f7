//! A state of format 2 becomes one of today's; tests/upgrades.rs does it with what an old program wrote.

use super::*;
use crate::store::records::{Format, LinkagesRecord};

/// Two faces, and their records as format 2 had them.
fn of_format_2(folder: &Path) {
    let mut store = filled(folder, 2);
    store
        .commit(&Commit { suppress: vec![FaceKey { collection: lobby(), face: face(7).id }], ..Commit::default() })
        .unwrap();
    let mut batch = Batch::default();
    batch.put(keys::identity(), &Identity { format: Format(2), ..store.identity.clone() });
    batch.remove(keys::commit_sequence());
    for number in 1..=2u32 {
        batch.put(keys::linkages(&lobby(), NodeId(number - 1)), &linkages(u64::from(number)));
    }
    batch.put(keys::position(Partition(2)), &Offset(11));
    store.space.apply(batch).unwrap();
    std::fs::remove_file(folder.join("COMMITTED")).unwrap();
}

fn format_of(folder: &Path) -> Format {
    Space::open(&folder.join("sled")).unwrap().get(&keys::identity()).unwrap().unwrap()
}

#[test]
fn every_record_of_format_2_is_as_format_3_has_it() {
    let folder = tempfile::tempdir().unwrap();
    of_format_2(folder.path());
    let mut store = open(folder.path());
    assert_eq!((held(&store), store.commit_sequence()), (vec![1, 2], 0));
    assert!(store.is_suppressed(&lobby(), &face(7).id));
    let position = store.space.get::<Position>(&keys::position(Partition(2))).unwrap();
    assert_eq!(position, Some(Position { next: Offset(11), last: None }));
    let written_at = |store: &Store, node: u32| {
        store.space.get::<LinkagesRecord>(&keys::linkages(&lobby(), NodeId(node))).unwrap().unwrap().written_at
    };
    assert_eq!((written_at(&store, 0), written_at(&store, 1)), (0, 0));
    store.commit(&commit_of(arrives(3, 2))).unwrap();
    assert_eq!((store.commit_sequence(), written_at(&store, 1), written_at(&store, 2)), (1, 0, 1));
    drop(store);
    assert_eq!(format_of(folder.path()), Format(FORMAT));
    assert_eq!(open(folder.path()).commit_sequence(), 1);
}

#[test]
fn a_state_that_is_refused_keeps_its_format() {
    let folder = tempfile::tempdir().unwrap();
    of_format_2(folder.path());
    let other = Model { fingerprint: "xyz".repeat(8), ..model() };
    assert!(matches!(Store::open(folder.path(), &other), Err(StoreError::OtherModel { .. })));
    assert_eq!(format_of(folder.path()), Format(2));
}

#[test]
fn a_damaged_state_is_not_upgraded() {
    let folder = tempfile::tempdir().unwrap();
    of_format_2(folder.path());
    let space = Space::open(&folder.path().join("sled")).unwrap();
    space.put_raw(&keys::position(Partition(2)), vec![1, 2, 3].into());
    drop(space);
    assert!(matches!(Store::open(folder.path(), &model()), Err(StoreError::Damaged { .. })));
    assert_eq!(format_of(folder.path()), Format(2));
}

#[test]
fn a_commit_counts_when_it_writes_something() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = filled(folder.path(), 2);
    assert_eq!(store.commit_sequence(), 2);
    store.commit(&Commit::default()).unwrap();
    store.commit(&commit_of(Changes::default())).unwrap();
    assert_eq!(store.commit_sequence(), 2);
    let positions = std::collections::BTreeMap::from([(Partition(0), Position { next: Offset(1), last: None })]);
    store.commit(&Commit { positions, ..Commit::default() }).unwrap();
    drop(store);
    assert_eq!(open(folder.path()).commit_sequence(), 3);
}
