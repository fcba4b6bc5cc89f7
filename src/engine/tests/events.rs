//! A reader of the events alone knows what the engine knows, after every batch.

use super::*;
use crate::engine::event::{Change, Cluster, Event, EventType};
use crate::face::ClusterId;

/// What a reader of the events knows.
#[derive(Default)]
pub(super) struct Reader {
    sequence: u64,
    homes: BTreeMap<FaceId, ClusterId>,
    records: BTreeMap<ClusterId, Cluster>,
    seen: BTreeMap<EventType, usize>,
}

impl Reader {
    pub(super) fn read(&mut self, event: &Event) {
        self.sequence += 1;
        assert_eq!(event.sequence, self.sequence, "the sequence has a gap");
        *self.seen.entry(event.change.event_type()).or_default() += 1;
        match event.change.clone() {
            Change::Created { cluster, face } => {
                assert!(!self.records.contains_key(&cluster.id), "an id came back");
                self.enter(face, cluster, 0);
            }
            Change::Joined { cluster, face, size_before } => self.enter(face, cluster, size_before),
            Change::Merged { cluster, merged, size_before } => {
                assert_eq!(self.size(cluster.id), size_before);
                assert_eq!(self.size(merged.id), merged.size);
                assert_eq!(cluster.size, size_before + merged.size);
                assert!(merged.merged_into == Some(cluster.id));
                let older = (!cluster.pinned, cluster.id) < (!merged.pinned, merged.id);
                assert!(older, "the younger stayed");
                self.records.insert(cluster.id, cluster);
                self.records.insert(merged.id, merged);
            }
            Change::Split { cluster, into, face, size_before, .. } => {
                assert!(!self.records.contains_key(&into.id), "an id came back");
                self.migrate(face, cluster, into, size_before);
            }
            Change::Left { cluster, into, face, size_before, .. } => self.migrate(face, cluster, into, size_before),
            Change::Erased { cluster, face, size_before } => {
                assert_eq!((self.size(cluster.id), cluster.size + 1), (size_before, size_before));
                self.homes.remove(&face).expect("it was there");
                self.records.insert(cluster.id, cluster);
            }
            Change::Settled { faces, clusters } => {
                assert_eq!(faces as usize, self.homes.len());
                assert_eq!(clusters as usize, self.records.values().filter(|cluster| cluster.lives()).count());
            }
        }
        for retired in &event.retired {
            self.records.remove(retired).expect("a record ends once");
        }
    }

    fn enter(&mut self, face: FaceId, cluster: Cluster, size_before: u32) {
        assert_eq!((self.size(cluster.id), cluster.size), (size_before, size_before + 1));
        assert_eq!(self.homes.insert(face, cluster.id), None);
        self.records.insert(cluster.id, cluster);
    }

    fn migrate(&mut self, face: FaceId, cluster: Cluster, into: Cluster, size_before: u32) {
        assert_eq!((self.size(cluster.id), cluster.size + 1), (size_before, size_before));
        assert_eq!(self.size(into.id) + 1, into.size);
        assert_eq!(self.cluster_of(&face), cluster.id, "it left a cluster it was not in");
        self.homes.insert(face, into.id);
        self.records.insert(cluster.id, cluster);
        self.records.insert(into.id, into);
    }

    fn size(&self, id: ClusterId) -> u32 {
        self.records.get(&id).map_or(0, |cluster| cluster.size)
    }

    fn cluster_of(&self, face: &FaceId) -> ClusterId {
        let mut id = self.homes[face];
        while let Some(into) = self.records[&id].merged_into {
            id = into;
        }
        id
    }

    pub(super) fn agrees_with(&self, engine: &Engine) {
        let book = engine.clusters().book();
        assert_eq!(self.homes.len(), engine.len());
        let mut sizes: BTreeMap<ClusterId, u32> = BTreeMap::new();
        for node in engine.faces().live() {
            let cluster = book.cluster_of(node).unwrap();
            assert_eq!(self.cluster_of(engine.faces().id(node)), cluster);
            *sizes.entry(cluster).or_default() += 1;
        }
        let kept: BTreeMap<ClusterId, Cluster> = book.records().map(|cluster| (cluster.id, cluster.clone())).collect();
        let living = kept.values().filter(|cluster| cluster.lives()).map(|cluster| (cluster.id, cluster.size));
        assert_eq!(sizes, living.collect());
        let sizes = |records: &BTreeMap<ClusterId, Cluster>| {
            records.values().map(|c| (c.id, c.merged_into, c.size)).collect::<Vec<_>>()
        };
        assert_eq!(sizes(&self.records), sizes(&kept), "records that nobody needs, or needed ones that ended");
        assert_eq!(book.living(), kept.values().filter(|cluster| cluster.lives()).count());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn the_events_tell_the_clusters(rule in rule(), stream in stream(), pins in prop::collection::vec(1u64..20, 0..4)) {
        let mut engine = engine(rule);
        let mut reader = Reader::default();
        for (number, (mut requests, budget)) in stream.into_iter().enumerate() {
            if let Some(&pin) = pins.get(number) {
                requests.push(Request::Describe { cluster: ClusterId(pin), pinned: true, name: None });
            }
            apply(&mut engine, requests, budget).events.iter().for_each(|event| reader.read(event));
            reader.agrees_with(&engine);
        }
        settle(&mut engine).iter().flat_map(|changes| &changes.events).for_each(|event| reader.read(event));
        reader.agrees_with(&engine);
        prop_assert!(reader.sequence == 0 || reader.seen.contains_key(&EventType::Settled));
    }
}

fn types(changes: &[Changes]) -> Vec<EventType> {
    changes.iter().flat_map(|changes| &changes.events).map(|event| event.change.event_type()).collect()
}

/// Two people of three faces each, and between them somebody who links both.
fn bridge() -> (Engine, Vec<Face>) {
    let mut engine = engine(SINGLE);
    let rows = [
        [1.0, 0.0, 0.0, 0.0],
        [1.0, 0.02, 0.0, 0.0],
        [1.0, 0.04, 0.0, 0.0],
        [1.0, 0.5, 0.0, 0.0],
        [1.0, 0.52, 0.0, 0.0],
        [1.0, 0.54, 0.0, 0.0],
    ];
    let faces: Vec<Face> = rows.iter().enumerate().map(|(number, row)| face(number, row)).collect();
    apply_faces(&mut engine, &faces, 100);
    settle(&mut engine);
    (engine, faces)
}

#[test]
fn erasing_the_bridge_splits_a_cluster_and_the_oldest_part_keeps_the_id() {
    let (mut engine, _) = bridge();
    assert_eq!(engine.clusters().book().living(), 2);
    let joined = apply_faces(&mut engine, &[face(8, &[1.0, 0.26, 0.0, 0.0])], 100);
    assert!(types(&[joined]).contains(&EventType::Merged));
    settle(&mut engine);
    assert_eq!(engine.clusters().book().living(), 1);
    let mut told = vec![apply(&mut engine, vec![erase(8)], 100)];
    told.extend(settle(&mut engine));
    assert_eq!(
        types(&told),
        [EventType::Erased, EventType::Split, EventType::Left, EventType::Left, EventType::Settled]
    );
    let book = engine.clusters().book();
    let cluster = |number| book.cluster_of(engine.faces().node(&id(number)).unwrap()).unwrap();
    assert_eq!((cluster(0), cluster(2)), (ClusterId(1), ClusterId(1)));
    assert!(cluster(3) > ClusterId(2), "the id that merged away does not come back");
    assert_eq!(cluster(3), cluster(5));
}

#[test]
fn a_pinned_cluster_outlives_an_older_one() {
    let (mut engine, _) = bridge();
    let younger = engine.clusters().book().records().map(|cluster| cluster.id).max().unwrap();
    let pin = Request::Describe { cluster: younger, pinned: true, name: Some("Ada".to_string()) };
    apply(&mut engine, vec![pin], 0);
    let changes = apply_faces(&mut engine, &[face(8, &[1.0, 0.26, 0.0, 0.0])], 100);
    let merged = changes.events.iter().find_map(|event| match &event.change {
        Change::Merged { cluster, merged, .. } => Some((cluster.clone(), merged.id)),
        _ => None,
    });
    let (cluster, merged) = merged.expect("the bridge merges them");
    assert_eq!((cluster.id, cluster.name.as_deref(), merged), (younger, Some("Ada"), ClusterId(1)));

    // Who asks for the one that merged is told where it went.
    let outcomes = apply(&mut engine, vec![Request::EraseCluster { cluster: merged }], 0).outcomes;
    let [Outcome::Rejected(rejection)] = &outcomes[..] else { panic!("{outcomes:?}") };
    assert_eq!(rejection.detail, format!("cluster {merged} went into cluster {younger}; name that one"));
}

#[test]
fn a_name_too_long_changes_nothing() {
    let (mut engine, _) = bridge();
    let describe = |name: String| Request::Describe { cluster: ClusterId(1), pinned: true, name: Some(name) };
    let before = engine.clusters().book().get(ClusterId(1)).cloned();
    // Bytes count, not characters.
    let changes = apply(&mut engine, vec![describe("é".repeat(129))], 0);
    let [Outcome::Rejected(rejection)] = &changes.outcomes[..] else { panic!("{:?}", changes.outcomes) };
    assert_eq!(rejection.to_string(), "bad_name: the name is 258 bytes long, at most 256 are accepted");
    assert_eq!(engine.clusters().book().get(ClusterId(1)).cloned(), before);
    let changes = apply(&mut engine, vec![describe("é".repeat(128))], 0);
    assert_eq!(changes.outcomes, [Outcome::Done]);
    assert_eq!(changes.described.len(), 1);
}

#[test]
fn a_poor_picture_joins_but_does_not_bridge() {
    let (mut engine, _) = bridge();
    let poor = Face { quality: Some(0.1), ..face(8, &[1.0, 0.26, 0.0, 0.0]) };
    apply_faces(&mut engine, &[poor], 100);
    settle(&mut engine);
    let book = engine.clusters().book();
    let cluster = |number| book.cluster_of(engine.faces().node(&id(number)).unwrap()).unwrap();
    assert_eq!(book.living(), 2, "it joined one of them");
    assert_ne!(cluster(0), cluster(3));
}

#[test]
fn an_operators_word_is_obeyed_and_contradictions_are_refused() {
    let (mut engine, _) = bridge();
    let rejected = |changes: &Changes| matches!(changes.outcomes[..], [Outcome::Rejected(_)]);
    let must = |a, b| constraint(ConstraintKind::MustLink, a, b);
    let cannot = |a, b| constraint(ConstraintKind::CannotLink, a, b);
    let changes = apply(&mut engine, vec![must(0, 3)], 0);
    assert_eq!((changes.outcomes.clone(), engine.clusters().book().living()), (vec![Outcome::Done], 1));
    assert_eq!(changes.events[0].cause, Cause::Api);
    assert_eq!(apply(&mut engine, vec![must(3, 0)], 0).outcomes, [Outcome::Duplicate]);
    assert!(rejected(&apply(&mut engine, vec![cannot(0, 3)], 0)), "the opposite of a word");
    assert!(rejected(&apply(&mut engine, vec![must(1, 1)], 0)), "a face with itself");
    assert!(rejected(&apply(&mut engine, vec![must(1, 77)], 0)), "somebody unknown");
    apply(&mut engine, vec![must(3, 4)], 0);
    assert!(rejected(&apply(&mut engine, vec![cannot(0, 4)], 0)), "tied together by way of 3");
    apply(&mut engine, vec![Request::Release { a: id(0), b: id(3) }, cannot(0, 4)], 0);
    assert!(rejected(&apply(&mut engine, vec![must(0, 3)], 0)), "3 is tied to 4");
    assert_eq!(engine.clusters().book().living(), 2);
    apply(&mut engine, vec![cannot(0, 1)], 0);
    settle(&mut engine);
    let book = engine.clusters().book();
    let cluster = |number| book.cluster_of(engine.faces().node(&id(number)).unwrap()).unwrap();
    assert_ne!(cluster(0), cluster(1), "they linked, and are kept apart");
}
