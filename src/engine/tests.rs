//! The engine with the exact index and a model that is easy to follow.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::faces::dot;
use super::*;
use crate::face::{Offset, Partition, Place};
use crate::model::artefact::Rule;
use crate::model::{Neighbourhoods, Shape};

const SHAPE: Shape = Shape { dimension: 4, hop1: 5, hop2: 2 };

/// g is the mean of a face and its neighbours; a linkage is the cosine of two g, at least 0.
struct Mean;

impl FaceTransformer for Mean {
    fn shape(&self) -> Shape {
        SHAPE
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
        let cosine = |a: &[f32], b: &[f32]| dot(a, b) / (dot(a, a) * dot(b, b)).sqrt();
        let linkage = |(place, &there): (usize, &bool)| {
            let face = &rows.faces[place / SHAPE.hop1 * width..][..width];
            if there { cosine(face, &rows.neighbours[place * width..][..width]).max(0.0) } else { 0.0 }
        };
        Ok(rows.mask.iter().enumerate().map(linkage).collect())
    }
}

fn engine() -> Engine {
    let merging = Merging { rule: Rule::Single, threshold: 0.95 };
    Engine::new(&EngineSettings { index: IndexKind::Exact, merging }, Arc::new(Mean))
}

fn face(number: usize, values: &[f32]) -> Face {
    Face {
        id: FaceId::new(&format!("{number:04}")).unwrap(),
        embedding: Embedding::normalise(values, SHAPE.dimension).unwrap(),
        frame_id: None,
        quality: None,
        captured_at: None,
        place: Place { partition: Partition(0), offset: Offset(number as i64) },
    }
}

fn apply(engine: &mut Engine, faces: &[Face], refresh_budget: usize) -> Changes {
    engine.apply(Batch { faces: faces.to_vec(), refresh_budget, now: Timestamp(1) }, &mut ()).unwrap()
}

/// Every neighbourhood by comparing everyone with everyone.
fn brute_force(faces: &[Face]) -> Vec<Vec<usize>> {
    let near = |a: usize| {
        let mut others: Vec<usize> = (0..faces.len()).filter(|&b| b != a).collect();
        let similarity = |b: usize| dot(faces[a].embedding.values(), faces[b].embedding.values());
        others.sort_by(|&b, &c| similarity(c).total_cmp(&similarity(b)).then(faces[b].id.cmp(&faces[c].id)));
        others.truncate(SHAPE.hop1);
        others
    };
    (0..faces.len()).map(near).collect()
}

fn embeddings() -> impl Strategy<Value = Vec<Vec<f32>>> {
    let value = (-4i8..=4).prop_map(f32::from);
    let row =
        prop::collection::vec(value, SHAPE.dimension).prop_filter("no direction", |row| row.iter().any(|v| *v != 0.0));
    prop::collection::vec(row, 1..40)
}

proptest! {
    /// However a stream is cut into batches, neighbourhoods are those of brute force and every `g`
    /// is RE of the neighbourhood as it is; small whole numbers make many ties.
    #[test]
    fn neighbourhoods_and_g_are_never_stale_with_the_exact_index(rows in embeddings(), batch in 1usize..12) {
        let faces: Vec<Face> = rows.iter().enumerate().map(|(number, row)| face(number, row)).collect();
        let mut engine = engine();
        for part in faces.chunks(batch) {
            apply(&mut engine, part, 3);
        }
        let expected = brute_force(&faces);
        for node in nodes(0..faces.len()) {
            let found: Vec<usize> = engine.graph().neighbourhood(node).iter().map(|n| n.node.index()).collect();
            prop_assert_eq!(&found, &expected[node.index()], "face {}", node);
        }
        let kept = engine.faces.enhanced.clone();
        let all: Vec<NodeId> = nodes(0..faces.len()).collect();
        encode::encode(&Mean, &engine.graph, &mut engine.faces, &all).unwrap();
        for &node in &all {
            prop_assert_eq!(kept.row(node), engine.faces.enhanced(node), "g of {}", node);
        }
    }

    /// Same input, same batches, same events; each face in exactly one cluster, sizes adding up.
    #[test]
    fn a_stream_is_deterministic_and_accounts_for_every_face(rows in embeddings(), batch in 1usize..12) {
        let faces: Vec<Face> = rows.iter().enumerate().map(|(number, row)| face(number, row)).collect();
        let run = || {
            let mut engine = engine();
            let events: Vec<Event> = faces.chunks(batch).flat_map(|part| apply(&mut engine, part, 3).events).collect();
            (engine, events)
        };
        let (engine, events) = run();
        prop_assert_eq!(&events, &run().1);
        let mut sizes: BTreeMap<ClusterId, u32> = BTreeMap::new();
        for node in nodes(0..faces.len()) {
            *sizes.entry(engine.clusters().cluster_of(node)).or_default() += 1;
        }
        let living = engine.clusters().records().iter().filter(|cluster| cluster.merged_into.is_none());
        let kept: BTreeMap<ClusterId, u32> = living.map(|cluster| (cluster.id, cluster.size)).collect();
        prop_assert_eq!(sizes, kept);
    }
}

#[test]
fn a_face_met_again_is_a_duplicate_or_a_conflict() {
    let mut engine = engine();
    let first = face(1, &[1.0, 0.0, 0.0, 0.0]);
    let other = Face { embedding: face(1, &[0.0, 1.0, 0.0, 0.0]).embedding, ..first.clone() };
    let changes = apply(&mut engine, &[first.clone(), first.clone(), other.clone()], 0);
    assert!(matches!(changes.outcomes[..], [Outcome::Added(_), Outcome::Duplicate, Outcome::Rejected(_)]));
    let changes = apply(&mut engine, &[other, first], 0);
    assert!(matches!(changes.outcomes[..], [Outcome::Rejected(_), Outcome::Duplicate]));
    assert!(changes.events.is_empty() && engine.len() == 1);
}

#[test]
fn the_budget_bounds_who_is_scored_again_and_the_nearest_come_first() {
    let mut engine = engine();
    let old: Vec<Face> = (0..4).map(|i| face(i, &[1.0, 0.2 * i as f32, 0.0, 0.0])).collect();
    apply(&mut engine, &old, 0);
    let changes = apply(&mut engine, &[face(9, &[1.0, 0.61, 0.0, 0.0])], 1);
    assert_eq!((changes.work.affected, changes.work.deferred, changes.work.linked), (4, 3, 2));
    let scored: Vec<u32> = changes.scored.iter().map(|scored| scored.node.0).collect();
    assert_eq!(scored, [4, 3], "the newcomer, and the face nearest to it");
}

#[test]
fn a_restored_engine_goes_on_as_if_it_had_never_stopped() {
    let faces: Vec<Face> = (0..30).map(|i| face(i, &[1.0, (i % 5) as f32, (i % 3) as f32, 0.01 * i as f32])).collect();
    let mut whole = engine();
    apply(&mut whole, &faces[..20], 3);
    let restored = Restored {
        faces: faces[..20]
            .iter()
            .zip(nodes(0..20))
            .map(|(face, node)| RestoredFace {
                id: face.id.clone(),
                embedding: face.embedding.clone(),
                home: whole.clusters().home(node),
            })
            .collect(),
        clusters: whole.clusters().records().to_vec(),
        sequence: whole.clusters().sequence(),
    };
    let merging = Merging { rule: Rule::Single, threshold: 0.95 };
    let settings = EngineSettings { index: IndexKind::Exact, merging };
    let mut again = Engine::restore(&settings, Arc::new(Mean), restored).unwrap();
    let (left, right) = (apply(&mut whole, &faces[20..], 3), apply(&mut again, &faces[20..], 3));
    assert_eq!(left.events, right.events);
    assert_eq!(left.scored, right.scored);
    assert_eq!(left.work, right.work);
}
