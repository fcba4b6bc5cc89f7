//! Promise: a restart goes on from a snapshot: after a clean stop nobody is scored again, after any other
//! only who was touched since; whatever is wrong with snapshots, the clusters are the same.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use common::bare_shard::{Driven, People, Rig, Topic, name};
use common::traces::Traces;
use facetd::face::{FaceId, Timestamp};
use facetd::source::Intake;
use facetd::store::Incarnation;

/// A stop's.
const LIMIT: Duration = Duration::from_secs(60);
/// Snapshots as often as there is something to cut.
const OFTEN: &str = "[state]\nsnapshot_interval = \"1ns\"";

/// `count` faces of 15 people.
fn faces(topic: &mut Topic, people: &mut People, numbers: std::ops::Range<u64>) -> Vec<Intake> {
    numbers.map(|number| topic.face("default", &format!("face-{number:03}"), &people.face_of(number % 15))).collect()
}

/// Who is with whom, whatever the clusters are called.
fn partition(driven: &Driven) -> BTreeSet<BTreeSet<FaceId>> {
    let engine = driven.engine("default");
    let mut clusters: BTreeMap<_, BTreeSet<FaceId>> = BTreeMap::new();
    for node in engine.faces().live() {
        let cluster = engine.clusters().book().cluster_of(node).unwrap();
        clusters.entry(cluster).or_default().insert(engine.faces().id(node).clone());
    }
    clusters.into_values().collect()
}

/// Quiet moments until no snapshot is due any more: every moment begins one that is, and waits for none.
fn finish_snapshots(driven: &mut Driven) {
    common::wait_for("no snapshot to be due", LIMIT, || {
        driven.shard.idle(Timestamp(1)).unwrap();
        let metrics = &driven.metrics;
        let (begun, written) =
            (metrics.snapshot_pause_seconds.get_sample_count(), metrics.snapshot_seconds.get_sample_count());
        (begun == written + metrics.snapshot_failures.get()).then_some(())
    });
}

fn snapshots(rig: &Rig) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(rig.state().join("snapshots")).unwrap();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// Faces restored from a snapshot, and rebuilt.
fn restored(driven: &Driven) -> (i64, i64) {
    (driven.metrics.snapshot_restored_faces.get(), driven.metrics.snapshot_rebuilt_faces.get())
}

#[test]
fn a_restart_after_a_clean_stop_is_settled_and_scores_nobody_again() {
    for index in ["exact", "hnsw"] {
        let rig = Rig::new(&format!("[engine]\nindex = \"{index}\"\nhnsw_few = 50"));
        let (mut topic, mut people) = (Topic::default(), People::new(1));
        let mut driven = rig.open();
        driven.apply(faces(&mut topic, &mut people, 0..200), 1);
        driven.settle(1);
        let before = partition(&driven);
        driven.shard.cut_snapshots(LIMIT);
        drop(driven);

        let mut driven = rig.open();
        assert_eq!(restored(&driven), (200, 0));
        let engine = driven.engine("default");
        assert!(engine.is_settled() && engine.stale() == 0, "{} are stale", engine.stale());
        assert_eq!(partition(&driven), before);
        // With the graph it is built meanwhile, and nothing else is done.
        driven.settle(1);
        let metrics = &driven.metrics;
        let scored = [&metrics.encoded, &metrics.linked_arrivals, &metrics.linked_refreshes, &metrics.index_searches];
        assert_eq!(scored.map(|count| count.get()), [0; 4], "{index}");
        assert!(!driven.engine("default").index().is_building());

        // And what comes is taken as ever.
        driven.apply(faces(&mut topic, &mut people, 200..230), 2);
        driven.settle(2);
        assert_eq!(driven.engine("default").len(), 230);
        assert_eq!(partition(&driven).len(), before.len(), "they are of the same people");
    }
}

#[test]
fn a_new_incarnation_goes_on_from_its_snapshots_too() {
    let (rig, mut topic, mut people) = (Rig::new(""), Topic::default(), People::new(4));
    let mut driven = rig.open();
    driven.apply(faces(&mut topic, &mut people, 0..100), 1);
    driven.settle(1);
    driven.shard.begin_incarnation(Incarnation::default(), Timestamp(1)).unwrap();
    driven.shard.cut_snapshots(LIMIT);
    drop(driven);
    assert_eq!(restored(&rig.open()), (100, 0));
}

#[test]
fn after_a_kill_only_who_was_touched_since_is_scored_again_and_the_clusters_are_the_same() {
    let uninterrupted = |numbers| {
        let (rig, mut topic, mut people) = (Rig::new(""), Topic::default(), People::new(2));
        let mut driven = rig.open();
        driven.apply(faces(&mut topic, &mut people, numbers), 1);
        driven.settle(1);
        partition(&driven)
    };
    let (rig, mut topic, mut people) = (Rig::new(OFTEN), Topic::default(), People::new(2));
    let mut driven = rig.open();
    driven.apply(faces(&mut topic, &mut people, 0..300), 1);
    driven.settle(1);
    driven.shard.cut_snapshots(LIMIT);
    drop(driven);
    // From here on none is cut: what comes is the tail.
    let never = rig.with("[state]\nsnapshot_interval = \"0s\"");
    let mut driven = never.open();
    assert_eq!(restored(&driven), (300, 0));
    driven.apply(faces(&mut topic, &mut people, 300..303), 1);
    driven.shard.cut_snapshots(LIMIT);
    drop(driven);

    let mut driven = never.open();
    assert_eq!(restored(&driven), (300, 3));
    let stale = driven.engine("default").stale();
    assert!((3..150).contains(&stale), "{stale} of 303 are stale");
    driven.settle(1);
    assert_eq!(partition(&driven), uninterrupted(0..303));
}

#[test]
fn whatever_is_wrong_with_snapshots_the_clusters_are_the_same() {
    let (rig, mut topic, mut people) = (Rig::new(""), Topic::default(), People::new(3));
    let mut before = BTreeSet::new();
    for numbers in [0..120, 120..130] {
        let mut driven = rig.open();
        driven.apply(faces(&mut topic, &mut people, numbers), 1);
        driven.settle(1);
        before = partition(&driven);
        driven.shard.cut_snapshots(LIMIT);
    }
    let files = snapshots(&rig);
    assert_eq!(files.len(), 2, "{files:?}");
    let never = rig.with("[state]\nsnapshot_interval = \"0s\"");
    for (damaged, expected) in [(0, (130, 0)), (1, (120, 10)), (2, (0, 130))] {
        for file in files.iter().rev().take(damaged) {
            let whole = std::fs::read(file).unwrap();
            std::fs::write(file, &whole[..whole.len() / 2]).unwrap();
        }
        let mut driven = never.open();
        assert_eq!(restored(&driven), expected, "{damaged} are damaged");
        driven.settle(1);
        assert_eq!(partition(&driven), before);
    }
}

#[test]
fn an_erased_face_is_in_no_snapshot_after_two_intervals() {
    let (rig, mut topic, mut people) = (Rig::new(OFTEN), Topic::default(), People::new(4));
    let mut driven = rig.open();
    driven.apply(faces(&mut topic, &mut people, 0..60), 1);
    driven.settle(1);
    finish_snapshots(&mut driven);
    let node = driven.node("default", "face-007").unwrap();
    let mut traces = Traces::default();
    traces.of_vector("g", driven.engine("default").faces().enhanced(node));
    assert!(!traces.found_in(&rig.state().join("snapshots")).is_empty(), "the search finds what is to go");
    driven.apply(vec![topic.erase("default", "face-007")], 2);
    finish_snapshots(&mut driven);
    assert_eq!(traces.found_in(&rig.state().join("snapshots")), BTreeMap::new());
}

#[test]
fn a_disk_that_refuses_snapshots_stops_nobody() {
    let (rig, mut topic, mut people) = (Rig::new(OFTEN), Topic::default(), People::new(5));
    let mut driven = rig.open();
    std::fs::write(rig.state().join("snapshots"), b"in the way").unwrap();
    driven.apply(faces(&mut topic, &mut people, 0..60), 1);
    driven.settle(1);
    common::wait_for("a failure", LIMIT, || {
        driven.shard.idle(Timestamp(1)).unwrap();
        (driven.metrics.snapshot_failures.get() > 0).then_some(())
    });
    driven.apply(faces(&mut topic, &mut people, 60..90), 1);
    assert_eq!(driven.shard.engine(&name("default")).unwrap().len(), 90);
    driven.shard.cut_snapshots(LIMIT);
    drop(driven);
    std::fs::remove_file(rig.state().join("snapshots")).unwrap();
    let mut driven = rig.open();
    assert_eq!(restored(&driven), (0, 90));
    driven.settle(1);
    finish_snapshots(&mut driven);
    assert!(!snapshots(&rig).is_empty());
}
