use std::collections::BTreeMap;

use super::*;
use crate::engine::cluster::{Change, Event};
use crate::engine::link::{Linkage, Scored};
use crate::engine::{AddedFace, Work};
use crate::face::{Embedding, Face, Place};
use crate::rejection::{DeadLetter, Reason, Rejection};

const DIMENSION: usize = 4;

fn model() -> Model {
    Model { fingerprint: "abc".repeat(8), dimension: DIMENSION }
}

fn collection() -> CollectionName {
    CollectionName::new("lobby").unwrap()
}

fn place(offset: i64) -> Place {
    Place { partition: Partition(2), offset: Offset(offset) }
}

fn embedding(number: u32) -> Embedding {
    Embedding::normalise(&[1.0, number as f32, 0.5, -2.0], DIMENSION).unwrap()
}

/// The batch that brings in one more face, alone in its cluster, and rejects one record.
fn commit(number: u32) -> Commit {
    let id = FaceId::new(&format!("face-{number}")).unwrap();
    let cluster = Cluster { id: ClusterId(u64::from(number) + 1), merged_into: None, size: 1, version: 1 };
    let face = Face {
        id: id.clone(),
        embedding: embedding(number),
        frame_id: None,
        quality: Some(0.5),
        captured_at: None,
        place: place(i64::from(number) * 2),
    };
    let change = Change::Created { cluster: cluster.clone(), face: id };
    let changes = Changes {
        outcomes: Vec::new(),
        added: vec![AddedFace { node: NodeId(number), face, home: cluster.id, arrived_at: Timestamp(7) }],
        scored: vec![Scored {
            node: NodeId(number),
            linkages: vec![Linkage { candidate: NodeId(0), probability: 0.25 }],
        }],
        clusters: vec![cluster],
        events: vec![Event { sequence: u64::from(number) + 1, cause: place(0), change }],
        work: Work::default(),
    };
    let dead_letter = DeadLetter {
        rejection: Rejection::new(Reason::ZeroVector, "no direction"),
        place: place(i64::from(number) * 2 + 1),
        key: Some(b"k".to_vec()),
        payload_bytes: 3,
        payload_sha256: "00".to_string(),
    };
    Commit {
        collections: vec![CollectionCommit { collection: collection(), changes }],
        dead_letters: vec![dead_letter],
        positions: BTreeMap::from([(Partition(2), Offset(i64::from(number) * 2 + 2))]),
        now: Timestamp(9),
    }
}

#[test]
fn what_was_committed_is_there_when_it_is_opened_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut uuid = String::new();
    for number in 0..3 {
        let mut store = Store::open(folder.path(), &model()).unwrap();
        if number > 0 {
            assert_eq!(store.state_uuid(), uuid, "the identity changed");
        }
        uuid = store.state_uuid().to_string();
        store.commit(&commit(number)).unwrap();
    }
    let store = Store::open(folder.path(), &model()).unwrap();
    let contents = store.contents().unwrap();
    assert_eq!(contents.positions, BTreeMap::from([(Partition(2), Offset(6))]));
    let restored = &contents.collections[&collection()];
    assert_eq!((restored.faces.len(), restored.clusters.len(), restored.sequence), (3, 3, 3));
    for (number, face) in (0..).zip(&restored.faces) {
        assert_eq!(face.embedding, embedding(number));
        assert_eq!(face.home, ClusterId(u64::from(number) + 1));
    }
    let face = store.face(&collection(), &FaceId::new("face-1").unwrap()).unwrap().unwrap();
    assert_eq!((face.place, face.quality, face.arrived_at), (place(2), Some(0.5), Timestamp(7)));
}

#[test]
fn the_outbox_keeps_one_sequence_until_it_is_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = Store::open(folder.path(), &model()).unwrap();
    for number in 0..3 {
        store.commit(&commit(number)).unwrap();
    }
    let outbox = store.outbox();
    let pending = outbox.pending(0, 100).unwrap();
    assert_eq!(pending.iter().map(|pending| pending.sequence).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6]);
    assert!(matches!(pending[0].entry, Entry::Event { .. }) && matches!(pending[1].entry, Entry::DeadLetter(_)));
    outbox.acknowledge(&pending[..4]).unwrap();
    drop((store, outbox));

    let mut store = Store::open(folder.path(), &model()).unwrap();
    assert_eq!(store.outbox().pending(0, 100).unwrap(), pending[4..]);
    assert_eq!(store.outbox().pending(5, 100).unwrap(), pending[5..]);
    store.commit(&commit(3)).unwrap();
    let newest = store.outbox().pending(6, 1).unwrap();
    assert_eq!(newest[0].sequence, 7, "a sequence is never given twice");
}

#[test]
fn a_commit_that_died_after_its_vectors_did_not_happen() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = Store::open(folder.path(), &model()).unwrap();
    store.commit(&commit(0)).unwrap();
    // The first half of a commit, and then nothing.
    let half = commit(1);
    store.append_vectors(&collection(), &half.collections[0].changes).unwrap();
    drop(store);
    let mut store = Store::open(folder.path(), &model()).unwrap();
    assert_eq!(store.contents().unwrap().collections[&collection()].faces.len(), 1);
    store.commit(&half).unwrap();
    assert_eq!(store.contents().unwrap().collections[&collection()].faces.len(), 2);
}

#[test]
fn a_directory_has_one_user_and_one_model() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), &model()).unwrap();
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
fn a_record_under_the_wrong_key_is_damage() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), &model()).unwrap();
    let mut batch = store.tree.batch();
    batch.put(keys::cluster(&collection(), ClusterId(1)), &1u8);
    store.tree.apply(batch).unwrap();
    let error = store.cluster(&collection(), ClusterId(1)).unwrap_err();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
}

#[test]
fn what_is_not_on_disk_yet_is_not_to_be_published() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = Store::open(folder.path(), &model()).unwrap();
    store.commit(&commit(0)).unwrap();
    let outbox = store.outbox();
    let known = outbox.pending(0, 100).unwrap();
    // What another thread sees of a commit between sled's batch and its flush.
    let mut batch = store.tree.batch();
    batch.put(keys::outbox(known.len() as u64 + 1), &known[0].entry);
    store.tree.apply_soon(batch).unwrap();
    assert_eq!(outbox.pending(0, 100).unwrap(), known);
    assert_eq!(outbox.len(), known.len() + 1);
}
