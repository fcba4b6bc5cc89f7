//! Damage of each kind is named as what it is, and repaired into a state that is whole and has all that
//! was not damaged.

mod by_hand;

use std::collections::BTreeSet;

use by_hand::{CASES, Case, put_linkages};

use super::*;
use crate::engine::changes::{Constraint, ConstraintKind};
use crate::progress::came_to_its_end;
use crate::store::checks::Check;
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
