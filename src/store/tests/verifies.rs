//! Damage of each kind is named as what it is, and repaired into a state that is whole and has all that
//! was not damaged.

use std::collections::BTreeSet;

use super::*;
use crate::engine::changes::{Constraint, ConstraintKind};
use crate::progress::came_to_its_end;
use crate::store::checks::Check;
use crate::store::records::LinkagesRecord;
use crate::store::repair::{Repaired, repair};
use crate::store::verify::{Known, Report, verify};

/// Six faces. 1 and 2 are one cluster, of which 2's home went into 1's; a must-link holds 3 and 4
/// together. 5 was erased for good. Everything was told and is settled, but for the last commits.
fn sound(folder: &Path) -> Store {
    let mut store = filled(folder, 4);
    let linked = |node, number: u64, to: u64| KeptLinkages {
        node: NodeId(node),
        linkages: vec![KeptLinkage { candidate: Arrival(to), probability: 0.9 - 0.001 * number as f32 }],
    };
    let word =
        Constraint { kind: ConstraintKind::MustLink, a: face(3).id, b: face(4).id, by: "ada".into(), at: Timestamp(5) };
    let unframed = |number| FaceRecord { frame_id: None, ..face(number) };
    let moved = FaceRecord { home: ClusterId(3), home_version: 2, ..unframed(4) };
    let kept = |node, record| KeptFace { node: NodeId(node), record };
    let changes = Changes {
        faces: vec![kept(0, unframed(1)), kept(1, unframed(2)), kept(2, unframed(3)), kept(3, moved)],
        linkages: vec![linked(0, 1, 2), linked(1, 2, 1), linked(2, 3, 4)],
        clusters: vec![
            Cluster { size: 2, pinned: true, name: Some("Ada".into()), ..cluster(1) },
            Cluster { merged_into: Some(ClusterId(1)), ..cluster(2) },
            Cluster { size: 2, ..cluster(3) },
        ],
        retired: vec![ClusterId(4)],
        constraints: vec![word],
        counters: counters(4),
        ..Changes::default()
    };
    store.commit(&commit_of(changes)).unwrap();
    store
        .commit(&Commit { suppress: vec![FaceKey { collection: lobby(), face: face(5).id }], ..Commit::default() })
        .unwrap();
    let positions = [(2, 6), (0, 1)]
        .map(|(partition, next)| (Partition(partition), Position { next: Offset(next), last: None }))
        .into();
    store.commit(&Commit { positions, ..Commit::default() }).unwrap();
    store.outbox().acknowledge(&Published::up_to(2)).unwrap();
    let settled = Change::Settled { faces: 4, clusters: 2 };
    let event = Event { sequence: 5, cause: Cause::Refresh, change: settled, retired: Vec::new() };
    let counters = Counters { sequence: 5, settled: 5, ..counters(4) };
    store.commit(&commit_of(Changes { events: vec![event], counters, ..Changes::default() })).unwrap();
    store
}

fn verified(folder: &Path) -> Report {
    verify(folder, &Known::default(), &mut |_| ()).unwrap()
}

#[test]
fn who_waits_is_told_how_far_it_is() {
    let folder = tempfile::tempdir().unwrap();
    drop(sound(folder.path()));
    let mut told = Vec::new();
    verify(folder.path(), &Known::default(), &mut |progress| told.push(progress)).unwrap();
    assert!(came_to_its_end(&told), "{told:?}");
}

/// The homes of the faces of a state, by id.
fn homes(store: &Store) -> std::collections::BTreeMap<String, (ClusterId, Arrival)> {
    let restored = store.restored(&lobby()).unwrap();
    let faces = restored.faces.iter().map(|face| {
        assert_eq!(face.embedding, embedding(face.record.arrival.0.min(4)), "{}", face.record.id);
        (face.record.id.to_string(), (face.record.home, face.record.arrival))
    });
    faces.collect()
}

/// Repairs a state, and sees that it is whole and has every face but `lost` where it was.
fn repaired(folder: &Path, lost: &[u64], case: &str) -> (Repaired, Store) {
    let to = folder.parent().unwrap().join("repaired");
    let before = verified(folder);
    let repaired =
        repair(folder, &to, &Known::default(), &mut |_| ()).unwrap_or_else(|error| panic!("{case}: {error}"));
    let repaired = repaired.put_in_place().unwrap();
    let report = verified(&to);
    assert!(report.is_whole() && report.mends.is_empty(), "{case}: {report:#?}");
    assert_ne!(report.state_uuid, before.state_uuid, "{case}");
    let store = open(&to);
    let found = homes(&store);
    for number in 1..=4 {
        let home = [1, 2, 3, 3][number as usize - 1];
        let expected = (!lost.contains(&number)).then_some(ClusterId(home));
        assert_eq!(found.get(face(number).id.as_str()).map(|of| of.0), expected, "{case}: face {number}");
    }
    assert_eq!(repaired.exported.is_some(), !lost.is_empty(), "{case}");
    (repaired, store)
}

#[test]
fn a_sound_state_is_whole_and_verifying_does_not_change_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    drop(sound(&path));
    let contents =
        |path: &Path| files(path).into_iter().map(|file| (file.clone(), std::fs::read(file).unwrap())).collect();
    let before: std::collections::BTreeMap<_, Vec<u8>> = contents(&path);
    let report = verified(&path);
    assert!(report.is_whole() && report.mends.is_empty() && report.notes.is_empty(), "{report:#?}");
    let idle: Vec<Check> =
        report.checks.iter().filter(|checked| checked.looked_at == 0).map(|checked| checked.check).collect();
    assert_eq!(idle, [Check::Rule], "nothing was looked at");
    assert_eq!(contents(&path), before);
    let (repaired, store) = repaired(&path, &[], "sound");
    assert_eq!((repaired.faces, repaired.said), (4, Vec::<String>::new()));
    assert_eq!(store.outbox().pending(0, 9).unwrap().len(), 3);
    assert_eq!(store.outbox().durable().positions.len(), 2);
    assert!(store.is_suppressed(&lobby(), &face(5).id));
    assert_eq!(store.cluster(&lobby(), ClusterId(1)).unwrap().unwrap().name.as_deref(), Some("Ada"));
    assert_eq!(store.constraints(&lobby()).unwrap().len(), 1);
}

#[test]
fn what_opening_mends_is_told_and_not_broken() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    drop(sound(&path));
    let file = path.join("vectors/lobby.1.vectors");
    std::fs::write(&file, [std::fs::read(&file).unwrap(), vec![7; 5]].concat()).unwrap();
    std::fs::write(path.join("vectors/lobby.2.vectors"), b"half").unwrap();
    std::fs::create_dir(path.join("sled.new")).unwrap();
    let report = verified(&path);
    assert!(report.is_whole(), "{report:#?}");
    let told = report.mends.join("; ");
    for words in ["cut 5 bytes", "lobby.2.vectors", "sled.new"] {
        assert!(told.contains(words), "{words}: {told}");
    }
    assert!(path.join("sled.new").exists() && path.join("vectors/lobby.2.vectors").exists());
    drop(open(&path));
    assert!(verified(&path).mends.is_empty());
}

#[test]
fn a_state_in_use_or_newer_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    let store = sound(&path);
    assert!(matches!(verify(&path, &Known::default(), &mut |_| ()), Err(StoreError::Locked { .. })));
    let mut batch = Batch::default();
    batch.put(keys::identity(), &(FORMAT + 1));
    store.space.apply(batch).unwrap();
    drop(store);
    assert!(matches!(verify(&path, &Known::default(), &mut |_| ()), Err(StoreError::NewerFormat { .. })));
    assert!(matches!(
        verify(&folder.path().join("nothing"), &Known::default(), &mut |_| ()),
        Err(StoreError::Missing { .. })
    ));
    assert!(matches!(repair(&path, folder.path(), &Known::default(), &mut |_| ()), Err(StoreError::NotEmpty { .. })));
}

#[test]
fn what_sled_cannot_read_is_named_where_it_is_and_nothing_else_is_called_right() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    drop(sound(&path));
    let db = path.join("sled/db");
    let garbage = vec![0x5a; std::fs::metadata(&db).unwrap().len() as usize];
    std::fs::write(&db, garbage).unwrap();
    let report = verified(&path);
    assert!(report.ended_early && report.broken().len() == 1, "{report:#?}");
    let told = report.checks.iter().flat_map(|checked| &checked.broken).map(ToString::to_string).collect::<String>();
    assert!(told.contains(path.join("sled").to_str().unwrap()) && told.contains("backup"), "{told}");
    let repaired = repair(&path, &folder.path().join("repaired"), &Known::default(), &mut |_| ());
    assert!(matches!(repaired, Err(StoreError::Unreadable { .. })), "{repaired:?}");
    std::fs::remove_dir_all(path.join("sled")).unwrap();
    assert!(verified(&path).ended_early);
    assert!(matches!(Store::open(&path, &model()).map(drop), Err(StoreError::Unreadable { .. })));
    assert!(matches!(Store::is_state(&path), Err(StoreError::Unreadable { .. })));
}

/// Damage by hand, the checks it breaks, words that name it, and the faces that cannot be kept.
struct Case {
    name: &'static str,
    damage: fn(&Store),
    broken: &'static [Check],
    named: &'static str,
    lost: &'static [u64],
}

fn put(store: &Store, write: impl FnOnce(&mut Batch)) {
    let mut batch = Batch::default();
    write(&mut batch);
    store.space.apply(batch).unwrap();
}

fn garble(store: &Store, key: keys::Key) {
    let mut value = store.space.raw(&key).to_vec();
    let middle = value.len() / 2;
    value[middle] ^= 0x20;
    store.space.put_raw(&key, value.into());
}

/// Flips a byte of the record of the vector file that is the nth.
fn garble_vector(store: &Store, nth: usize, byte: usize) {
    let path = store.directory.vectors(&lobby(), 1);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[32 + nth * (8 + 4 * DIMENSION) + byte] ^= 0x20;
    std::fs::write(path, bytes).unwrap();
}

fn stored_face(store: &Store, number: u64) -> FaceRecord {
    store.face(&lobby(), &face(number).id).unwrap().unwrap()
}

fn put_face(store: &Store, number: u64, change: impl FnOnce(FaceRecord) -> FaceRecord) {
    let record = change(stored_face(store, number));
    put(store, |batch| batch.put(keys::face(&lobby(), NodeId(number as u32 - 1)), &record));
}

fn put_cluster(store: &Store, id: u64, change: impl FnOnce(Cluster) -> Cluster) {
    let cluster = change(store.cluster(&lobby(), ClusterId(id)).unwrap().unwrap());
    put(store, |batch| batch.put(keys::cluster(&lobby(), ClusterId(id)), &cluster));
}

fn put_linkages(store: &Store, node: u32, linkages: &[(u64, f32)], written_at: u64) {
    let linkages = linkages
        .iter()
        .map(|&(candidate, probability)| KeptLinkage { candidate: Arrival(candidate), probability })
        .collect();
    let record = LinkagesRecord { written_at, linkages };
    put(store, |batch| batch.put(keys::linkages(&lobby(), NodeId(node)), &record));
}

fn put_record(store: &Store, change: impl FnOnce(CollectionRecord) -> CollectionRecord) {
    let record = change(store.collections[&lobby()]);
    put(store, |batch| batch.put(keys::collection(&lobby()), &record));
}

fn cut_vectors(store: &Store, keep: impl FnOnce(Vec<u8>) -> Vec<u8>) {
    let path = store.directory.vectors(&lobby(), 1);
    std::fs::write(&path, keep(std::fs::read(&path).unwrap())).unwrap();
}

const CASES: &[Case] = &[
    Case {
        name: "the record of a face",
        damage: |store| garble(store, keys::face(&lobby(), NodeId(1))),
        broken: &[Check::Records],
        named: "the record flobby",
        lost: &[2],
    },
    Case {
        name: "the record of an id",
        damage: |store| garble(store, keys::node_of(&lobby(), &face(2).id)),
        broken: &[Check::Records],
        named: "the record ilobby",
        lost: &[],
    },
    Case {
        name: "the record of linkages",
        damage: |store| garble(store, keys::linkages(&lobby(), NodeId(1))),
        broken: &[Check::Records],
        named: "the record llobby",
        lost: &[],
    },
    Case {
        name: "the record of a cluster",
        damage: |store| garble(store, keys::cluster(&lobby(), ClusterId(3))),
        broken: &[Check::Records],
        named: "the record klobby",
        lost: &[],
    },
    Case {
        name: "the record of a constraint",
        damage: |store| garble(store, keys::constraint(&lobby(), &face(3).id, &face(4).id)),
        broken: &[Check::Records],
        named: "the record xlobby",
        lost: &[],
    },
    Case {
        name: "the record of a collection",
        damage: |store| garble(store, keys::collection(&lobby())),
        broken: &[Check::Records],
        named: "the record clobby",
        lost: &[],
    },
    Case {
        name: "the record of a position",
        damage: |store| garble(store, keys::position(Partition(2))),
        broken: &[Check::Records],
        named: "the record p",
        lost: &[],
    },
    Case {
        name: "an outbox entry",
        damage: |store| garble(store, keys::outbox(4)),
        broken: &[Check::Records],
        named: "the record o",
        lost: &[],
    },
    Case {
        name: "the commit sequence",
        damage: |store| garble(store, keys::commit_sequence()),
        broken: &[Check::Records],
        named: "!commit-sequence",
        lost: &[],
    },
    Case {
        name: "the outbox sequence",
        damage: |store| garble(store, keys::outbox_sequence()),
        broken: &[Check::Records],
        named: "!outbox-sequence",
        lost: &[],
    },
    Case {
        name: "a record of no kind",
        damage: |store| put(store, |batch| batch.put(b"zebra".to_vec(), &1u8)),
        broken: &[Check::Records],
        named: "of no kind",
        lost: &[],
    },
    Case {
        name: "a collection without a record",
        damage: |store| {
            let gate = CollectionName::new("gate").unwrap();
            put(store, |batch| batch.put(keys::cluster(&gate, ClusterId(1)), &cluster(1)));
        },
        broken: &[Check::Collections],
        named: "collection gate",
        lost: &[],
    },
    Case {
        name: "fewer faces than it says",
        damage: |store| put_record(store, |record| CollectionRecord { faces: 3, ..record }),
        broken: &[Check::Faces],
        named: "4 face records, not 3",
        lost: &[],
    },
    Case {
        name: "an id that leads to another face",
        damage: |store| put(store, |batch| batch.put(keys::node_of(&lobby(), &face(2).id), &NodeId(2))),
        broken: &[Check::Ids],
        named: "the face_id of node 2",
        lost: &[],
    },
    Case {
        name: "an id that is not listed",
        damage: |store| put(store, |batch| batch.remove(keys::node_of(&lobby(), &face(2).id))),
        broken: &[Check::Ids],
        named: "without portrait-of-somebody-0002",
        lost: &[],
    },
    Case {
        name: "an arrival beyond the counter",
        damage: |store| {
            put_record(store, |record| CollectionRecord {
                counters: Counters { arrival: 3, ..record.counters },
                ..record
            })
        },
        broken: &[Check::Arrivals, Check::Linkages],
        named: "the arrival of face",
        lost: &[],
    },
    Case {
        name: "a byte of an embedding",
        damage: |store| garble_vector(store, 2, 9),
        broken: &[Check::Vectors, Check::Embeddings],
        named: "the checksum of record 2",
        lost: &[3],
    },
    Case {
        name: "the node of an embedding",
        damage: |store| garble_vector(store, 2, 0),
        broken: &[Check::Vectors, Check::Embeddings],
        named: "the checksum of record 2",
        lost: &[3],
    },
    Case {
        name: "the header of the vectors",
        damage: |store| cut_vectors(store, |bytes| [&[9; 4], &bytes[4..]].concat()),
        broken: &[Check::Vectors],
        named: "its header",
        lost: &[],
    },
    Case {
        name: "vectors that end early",
        damage: |store| cut_vectors(store, |bytes| bytes[..bytes.len() - 50].to_vec()),
        broken: &[Check::Vectors, Check::Embeddings],
        named: "records need",
        lost: &[3, 4],
    },
    Case {
        name: "vectors that are not there",
        damage: |store| std::fs::remove_file(store.directory.vectors(&lobby(), 1)).unwrap(),
        broken: &[Check::Vectors, Check::Embeddings],
        named: "it is not there",
        lost: &[1, 2, 3, 4],
    },
    Case {
        name: "a home that is not there",
        damage: |store| put_face(store, 1, |face| FaceRecord { home: ClusterId(4), ..face }),
        broken: &[Check::Homes, Check::Sizes],
        named: "the home of face",
        lost: &[],
    },
    Case {
        name: "a cluster that is not there",
        damage: |store| put(store, |batch| batch.remove(keys::cluster(&lobby(), ClusterId(1)))),
        broken: &[Check::Clusters, Check::Homes],
        named: "cluster 1, which others merged into",
        lost: &[],
    },
    Case {
        name: "a circle of clusters",
        damage: |store| put_cluster(store, 1, |cluster| Cluster { merged_into: Some(ClusterId(2)), ..cluster }),
        broken: &[Check::Clusters],
        named: "merged into itself",
        lost: &[],
    },
    Case {
        name: "a cluster that nobody needs",
        damage: |store| {
            put(store, |batch| batch.put(keys::cluster(&lobby(), ClusterId(4)), &Cluster { size: 0, ..cluster(4) }))
        },
        broken: &[Check::Clusters],
        named: "cluster 4, which no face needs",
        lost: &[],
    },
    Case {
        name: "the size of a cluster",
        damage: |store| put_cluster(store, 3, |cluster| Cluster { size: 7, ..cluster }),
        broken: &[Check::Sizes],
        named: "cluster 3, which says 7 faces and has 2",
        lost: &[],
    },
    Case {
        name: "linkages of nobody",
        damage: |store| put_linkages(store, 9, &[(1, 0.5)], 1),
        broken: &[Check::Linkages],
        named: "the linkages of node 9",
        lost: &[],
    },
    Case {
        name: "a linkage that is no probability",
        damage: |store| put_linkages(store, 1, &[(1, f32::NAN)], 1),
        broken: &[Check::Linkages],
        named: "the linkages of face",
        lost: &[],
    },
    Case {
        name: "linkages of a commit to come",
        damage: |store| put_linkages(store, 1, &[(1, 0.9)], 1000),
        broken: &[Check::Linkages],
        named: "a commit that is to come",
        lost: &[],
    },
    Case {
        name: "a cluster that nothing holds together",
        damage: |store| {
            put_linkages(store, 0, &[(3, 0.9)], 1);
            put_linkages(store, 1, &[(1, 0.0)], 1);
        },
        broken: &[Check::Links],
        named: "cluster 1, whose 2 faces fall into 2 parts",
        lost: &[],
    },
    Case {
        name: "two of a frame in one cluster",
        damage: |store| {
            for number in [1, 2] {
                put_face(store, number, |record| FaceRecord { frame_id: face(number).frame_id, ..record });
            }
        },
        broken: &[Check::Apart],
        named: "of one frame",
        lost: &[],
    },
    Case {
        name: "a constraint of a face that is gone",
        damage: |store| {
            let (a, b) = (face(1).id, face(9).id);
            let key = keys::constraint(&lobby(), &a, &b);
            let word = Constraint { kind: ConstraintKind::CannotLink, a, b, by: "bob".into(), at: Timestamp(1) };
            put(store, |batch| batch.put(key, &word));
        },
        broken: &[Check::Constraints],
        named: "the constraint of faces",
        lost: &[],
    },
    Case {
        name: "a face that was erased for good",
        damage: |store| {
            let hash = store.suppressed.hash(&lobby(), &face(9).id);
            put(store, |batch| batch.put(keys::suppressed(hash), &Timestamp(1)));
            put_face(store, 1, |record| FaceRecord { id: face(9).id, ..record });
            put(store, |batch| {
                batch.remove(keys::node_of(&lobby(), &face(1).id));
                batch.put(keys::node_of(&lobby(), &face(9).id), &NodeId(0));
            });
        },
        broken: &[Check::Suppressed],
        named: "which was erased and is not to come back",
        lost: &[],
    },
    Case {
        name: "counters that run backwards",
        damage: |store| {
            put_record(store, |record| CollectionRecord {
                counters: Counters { settled: 9, ..record.counters },
                ..record
            })
        },
        broken: &[Check::Counters],
        named: "the counter of events",
        lost: &[],
    },
    Case {
        name: "a position that is none",
        damage: |store| {
            put(store, |batch| batch.put(keys::position(Partition(3)), &Position { next: Offset(-4), last: None }))
        },
        broken: &[Check::Positions],
        named: "the position -4",
        lost: &[],
    },
    Case {
        name: "an outbox with a gap",
        damage: |store| put(store, |batch| batch.remove(keys::outbox(4))),
        broken: &[Check::Outbox],
        named: "without the entries after 3 and before 5",
        lost: &[],
    },
    Case {
        name: "an outbox without its end",
        damage: |store| put(store, |batch| batch.remove(keys::outbox(5))),
        broken: &[Check::Outbox],
        named: "ends with entry 4 of 5",
        lost: &[],
    },
];

#[test]
fn damage_of_each_kind_is_named_and_repaired() {
    for Case { name, damage, broken, named, lost } in CASES {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        let store = sound(&path);
        damage(&store);
        drop(store);
        let report = verified(&path);
        assert_eq!(report.broken(), broken.iter().copied().collect::<BTreeSet<_>>(), "{name}: {report:#?}");
        let told: Vec<String> =
            report.checks.iter().flat_map(|checked| &checked.broken).map(ToString::to_string).collect();
        assert!(told.iter().any(|told| told.contains(named)), "{name}: {told:?}");
        if *name == "a face that was erased for good" || *name == "a home that is not there" {
            let to = folder.path().join("repaired");
            let repaired = repair(&path, &to, &Known::default(), &mut |_| ()).unwrap().put_in_place().unwrap();
            assert!(verified(&to).is_whole() && repaired.exported.is_none(), "{name}: {repaired:?}");
            continue;
        }
        let (repaired, store) = repaired(&path, lost, name);
        assert_eq!((repaired.lost as usize, repaired.faces as usize), (lost.len(), 4 - lost.len()), "{name}");
        // What is left of those that were lost says who they were.
        if let Some(exported) = &repaired.exported {
            let left = std::fs::read_to_string(exported).unwrap();
            for number in *lost {
                assert!(left.contains(face(*number).id.as_str()), "{name}: {left}");
            }
        }
        // And the store goes on.
        let mut store = store;
        let restored = store.restored(&lobby()).unwrap();
        let counters = Counters {
            arrival: restored.counters.arrival + 1,
            cluster: restored.counters.cluster + 1,
            ..restored.counters
        };
        let (arrival, home) = (Arrival(counters.arrival), ClusterId(counters.cluster));
        let node = NodeId(40);
        let changes = Changes {
            faces: vec![KeptFace { node, record: FaceRecord { id: face(40).id, arrival, home, ..face(40) } }],
            vectors: vec![NewVector { node, embedding: embedding(4) }],
            clusters: vec![Cluster { id: home, ..cluster(1) }],
            counters,
            ..Changes::default()
        };
        store.commit(&commit_of(changes)).unwrap();
        drop(store);
        let report = verified(&folder.path().join("repaired"));
        assert!(report.is_whole(), "{name}: {report:#?}");
    }
}

#[test]
fn clusters_that_the_rule_would_make_differently_are_named() {
    use crate::engine::cluster::ClusterSettings;
    use crate::model::artefact::{Merging, Rule as MergingRule};
    use crate::store::verify::Rule;

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    drop(sound(&path));
    let merging = Merging { rule: MergingRule::Single, threshold: 0.5, threshold_off: 0.4 };
    let settings = |_: &CollectionName| ClusterSettings { merging, max_component: 1, quality_floor: 0.0 };
    let known = |few| Known { rule: Some(Rule { model: model(), settings: &settings }), few };
    let report = verify(&path, &known(100), &mut |_| ()).unwrap();
    assert!(report.is_whole() && report.checks[Check::Rule as usize].looked_at == 2, "{report:#?}");

    // What hysteresis alone keeps together is no damage, what neither makes is.
    let store = open(&path);
    for (node, to) in [(0, 2), (1, 1)] {
        put_linkages(&store, node, &[(to, 0.45)], 1);
    }
    drop(store);
    assert!(verify(&path, &known(100), &mut |_| ()).unwrap().is_whole());
    let store = open(&path);
    put_linkages(&store, 0, &[(2, 0.9), (3, 0.7)], 1);
    drop(store);
    let report = verify(&path, &known(100), &mut |_| ()).unwrap();
    assert_eq!(report.broken(), BTreeSet::from([Check::Rule]), "{report:#?}");
    let larger = verify(&path, &known(3), &mut |_| ()).unwrap();
    assert!(larger.is_whole() && larger.notes[0].contains("engine.hnsw_few"), "{larger:#?}");
    let to = folder.path().join("repaired");
    repair(&path, &to, &known(100), &mut |_| ()).unwrap().put_in_place().unwrap();
    let report = verify(&to, &known(100), &mut |_| ()).unwrap();
    assert!(report.is_whole() && report.notes[0].contains("has not settled"), "{report:#?}");
    let other = Model { fingerprint: "xyz".repeat(8), ..model() };
    let other = Known { rule: Some(Rule { model: other, settings: &settings }), few: 100 };
    assert!(matches!(verify(&path, &other, &mut |_| ()), Err(StoreError::OtherModel { .. })));
}
