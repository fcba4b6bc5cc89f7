//! What was erased or replaced is gone from every record, and does not come back unless allowed.

use super::*;

fn key(number: u64) -> FaceKey {
    FaceKey { collection: lobby(), face: face(number).id }
}

#[test]
fn an_erased_face_leaves_no_record() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = filled(folder.path(), 3);
    store.commit(&commit_of(goes(2, 1, 3))).unwrap();
    assert_eq!(held(&store), [1, 3]);
    assert_eq!(store.face(&lobby(), &face(2).id).unwrap(), None);
    assert_eq!(store.cluster(&lobby(), ClusterId(2)).unwrap(), None);
    drop(store);
    assert_eq!(held(&open(folder.path())), [1, 3]);
}

#[test]
fn a_node_given_again_has_nothing_of_the_face_before() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = filled(folder.path(), 3);
    // Later, and within the batch that erased it.
    store.commit(&commit_of(goes(2, 1, 3))).unwrap();
    store.commit(&commit_of(arrives(4, 1))).unwrap();
    assert_eq!(held(&store), [1, 4, 3]);
    let both = Changes { gone_nodes: Vec::new(), linkages: Vec::new(), ..arrives(5, 1) };
    store.commit(&commit_of(Changes { gone_ids: vec![face(4).id], retired: vec![ClusterId(4)], ..both })).unwrap();
    let restored = store.restored(&lobby()).unwrap();
    assert_eq!(restored.faces[1].record, face(5));
    assert_eq!(restored.faces[1].embedding, embedding(5));
    assert!(restored.linkages.iter().all(|kept| kept.node != NodeId(1)), "linkages of the face before");
    drop(store);
    assert_eq!(open(folder.path()).restored(&lobby()).unwrap().faces.len(), 3);
}

#[test]
fn a_replaced_face_has_its_last_embedding() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = filled(folder.path(), 2);
    let mut changes = arrives(3, 1);
    // The same name with another embedding is a face of another age.
    changes.faces[0].record.id = face(2).id;
    changes.retired = vec![ClusterId(2)];
    store.commit(&commit_of(changes)).unwrap();
    drop(store);
    let restored = open(folder.path()).restored(&lobby()).unwrap();
    assert_eq!(restored.faces.len(), 2);
    assert_eq!((restored.faces[1].record.arrival, &restored.faces[1].embedding), (Arrival(3), &embedding(3)));
}

#[test]
fn a_suppressed_id_stays_so_until_it_is_allowed() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = filled(folder.path(), 1);
    store.commit(&Commit { suppress: vec![key(7), key(8)], ..Commit::default() }).unwrap();
    drop(store);
    let mut store = open(folder.path());
    assert!(store.is_suppressed(&lobby(), &face(7).id) && store.is_suppressed(&lobby(), &face(8).id));
    assert!(!store.is_suppressed(&lobby(), &face(1).id));
    assert!(!store.is_suppressed(&CollectionName::new("gate").unwrap(), &face(7).id));
    assert_eq!(store.suppressed_count(), 2);
    // Face 7 is allowed and erased again in one commit.
    store.commit(&Commit { allow: vec![key(7), key(8)], suppress: vec![key(7)], ..Commit::default() }).unwrap();
    for _ in 0..2 {
        assert!(store.is_suppressed(&lobby(), &face(7).id) && !store.is_suppressed(&lobby(), &face(8).id));
        drop(store);
        store = open(folder.path());
    }
}

#[test]
fn the_suppression_list_does_not_say_who_is_on_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = filled(folder.path(), 1);
    store.commit(&Commit { suppress: vec![key(7)], ..Commit::default() }).unwrap();
    drop(store);
    assert!(anywhere(folder.path(), face(1).id.as_str().as_bytes()), "the search finds what is there");
    assert!(!anywhere(folder.path(), face(7).id.as_str().as_bytes()));
}
