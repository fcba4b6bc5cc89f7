//! An engine is given only records that fit together; what does not is named.

use super::*;
use crate::store::records::LinkagesRecord;

/// Tampers with a store of three faces, opens it again and says what it finds.
fn found(tamper: fn(&mut Batch)) -> String {
    let folder = tempfile::tempdir().unwrap();
    let store = filled(folder.path(), 3);
    let mut batch = Batch::default();
    tamper(&mut batch);
    store.space.apply(batch).unwrap();
    drop(store);
    let error = Store::open(folder.path(), &model()).and_then(|store| store.contents()).unwrap_err();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
    error.to_string()
}

fn put_face(batch: &mut Batch, node: u32, record: FaceRecord) {
    batch.put(keys::face(&lobby(), NodeId(node)), &record);
}

fn put_linkages(batch: &mut Batch, node: u32, number: u64) {
    let record = LinkagesRecord { written_at: 1, linkages: linkages(number) };
    batch.put(keys::linkages(&lobby(), NodeId(node)), &record);
}

fn put_cluster(batch: &mut Batch, id: u64, cluster: Cluster) {
    batch.put(keys::cluster(&lobby(), ClusterId(id)), &cluster);
}

#[test]
fn records_that_do_not_fit_together_are_damage() {
    type Tamper = fn(&mut Batch);
    // What is done to the records, most often those of face 2 at node 1, and what is to be named.
    let cases: &[(Tamper, &str)] = &[
        (|batch| put_face(batch, 1, FaceRecord { home: ClusterId(9), ..face(2) }), "the home of face"),
        (|batch| put_face(batch, 1, FaceRecord { home: ClusterId(3), ..face(2) }), "says 1 faces and has 0"),
        (|batch| put_face(batch, 1, FaceRecord { arrival: Arrival(0), ..face(2) }), "the arrival of face"),
        (|batch| put_face(batch, 1, FaceRecord { arrival: Arrival(3), ..face(2) }), "the arrival of face"),
        (|batch| put_face(batch, 1, FaceRecord { arrival: Arrival(4), ..face(2) }), "the arrival of face"),
        (|batch| put_face(batch, 1, FaceRecord { id: face(9).id, ..face(2) }), "the face_id of node 1"),
        (|batch| batch.remove(keys::face(&lobby(), NodeId(1))), "2 face records, not 3"),
        (|batch| batch.remove(keys::node_of(&lobby(), &face(2).id)), "the list of face_ids"),
        (|batch| put_linkages(batch, 5, 1), "the linkages of node 5"),
        (|batch| put_cluster(batch, 2, Cluster { size: 7, ..cluster(2) }), "cluster 2, which says 7 faces and has 1"),
        (|batch| put_cluster(batch, 2, cluster(1)), "cluster"),
        (|batch| put_cluster(batch, 4, cluster(4)), "cluster 4, beyond the 3"),
        (
            |batch| put_cluster(batch, 2, Cluster { merged_into: Some(ClusterId(9)), ..cluster(2) }),
            "cluster 9, which others merged into",
        ),
        (|batch| batch.put(keys::cluster(&lobby(), ClusterId(1)), &1u8), "the record klobby"),
        (
            |batch| {
                batch.remove(keys::face(&lobby(), NodeId(1)));
                put_face(batch, 7, face(2));
                batch.put(keys::node_of(&lobby(), &face(2).id), &NodeId(7));
            },
            "has no embedding",
        ),
    ];
    for (tamper, expected) in cases {
        let text = found(*tamper);
        assert!(text.contains(expected), "{expected}: {text}");
    }
}

#[test]
fn a_circle_of_clusters_is_damage_to_a_lookup_too() {
    let folder = tempfile::tempdir().unwrap();
    let store = filled(folder.path(), 2);
    let mut batch = Batch::default();
    for (id, into) in [(1, 2), (2, 1)] {
        let merged = Cluster { merged_into: Some(ClusterId(into)), ..cluster(id) };
        batch.put(keys::cluster(&lobby(), ClusterId(id)), &merged);
    }
    store.space.apply(batch).unwrap();
    let circle = store.living_cluster(&lobby(), ClusterId(1)).unwrap_err().to_string();
    assert!(circle.contains("merged into itself"), "{circle}");
}

#[test]
fn a_record_under_the_wrong_key_is_damage() {
    let folder = tempfile::tempdir().unwrap();
    let store = filled(folder.path(), 2);
    let copied = store.space.raw(&keys::cluster(&lobby(), ClusterId(1)));
    store.space.put_raw(&keys::cluster(&lobby(), ClusterId(2)), copied);
    let error = store.cluster(&lobby(), ClusterId(2)).unwrap_err();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
}

#[test]
fn vectors_without_sled_are_damage_and_are_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    drop(filled(folder.path(), 2));
    std::fs::remove_dir_all(folder.path().join("sled")).unwrap();
    let refused = Store::open(folder.path(), &model()).err().unwrap().to_string();
    assert!(refused.contains("sled folder"), "{refused}");
    assert!(folder.path().join("vectors/lobby.1.vectors").exists());
}

#[test]
fn a_torn_tail_is_cut_off_and_a_missing_one_is_damage() {
    let folder = tempfile::tempdir().unwrap();
    drop(filled(folder.path(), 2));
    let path = folder.path().join("vectors/lobby.1.vectors");
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, [&whole[..], &[1; 9]].concat()).unwrap();
    assert_eq!(held(&open(folder.path())), [1, 2]);
    assert_eq!(std::fs::read(&path).unwrap(), whole);
    std::fs::write(&path, &whole[..whole.len() - 1]).unwrap();
    assert!(matches!(Store::open(folder.path(), &model()), Err(StoreError::Damaged { .. })));
}
