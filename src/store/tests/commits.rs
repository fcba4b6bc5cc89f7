//! A commit is there whole when the directory is opened again, or not at all.

use std::collections::BTreeMap;

use serde::Serialize;

use super::*;
use crate::engine::changes::{Constraint, ConstraintKind, Released};
use crate::rejection::{DeadLetter, Reason, Rejection};

fn dead_letter(number: u64) -> DeadLetter {
    DeadLetter {
        rejection: Rejection::new(Reason::ZeroVector, "no direction"),
        place: place(number),
        key: Some(b"k".to_vec()),
        payload_bytes: 3,
        payload_sha256: "00".to_string(),
    }
}

/// One more face, and one record that is rejected.
fn commit(number: u64) -> Commit {
    Commit {
        dead_letters: vec![dead_letter(number)],
        positions: BTreeMap::from([(Partition(2), Position { next: Offset(number as i64 + 1), last: None })]),
        ..commit_of(arrives(number, number as u32 - 1))
    }
}

#[test]
fn what_was_committed_is_there_when_it_is_opened_again() {
    let folder = tempfile::tempdir().unwrap();
    let uuid = open(folder.path()).state_uuid().to_string();
    for number in 1..=3 {
        let mut store = open(folder.path());
        assert_eq!(store.state_uuid(), uuid, "the identity changed");
        store.commit(&commit(number)).unwrap();
    }
    let store = open(folder.path());
    assert_eq!(held(&store), [1, 2, 3]);
    let contents = store.contents().unwrap();
    assert_eq!(contents.positions, BTreeMap::from([(Partition(2), Position { next: Offset(4), last: None })]));
    assert_eq!(contents.collections[&lobby()].counters, counters(3));
    assert_eq!(store.collections().collect::<Vec<_>>(), [&lobby()]);
    assert_eq!(store.living_cluster(&lobby(), ClusterId(2)).unwrap(), cluster(2));
    assert!(store.size_on_disk().unwrap() > 0);
}

#[test]
fn a_new_incarnation_of_an_empty_state_is_one_too() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(folder.path());
    let uuid = store.state_uuid().to_string();
    let incarnation = Incarnation { forgotten: Vec::new(), reread: Vec::new() };
    store.commit(&Commit { incarnation: Some(incarnation), ..Commit::default() }).unwrap();
    assert_ne!(store.state_uuid(), uuid);
    let uuid = store.state_uuid().to_string();
    drop(store);
    assert_eq!(open(folder.path()).state_uuid(), uuid);
}

#[test]
fn a_commit_that_died_after_its_vectors_did_not_happen() {
    let folder = tempfile::tempdir().unwrap();
    for number in 1..=2 {
        let mut store = open(folder.path());
        // The first half of a commit, and then nothing.
        store.append_vectors(&lobby(), &arrives(number, number as u32 - 1)).unwrap();
        drop(store);
        store = open(folder.path());
        assert_eq!(held(&store).len() as u64, number - 1);
        store.commit(&commit(number)).unwrap();
        assert_eq!(held(&store).len() as u64, number);
    }
}

#[test]
fn the_outbox_keeps_one_sequence_until_it_is_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(folder.path());
    for number in 1..=3 {
        store.commit(&commit(number)).unwrap();
    }
    let outbox = store.outbox().clone();
    let pending = outbox.pending(0, 100).unwrap();
    assert_eq!(pending.iter().map(|pending| pending.sequence).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6]);
    assert!(matches!(pending[0].entry, Entry::Event { .. }) && matches!(pending[1].entry, Entry::DeadLetter(_)));
    outbox.acknowledge(&Published::up_to(pending[3].sequence)).unwrap();
    drop((store, outbox));

    let mut store = open(folder.path());
    assert_eq!(store.outbox().pending(0, 100).unwrap(), pending[4..]);
    assert_eq!(store.outbox().pending(5, 100).unwrap(), pending[5..]);
    store.commit(&commit(4)).unwrap();
    let newest = store.outbox().pending(6, 1).unwrap();
    assert_eq!(newest[0].sequence, 7, "a sequence is never given twice");
}

#[test]
fn what_is_not_on_disk_yet_is_not_to_be_published() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(folder.path());
    store.commit(&commit(1)).unwrap();
    let outbox = store.outbox().clone();
    let known = outbox.pending(0, 100).unwrap();
    // What another thread sees of a commit between sled's batch and its flush.
    let mut batch = Batch::default();
    batch.put(keys::outbox(known.len() as u64 + 1), &known[0].entry);
    store.space.apply_soon(batch).unwrap();
    assert_eq!(outbox.pending(0, 100).unwrap(), known);
    assert_eq!(outbox.len(), known.len() + 1);
}

#[test]
fn changes_that_change_nothing_leave_the_counters() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = filled(folder.path(), 2);
    store.commit(&commit_of(Changes::default())).unwrap();
    drop(store);
    assert_eq!(open(folder.path()).restored(&lobby()).unwrap().counters, counters(2));
}

#[test]
fn a_constraint_is_kept_until_it_is_released() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = filled(folder.path(), 2);
    let (a, b) = (FaceId::new("a\0b").unwrap(), FaceId::new("a").unwrap());
    let constraint = |kind, by: &str| Constraint { kind, a: a.clone(), b: b.clone(), by: by.into(), at: Timestamp(5) };
    for constraint in [constraint(ConstraintKind::MustLink, "first"), constraint(ConstraintKind::CannotLink, "last")] {
        let changes = Changes { constraints: vec![constraint.clone()], counters: counters(2), ..Changes::default() };
        store.commit(&commit_of(changes)).unwrap();
        drop(store);
        store = open(folder.path());
        let kept = store.restored(&lobby()).unwrap().constraints;
        assert_eq!((&kept, &store.constraints(&lobby()).unwrap()), (&vec![constraint], &kept));
    }
    let released = vec![Released { a: b.clone(), b: a.clone() }];
    store.commit(&commit_of(Changes { released, counters: counters(2), ..Changes::default() })).unwrap();
    assert_eq!(store.constraints(&lobby()).unwrap(), []);
}

#[test]
fn a_directory_has_one_user_and_one_model() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let locked = Store::open(folder.path(), &model()).err().unwrap().to_string();
    assert!(locked.contains("in use by another facetd"), "{locked}");
    drop(store);
    let other = Model { fingerprint: "xyz".repeat(8), ..model() };
    let refused = Store::open(folder.path(), &other).err().unwrap().to_string();
    assert!(refused.contains("made with another model") && refused.contains("model.dir"), "{refused}");
    let missing = Store::open_existing(&folder.path().join("nothing")).err().unwrap().to_string();
    assert!(missing.contains("there is no facetd state"), "{missing}");
}

#[test]
fn a_state_goes_on_with_another_model_of_the_same_width() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = filled(folder.path(), 2);
    let other = Model { fingerprint: "xyz".repeat(8), ..model() };
    let mut relinked = vec![];
    for number in 1..=2 {
        let linkages = vec![KeptLinkage { candidate: Arrival(3 - number), probability: 0.75 }];
        relinked.push(KeptLinkages { node: NodeId(number as u32 - 1), linkages });
    }
    let changes = Changes { linkages: relinked.clone(), counters: counters(2), ..Changes::default() };
    store.commit(&Commit { model: Some(other.clone()), ..commit_of(changes) }).unwrap();
    drop(store);
    assert!(matches!(Store::open(folder.path(), &model()), Err(StoreError::OtherModel { .. })));
    let mut store = Store::open(folder.path(), &other).unwrap();
    assert_eq!(store.restored(&lobby()).unwrap().linkages, relinked);
    let wider = Commit { model: Some(Model { dimension: DIMENSION + 1, ..other }), ..Commit::default() };
    let refused = store.commit(&wider).unwrap_err().to_string();
    assert!(refused.contains("8 values") && refused.contains("takes 9"), "{refused}");
}

#[test]
fn a_state_of_another_format_is_refused_by_its_number() {
    /// The identity of format 1, field by field.
    #[derive(Serialize)]
    struct Other {
        format: u32,
        state_uuid: &'static str,
        model: String,
        dimension: usize,
    }
    for (format, expected) in [(1, "never released"), (FORMAT + 1, "a newer one")] {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path());
        let mut batch = Batch::default();
        let other = Other { format, state_uuid: "u", model: model().fingerprint, dimension: DIMENSION };
        batch.put(keys::identity(), &other);
        store.space.apply(batch).unwrap();
        drop(store);
        for refused in [Store::open(folder.path(), &model()).err(), Store::open_existing(folder.path()).err()] {
            let text = refused.unwrap().to_string();
            assert!(text.contains(&format!("has format {format}")) && text.contains(expected), "{text}");
        }
    }
}

#[test]
fn no_file_is_kept_open_for_a_collection() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(folder.path());
    let collections = (0..20).map(|number| CollectionCommit {
        collection: CollectionName::new(&format!("site-{number}")).unwrap(),
        changes: arrives(1, 0),
    });
    store.commit(&Commit { collections: collections.collect(), ..Commit::default() }).unwrap();
    assert_eq!(store.contents().unwrap().collections.len(), 20);
    let open =
        std::fs::read_dir("/proc/self/fd").unwrap().filter_map(|link| std::fs::read_link(link.unwrap().path()).ok());
    let kept: Vec<_> = open.filter(|path| path.starts_with(folder.path().join("vectors"))).collect();
    assert_eq!(kept, Vec::<std::path::PathBuf>::new());
}
