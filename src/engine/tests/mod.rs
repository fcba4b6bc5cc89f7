//! The engine with the exact index and a model that is easy to follow.

mod converges;
mod endures;
mod events;
mod looks;
mod restores;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;

use super::changes::{Batch, Changes, Constraint, ConstraintKind, Outcome, Request};
use super::cluster::ClusterSettings;
use super::event::Cause;
use super::faces::dot;
use super::index::IndexKind;
use super::retention::Retention;
use super::{Engine, EngineSettings};
use crate::face::{Embedding, Face, FaceId, Offset, Partition, Place, Timestamp};
use crate::model::artefact::{Merging, Rule};
use crate::model::{EdgeFeature, FaceTransformer, ModelError, Neighbourhoods, Shape};

const SHAPE: Shape = Shape { dimension: 4, hop1: 5, hop2: 2 };
const SINGLE: Rule = Rule::Single;
const EVIDENCE: Rule = Rule::Evidence { per_face: 2, cap: 6 };

/// g is the mean of a face and its neighbours; a linkage is the cosine of two g, at least 0, and where there are edge
/// features half of that and their mean, at most 1.
#[derive(Debug, Clone, Copy)]
struct Mean {
    edges: &'static [EdgeFeature],
}

const PLAIN: Mean = Mean { edges: &[] };
const STRUCTURAL: Mean = Mean { edges: &EdgeFeature::ALL };

impl FaceTransformer for Mean {
    fn shape(&self) -> Shape {
        SHAPE
    }

    fn edges(&self) -> &[EdgeFeature] {
        self.edges
    }

    fn encode(&self, rows: &mut Neighbourhoods) -> Result<Vec<f32>, ModelError> {
        let width = SHAPE.dimension;
        let mut enhanced = rows.faces.clone();
        for (row, g) in enhanced.chunks_mut(width).enumerate() {
            let there = rows.mask[row * SHAPE.hop2..][..SHAPE.hop2].iter().filter(|&&there| there).count();
            for neighbour in rows.neighbours[row * SHAPE.hop2 * width..].chunks(width).take(there) {
                g.iter_mut().zip(neighbour).for_each(|(g, value)| *g += value);
            }
            g.iter_mut().for_each(|g| *g /= 1.0 + there as f32);
        }
        Ok(enhanced)
    }

    fn link(&self, rows: &mut Neighbourhoods) -> Result<Vec<f32>, ModelError> {
        let width = SHAPE.dimension;
        let cosine = |a: &[f32], b: &[f32]| {
            let lengths = (dot(a, a) * dot(b, b)).sqrt();
            if lengths > 0.0 { dot(a, b) / lengths } else { 0.0 }
        };
        let linkage = |(place, &there): (usize, &bool)| {
            let face = &rows.faces[place / SHAPE.hop1 * width..][..width];
            let alike = if there { cosine(face, &rows.neighbours[place * width..][..width]).max(0.0) } else { 0.0 };
            match self.edges.len() {
                0 => alike,
                count => {
                    let mean = rows.edges[place * count..][..count].iter().sum::<f32>() / count as f32;
                    (alike / 2.0 + mean).clamp(0.0, 1.0)
                }
            }
        };
        Ok(rows.mask.iter().enumerate().map(linkage).collect())
    }
}

fn settings(rule: Rule) -> EngineSettings {
    let threshold = if rule == SINGLE { 0.95 } else { 0.45 };
    EngineSettings {
        index: IndexKind::Exact,
        clusters: ClusterSettings {
            merging: Merging { rule, threshold, threshold_off: 0.9 * threshold },
            max_component: 1000,
            quality_floor: 0.3,
        },
        retention: Retention::default(),
    }
}

fn engine(rule: Rule) -> Engine {
    Engine::new(&settings(rule), Arc::new(PLAIN))
}

fn id(number: usize) -> FaceId {
    FaceId::new(&format!("{number:04}")).unwrap()
}

fn face(number: usize, values: &[f32]) -> Face {
    Face {
        id: id(number),
        embedding: Embedding::normalise(values, SHAPE.dimension).unwrap(),
        frame_id: None,
        quality: None,
        captured_at: None,
        place: Place { partition: Partition(0), offset: Offset(number as i64) },
    }
}

fn erase(number: usize) -> Request {
    Request::Erase { face: id(number), cause: Cause::Api }
}

fn constraint(kind: ConstraintKind, a: usize, b: usize) -> Request {
    Request::Constrain(Constraint { kind, a: id(a), b: id(b), by: "test".to_string(), at: Timestamp(0) })
}

fn apply(engine: &mut Engine, requests: Vec<Request>, refresh_budget: usize) -> Changes {
    engine.apply(Batch { requests, refresh_budget, idle: false, now: Timestamp(1) }, &mut ()).unwrap()
}

fn apply_faces(engine: &mut Engine, faces: &[Face], refresh_budget: usize) -> Changes {
    apply(engine, faces.iter().cloned().map(Request::Face).collect(), refresh_budget)
}

/// Quiet moments until nothing is left to do.
fn settle(engine: &mut Engine) -> Vec<Changes> {
    let mut all = Vec::new();
    while engine.has_work(Timestamp(1)) {
        assert!(all.len() < 10_000, "it never settles");
        let batch = Batch { refresh_budget: 7, idle: true, now: Timestamp(1), ..Batch::default() };
        all.push(engine.apply(batch, &mut ()).unwrap());
    }
    all
}

/// Who is together: by face_id, each cluster by its first face.
fn partition(engine: &Engine) -> BTreeMap<FaceId, FaceId> {
    let mut clusters: BTreeMap<_, BTreeSet<FaceId>> = BTreeMap::new();
    for node in engine.faces().live() {
        let cluster = engine.clusters().book().cluster_of(node).unwrap();
        clusters.entry(cluster).or_default().insert(engine.faces().id(node).clone());
    }
    let named = clusters.into_values().flat_map(|faces| {
        let first = faces.first().unwrap().clone();
        faces.into_iter().map(move |face| (face, first.clone()))
    });
    named.collect()
}

/// A few people, in small whole numbers: many near duplicates and ties.
fn embedding() -> impl Strategy<Value = Vec<f32>> {
    let value = (-4i8..=4).prop_map(f32::from);
    prop::collection::vec(value, SHAPE.dimension).prop_filter("no direction", |row| row.iter().any(|v| *v != 0.0))
}

/// What happens to a collection of at most `NUMBERS` faces.
const NUMBERS: usize = 40;

fn request() -> impl Strategy<Value = Request> {
    let number = || 0..NUMBERS;
    let arrival = (number(), embedding(), prop::option::of(0..12usize), prop::option::of(0u8..=4)).prop_map(
        |(number, values, frame, quality)| {
            let frame_id = frame.map(|frame| FaceId::new(&format!("frame {frame}")).unwrap());
            let quality = quality.map(|quality| f32::from(quality) / 4.0);
            Request::Face(Face { frame_id, quality, ..face(number, &values) })
        },
    );
    prop_oneof![
        12 => arrival,
        3 => number().prop_map(erase),
        1 => (number(), number()).prop_map(|(a, b)| constraint(ConstraintKind::MustLink, a, b)),
        1 => (number(), number()).prop_map(|(a, b)| constraint(ConstraintKind::CannotLink, a, b)),
        1 => (number(), number()).prop_map(|(a, b)| Request::Release { a: id(a), b: id(b) }),
    ]
}

/// Batches of requests, each with its refresh budget.
fn stream() -> impl Strategy<Value = Vec<(Vec<Request>, usize)>> {
    prop::collection::vec((prop::collection::vec(request(), 0..12), 0..6usize), 1..12)
}

fn model() -> impl Strategy<Value = Mean> {
    prop_oneof![Just(PLAIN), Just(STRUCTURAL)]
}

fn rule() -> impl Strategy<Value = Rule> {
    prop_oneof![Just(SINGLE), Just(EVIDENCE)]
}

#[test]
fn a_face_met_again_is_a_duplicate_or_replaced() {
    let mut engine = engine(SINGLE);
    let first = face(1, &[1.0, 0.0, 0.0, 0.0]);
    let other = Face { embedding: face(1, &[0.0, 1.0, 0.0, 0.0]).embedding, ..first.clone() };
    let changes = apply_faces(&mut engine, &[first.clone(), first.clone(), other.clone(), other.clone()], 0);
    assert_eq!(changes.outcomes, [Outcome::Added, Outcome::Duplicate, Outcome::Replaced, Outcome::Duplicate]);
    assert_eq!((changes.faces.len(), changes.vectors.len(), changes.events.len()), (1, 1, 1));
    assert_eq!(changes.vectors[0].embedding, other.embedding);
    let changes = apply_faces(&mut engine, std::slice::from_ref(&other), 0);
    assert_eq!(changes.outcomes, [Outcome::Duplicate]);
    assert!(changes.is_empty());
    assert_eq!(apply_faces(&mut engine, &[first], 0).outcomes, [Outcome::Replaced]);
    assert_eq!(engine.len(), 1);
}

#[test]
fn what_is_not_there_cannot_be_erased() {
    let mut engine = engine(SINGLE);
    let changes = apply(&mut engine, vec![erase(1), Request::Face(face(1, &[1.0, 0.0, 0.0, 0.0])), erase(1)], 0);
    assert!(matches!(changes.outcomes[..], [Outcome::Rejected(_), Outcome::Added, Outcome::Erased(1)]));
    assert!(engine.is_empty() && changes.events.is_empty() && changes.faces.is_empty());
}

#[test]
fn the_budget_bounds_who_is_scored_again_and_the_most_changed_come_first() {
    let mut engine = engine(SINGLE);
    let old: Vec<Face> = (0..4).map(|i| face(i, &[1.0, 0.2 * i as f32, 0.0, 0.0])).collect();
    apply_faces(&mut engine, &old, 0);
    let changes = apply_faces(&mut engine, &[face(9, &[1.0, 0.61, 0.0, 0.0])], 1);
    assert_eq!((changes.work.affected, changes.work.refreshed, changes.work.linked), (4, 1, 2));
    assert_eq!(engine.stale(), 3);
    let scored: Vec<u32> = changes.linkages.iter().map(|linkages| linkages.node.0).collect();
    assert_eq!(scored, [3, 4], "the newcomer, and the face nearest to it");
}

#[test]
fn who_stands_between_clusters_comes_before_who_does_not() {
    let mut engine = engine(SINGLE);
    let [alone, near, far] = [[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.6, 0.8]];
    let old = [alone, alone, alone, near, near, near, far, far, far];
    let old: Vec<Face> = old.iter().enumerate().map(|(number, values)| face(number, values)).collect();
    apply_faces(&mut engine, &old, 0);
    let changes = apply_faces(&mut engine, &[face(9, &[0.75, 0.0, 0.65, 0.0])], 1);
    assert_eq!((changes.work.affected, changes.work.refreshed), (6, 1));
    let scored: Vec<u32> = changes.linkages.iter().map(|linkages| linkages.node.0).collect();
    assert_eq!(scored, [3, 9], "the newcomer, and not those that are nearer to it");
}

/// Under `evidence` a pair weighs the mean of its two directions, and for a newcomer's there is no budget here.
#[test]
fn what_a_newcomer_says_of_a_stale_face_stands_for_both() {
    let old = [face(0, &[1.0, 0.0, 0.0, 0.0])];
    let newcomer = [face(1, &[0.7, 0.7, 0.0, 0.0])];
    let mut one_by_one = engine(Rule::Evidence { per_face: 1, cap: 6 });
    apply_faces(&mut one_by_one, &old, 0);
    let changes = apply_faces(&mut one_by_one, &newcomer, 0);
    assert_eq!((changes.work.refreshed, one_by_one.stale()), (0, 1));
    assert_eq!(partition(&one_by_one).len(), 2);
    let clusters = |engine: &Engine| partition(engine).into_values().collect::<BTreeSet<_>>().len();
    assert_eq!(clusters(&one_by_one), 1, "half of the evidence would not do");
    settle(&mut one_by_one);
    assert_eq!(clusters(&one_by_one), 1, "nor does it hang on what is presumed");
}

#[test]
fn retention_lets_the_oldest_go_first() {
    let keep = |max_age, max_faces| {
        let retention = Retention { max_age, max_faces };
        Engine::new(&EngineSettings { retention, ..settings(SINGLE) }, Arc::new(PLAIN))
    };
    let at = |number: usize, time: i64| Face {
        captured_at: Some(Timestamp(time)),
        ..face(number, &[1.0, number as f32, 0.0, 0.0])
    };
    let batch = |engine: &mut Engine, faces: Vec<Face>, now| {
        let requests = faces.into_iter().map(Request::Face).collect();
        engine.apply(Batch { requests, now: Timestamp(now), ..Batch::default() }, &mut ()).unwrap()
    };
    let ids = |engine: &Engine| partition(engine).into_keys().collect::<Vec<_>>();

    let mut engine = keep(None, Some(3));
    batch(&mut engine, vec![at(1, 30), at(2, 10), at(3, 20)], 100);
    let changes = batch(&mut engine, vec![at(4, 40), at(5, 50)], 100);
    assert_eq!((ids(&engine), changes.work.expired), (vec![id(1), id(4), id(5)], 2));
    let expired = changes.events.iter().filter(|event| event.cause == Cause::Expired).count();
    assert_eq!((expired, changes.gone_ids), (2, vec![id(2), id(3)]));

    let mut engine = keep(Some(50), None);
    batch(&mut engine, vec![at(1, 30), at(2, 1_000_000)], 60);
    let late = batch(&mut engine, vec![at(3, 5)], 60);
    assert!(matches!(late.outcomes[..], [Outcome::Rejected(_)]), "it came too late to be kept");
    assert!(!engine.has_work(Timestamp(80)) || !engine.is_settled() || engine.len() == 2);
    batch(&mut engine, vec![], 81);
    assert_eq!(ids(&engine), [id(2)], "from the future counts from when it came");
    batch(&mut engine, vec![], 111);
    assert!(engine.is_empty());
}
