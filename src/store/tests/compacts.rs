//! Compaction keeps what lives and nothing else, and wherever it dies the directory opens right.

use super::*;
use crate::progress::came_to_its_end;

/// Faces 1, 3 and 4, which stands where 2 was erased: one record of four is dead.
fn churned(folder: &Path) -> Store {
    let mut store = filled(folder, 3);
    store.commit(&commit_of(goes(2, 1, 3))).unwrap();
    store.commit(&commit_of(arrives(4, 1))).unwrap();
    store
}

fn vector_files(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder.join("vectors")).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn a_compacted_file_holds_what_lives() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = churned(folder.path());
    assert_eq!(store.dead_share(&lobby()), 0.25);
    store.compact(&lobby()).unwrap();
    assert_eq!(store.dead_share(&lobby()), 0.0);
    assert_eq!(vector_files(folder.path()), ["lobby.2.vectors"]);
    assert_eq!(held(&store), [1, 4, 3]);
    store.commit(&commit_of(arrives(5, 3))).unwrap();
    drop(store);
    assert_eq!(held(&open(folder.path())), [1, 4, 3, 5]);
}

#[test]
fn a_collection_without_faces_needs_no_file_and_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = filled(folder.path(), 1);
    store.commit(&commit_of(goes(1, 0, 1))).unwrap();
    store.compact(&lobby()).unwrap();
    assert!(vector_files(folder.path()).is_empty());
    drop(store);
    store = open(folder.path());
    assert_eq!(store.restored(&lobby()).unwrap().counters, counters(1));
    store.commit(&commit_of(arrives(2, 0))).unwrap();
    drop(store);
    assert_eq!(held(&open(folder.path())), [2]);
}

#[test]
fn a_compaction_that_dies_after_any_step_leaves_a_whole_state() {
    for steps in 0..=2 {
        let folder = tempfile::tempdir().unwrap();
        let mut store = churned(folder.path());
        let before = store.collections[&lobby()];
        if steps == 0 {
            // It dies while it writes.
            std::fs::write(folder.path().join("vectors/lobby.2.vectors"), b"facetd-v").unwrap();
        } else {
            let after = store.write_next_generation(&lobby(), before, &|| {}).unwrap();
            if steps == 2 {
                store.make_it_count(&lobby(), after).unwrap();
            }
        }
        drop(store);
        assert!(steps == 0 || vector_files(folder.path()).len() == 2);
        let mut store = open(folder.path());
        let counts = if steps == 2 { "lobby.2.vectors" } else { "lobby.1.vectors" };
        assert_eq!(vector_files(folder.path()), [counts], "after step {steps}");
        assert_eq!(held(&store), [1, 4, 3]);
        // And the next one is as if nothing had been.
        store.commit(&commit_of(goes(3, 2, 4))).unwrap();
        store.compact(&lobby()).unwrap();
        drop(store);
        assert_eq!(held(&open(folder.path())), [1, 4]);
    }
}

#[test]
fn compaction_is_due_when_more_is_dead_than_alive() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = filled(folder.path(), 1);
    let node = NodeId(0);
    let again = NewVector { node, embedding: embedding(1) };
    for _ in 0..3 {
        assert_eq!(store.needs_compaction(), []);
        let mut changes = arrives(1, 0);
        changes.vectors = vec![again.clone(); 10_000];
        store.commit(&commit_of(changes)).unwrap();
    }
    assert_eq!(store.needs_compaction(), [lobby()]);
    let before = store.size_on_disk().unwrap();
    store.compact(&lobby()).unwrap();
    assert_eq!(store.needs_compaction(), []);
    assert!(store.size_on_disk().unwrap() + (1 << 20) < before);
    assert_eq!(held(&store), [1]);
}

#[test]
fn after_compact_all_nothing_is_left_of_what_was_erased() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = filled(folder.path(), 40);
    for number in 1..=20 {
        store.commit(&commit_of(goes(number, number as u32 - 1, 40))).unwrap();
    }
    let last = store.outbox().durable().sequence;
    store.outbox().acknowledge(&Published::up_to(last)).unwrap();
    drop(store);
    let raw = |number| embedding(number).values().iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
    // Windows of its embedding that are found, and whether its name is.
    let traces = |number: u64| {
        let found = raw(number).windows(16).filter(|window| anywhere(folder.path(), window)).count();
        (found, anywhere(folder.path(), face(number).id.as_str().as_bytes()))
    };
    for number in [2, 20] {
        let (found, named) = traces(number);
        assert!(found > 0 && named, "face {number}: the search finds what compaction is to remove");
    }
    let mut told = Vec::new();
    let compacted =
        Store::open_existing(folder.path()).unwrap().compact_all(&mut |progress| told.push(progress)).unwrap();
    assert!(came_to_its_end(&told), "{told:?}");
    assert!(compacted.bytes_after < compacted.bytes_before, "{compacted:?}");
    for number in 1..=20 {
        assert_eq!(traces(number), (0, false), "face {number}");
    }
    let (found, named) = traces(39);
    assert!(found > 0 && named, "a face that lives is there");
    assert_eq!(held(&open(folder.path())), (21..=40).collect::<Vec<_>>());
}
