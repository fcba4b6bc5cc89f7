//! What sled lost without a word is noticed, and what it can do without is not missed.

use super::*;

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to.join("blobs")).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.path().is_file() {
            std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

/// A closed store of faces 1 to `last`, goes on to `last`.
fn closed(folder: &Path, first: u64, last: u64) {
    let mut store = open(folder);
    for number in first..=last {
        store.commit(&commit_of(arrives(number, number as u32 - 1))).unwrap();
    }
    let Store { space, outbox, directory: _directory, .. } = store;
    drop(outbox);
    space.close().unwrap();
}

fn error_of(folder: &Path) -> String {
    let Err(error) = Store::open(folder, &model()).and_then(|store| store.contents()) else {
        panic!("it opens");
    };
    assert!(matches!(error, StoreError::Damaged { .. } | StoreError::Unreadable { .. }), "{error}");
    error.to_string()
}

#[test]
fn a_sled_that_is_behind_is_named_with_both_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let (state, older) = (folder.path().join("state"), folder.path().join("older"));
    closed(&state, 1, 3);
    copy(&state.join("sled"), &older);
    closed(&state, 4, 5);
    std::fs::remove_dir_all(state.join("sled")).unwrap();
    std::fs::rename(&older, state.join("sled")).unwrap();
    let error = error_of(&state);
    assert!(error.contains("ends with commit 3, but commit 5 was acknowledged"), "{error}");
    assert!(error.contains("state/sled"), "{error}");
}

#[test]
fn a_note_that_lags_or_is_gone_is_made_up_for() {
    let folder = tempfile::tempdir().unwrap();
    let note = folder.path().join("COMMITTED");
    closed(folder.path(), 1, 3);
    let earlier = std::fs::read(&note).unwrap();
    closed(folder.path(), 4, 5);
    for lost in [Some(&earlier[..]), Some(&[]), Some(b"something else"), None] {
        match lost {
            Some(bytes) => std::fs::write(&note, bytes).unwrap(),
            None => std::fs::remove_file(&note).unwrap(),
        }
        let store = open(folder.path());
        assert_eq!((held(&store), store.commit_sequence()), (vec![1, 2, 3, 4, 5], 5));
        drop(store);
        let said = Committed::open(folder.path(), open(folder.path()).state_uuid()).unwrap().1;
        assert_eq!(said, Said::Commit(5));
    }
}

#[test]
fn a_sled_of_nothing_is_no_new_state_where_there_was_one() {
    let folder = tempfile::tempdir().unwrap();
    closed(folder.path(), 1, 0);
    std::fs::remove_file(folder.path().join("sled/db")).unwrap();
    let error = error_of(folder.path());
    assert!(error.contains("COMMITTED is there, what its sled folder held is not"), "{error}");
}

#[test]
fn a_state_from_before_there_were_sums_is_given_them() {
    let folder = tempfile::tempdir().unwrap();
    let store = filled(folder.path(), 3);
    for (key, _) in store.space.scan::<u64>(&keys::sums()).unwrap() {
        store.space.lose(&key);
    }
    store.space.apply(Batch::default()).unwrap();
    drop(store);
    assert!(error_of(folder.path()).contains("lost or older"), "a state that says it has commits has sums");
    std::fs::remove_file(folder.path().join("COMMITTED")).unwrap();
    for _ in 0..2 {
        assert_eq!(held(&open(folder.path())), [1, 2, 3]);
    }
}

#[test]
fn a_record_that_is_lost_or_old_is_noticed() {
    type Lose = fn(&Space);
    let losses: &[(Lose, &str)] = &[
        (|space| space.lose(&keys::linkages(&lobby(), NodeId(1))), "records of collection lobby"),
        (put_older, "records of collection lobby"),
        (|space| space.lose(&keys::position(Partition(0))), "records of the state"),
        (|space| space.lose(&keys::outbox(2)), "records of the state"),
        (|space| space.lose(&sums::key(b"lobby")), "records of collection lobby"),
    ];
    for (lose, expected) in losses {
        let folder = tempfile::tempdir().unwrap();
        let mut store = filled(folder.path(), 3);
        let positions = std::collections::BTreeMap::from([(Partition(0), Position { next: Offset(7), last: None })]);
        store.commit(&Commit { positions, ..Commit::default() }).unwrap();
        lose(&store.space);
        store.space.apply(Batch::default()).unwrap();
        drop(store);
        let error = error_of(folder.path());
        assert!(error.contains(expected) && error.contains("lost or older"), "{expected}: {error}");
    }
}

/// What the key held before, with its checksum right.
fn put_older(space: &Space) {
    let key = keys::linkages(&lobby(), NodeId(1));
    let newer = space.raw(&key);
    let mut batch = Batch::default();
    batch.put(key.clone(), &records::LinkagesRecord { written_at: 9, linkages: linkages(9) });
    space.apply(batch).unwrap();
    space.put_raw(&key, newer);
}

#[test]
fn sled_opens_without_what_it_can_make_anew() {
    let folder = tempfile::tempdir().unwrap();
    closed(folder.path(), 1, 3);
    closed(folder.path(), 4, 5);
    let sled = folder.path().join("sled");
    let names = || std::fs::read_dir(&sled).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let snapshot = names().find(|name| name.starts_with("snap.")).expect("sled writes one when it opens");
    for damaged in [&snapshot, "conf", "snap.ffffffffffffffff.generating"] {
        std::fs::write(sled.join(damaged), b"not what sled wrote").unwrap();
        assert_eq!(held(&open(folder.path())), [1, 2, 3, 4, 5], "{damaged}");
        assert!(!names().any(|name| name.starts_with("unusable") || name.ends_with("generating")), "{damaged}");
    }
}
