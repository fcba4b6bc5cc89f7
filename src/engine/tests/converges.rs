//! Whatever a stream was, once settled it is what one batch of the same faces would be.

use super::*;
use crate::engine::encode::encode;
use crate::engine::link::link;
use crate::face::NodeId;

/// Every neighbourhood by comparing everyone with everyone.
pub(super) fn brute_force(engine: &Engine, node: NodeId) -> Vec<NodeId> {
    let faces = engine.faces();
    let mut others: Vec<NodeId> = faces.live().filter(|&other| other != node).collect();
    let similarity = |other: NodeId| faces.similarity(node, other);
    others.sort_by(|&a, &b| similarity(b).total_cmp(&similarity(a)).then_with(|| faces.id(a).cmp(faces.id(b))));
    others.truncate(SHAPE.hop1);
    others
}

/// A fresh engine that is given the same faces and words at once. None: a replacement has put a word in contradiction with
/// a frame, and such a word stands but cannot be given anew.
fn batch_of(engine: &Engine, settings: &EngineSettings, words: &[Constraint]) -> Option<Engine> {
    let mut batch = Engine::new(settings, engine.model.clone());
    let mut faces: Vec<Face> = engine
        .faces()
        .live()
        .map(|node| {
            let known = engine.faces().known(node).clone();
            Face {
                id: known.id,
                embedding: Embedding::from_normalised(engine.faces().embedding(node)),
                frame_id: known.frame,
                quality: known.quality,
                captured_at: known.captured_at,
                place: known.place,
            }
        })
        .collect();
    faces.sort_by(|a, b| a.id.cmp(&b.id));
    apply_faces(&mut batch, &faces, 0);
    let given = apply(&mut batch, words.iter().cloned().map(Request::Constrain).collect(), 0);
    settle(&mut batch);
    let is_taken = |outcome: &Outcome| !matches!(outcome, Outcome::Rejected(_));
    given.outcomes.iter().all(is_taken).then_some(batch)
}

/// Every linkage that is held, by face_id.
fn linkages(engine: &Engine) -> BTreeMap<(FaceId, FaceId), String> {
    let id = |node: NodeId| engine.faces().id(node).clone();
    let held = engine.clusters().linkages();
    let of =
        |node| held.partners(node).map(move |partner| ((id(node), id(partner.node)), format!("{:?}", partner.weight)));
    engine.faces().live().flat_map(of).collect()
}

/// The words that stand after some changes.
#[derive(Default)]
pub(super) struct Words(pub(super) BTreeMap<(FaceId, FaceId), Constraint>);

impl Words {
    pub(super) fn hear(&mut self, changes: &Changes) {
        for word in &changes.constraints {
            let (a, b) = (word.a.clone().min(word.b.clone()), word.a.clone().max(word.b.clone()));
            self.0.insert((a, b), word.clone());
        }
        for released in &changes.released {
            self.0.remove(&(released.a.clone(), released.b.clone()));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn a_settled_stream_is_the_batch(model in model(), rule in rule(), stream in stream(), max_component in 1usize..30) {
        let mut settings = settings(rule);
        settings.clusters.max_component = max_component;
        let mut engine = Engine::new(&settings, Arc::new(model));
        let mut words = Words::default();
        for (requests, budget) in stream {
            words.hear(&apply(&mut engine, requests, budget));
        }
        settle(&mut engine);

        // Nothing is stale: neighbourhoods, g and linkages are what they would be if computed now.
        let nodes: Vec<NodeId> = engine.faces().live().collect();
        for &node in &nodes {
            let found: Vec<NodeId> = engine.graph().neighbourhood(node).iter().map(|n| n.node).collect();
            prop_assert_eq!(found, brute_force(&engine, node), "neighbourhood of {}", node);
        }
        let kept = engine.faces.enhanced.clone();
        encode(&model, &engine.graph, &mut engine.faces, &nodes).unwrap();
        for &node in &nodes {
            prop_assert_eq!(kept.row(node), engine.faces.enhanced(node), "g of {}", node);
        }
        for scored in link(&model, &engine.graph, &engine.faces, &nodes).unwrap() {
            for partner in engine.clusters.linkages().partners(scored.node) {
                let there = engine.faces.is_live(partner.node);
                prop_assert!(there, "{} has a linkage to somebody gone", scored.node);
            }
            let held: Vec<NodeId> = engine.clusters.linkages().partners(scored.node).map(|p| p.node).collect();
            for linkage in &scored.linkages {
                prop_assert!(held.contains(&linkage.candidate));
            }
        }

        let words: Vec<Constraint> = words.0.into_values().collect();
        let batch = batch_of(&engine, &settings, &words);
        prop_assume!(batch.is_some());
        let batch = batch.unwrap();
        prop_assert_eq!(linkages(&engine), linkages(&batch));
        prop_assert_eq!(partition(&engine), partition(&batch));
    }

    /// Same input, same batches, same events.
    #[test]
    fn a_stream_is_deterministic(rule in rule(), stream in stream()) {
        let run = || {
            let mut engine = engine(rule);
            let mut events: Vec<_> =
                stream.iter().cloned().flat_map(|(requests, budget)| apply(&mut engine, requests, budget).events).collect();
            events.extend(settle(&mut engine).into_iter().flat_map(|changes| changes.events));
            events
        };
        prop_assert_eq!(run(), run());
    }

    #[test]
    fn what_must_not_be_together_never_is(rule in rule(), stream in stream()) {
        let mut engine = engine(rule);
        let mut words = Words::default();
        for (requests, budget) in stream {
            words.hear(&apply(&mut engine, requests, budget));
            let mut frames: BTreeSet<(crate::face::ClusterId, FaceId)> = BTreeSet::new();
            for node in engine.faces().live() {
                let cluster = engine.clusters().book().cluster_of(node).unwrap();
                if let Some(frame) = engine.faces().frame(node) {
                    prop_assert!(frames.insert((cluster, frame.clone())), "two of {} are one person", frame);
                }
            }
            let together = partition(&engine);
            for word in words.0.values() {
                if word.kind == ConstraintKind::CannotLink {
                    prop_assert_ne!(&together[&word.a], &together[&word.b]);
                }
            }
        }
    }
}
