//! Whatever comes at once: components too large to compute, restarts at any moment, quiet moments
//! between batches, whole people erased, pins, frames and words that contradict a later picture.
//! After every batch a reader of the events and the store agree with the engine; whenever it says that
//! it is settled, its clusters are the merging rule on its linkages, and those are of what is there.

use super::converges::{Words, brute_force};
use super::events::Reader;
use super::restores::Kept;
use super::*;
use crate::engine::encode::encode;
use crate::engine::link::link;
use crate::engine::merging::{self, Item, Pair, Together};
use crate::face::{ClusterId, NodeId};

#[derive(Debug, Clone)]
struct Turn {
    requests: Vec<Request>,
    refresh_budget: usize,
    idle: bool,
    /// Cuts a snapshot before it.
    cuts: bool,
    /// Restarts before it, from a snapshot of that age; more than there are: without one.
    restarts: Option<usize>,
}

fn any_request() -> impl Strategy<Value = Request> {
    prop_oneof![
        30 => request(),
        4 => (0..NUMBERS).prop_map(erase),
        3 => (0..NUMBERS, 0..NUMBERS).prop_map(|(a, b)| constraint(ConstraintKind::MustLink, a, b)),
        2 => (1u64..40).prop_map(|id| Request::Describe { cluster: ClusterId(id), pinned: true, name: None }),
        1 => (1u64..40).prop_map(|id| Request::EraseCluster { cluster: ClusterId(id) }),
    ]
}

fn turns() -> impl Strategy<Value = Vec<Turn>> {
    let requests = prop::collection::vec(any_request(), 0..14);
    let restarts = prop::option::weighted(0.25, 0..4usize);
    let turn = (requests, 0..8usize, prop::bool::weighted(0.3), prop::bool::weighted(0.3), restarts);
    let turn = turn.prop_map(|(requests, refresh_budget, idle, cuts, restarts)| Turn {
        requests,
        refresh_budget,
        idle,
        cuts,
        restarts,
    });
    prop::collection::vec(turn, 1..16)
}

/// The merging rule over all faces at once, on the linkages as they are.
fn pure(engine: &Engine, settings: &EngineSettings, words: &Words) -> BTreeMap<FaceId, FaceId> {
    let faces = engine.faces();
    let mut nodes: Vec<NodeId> = faces.live().collect();
    nodes.sort_by(|&a, &b| faces.id(a).cmp(faces.id(b)));
    let number: BTreeMap<NodeId, u32> = nodes.iter().copied().zip(0..).collect();
    let mut component = merging::Component::default();
    let mut frames: BTreeMap<&FaceId, Vec<u32>> = BTreeMap::new();
    for (&node, a) in nodes.iter().zip(0u32..) {
        let weak = faces.quality(node).is_some_and(|quality| quality < settings.clusters.quality_floor);
        component.items.push(Item { size: 1, weak, held: None });
        for partner in engine.clusters().linkages().partners(node) {
            let b = number[&partner.node];
            if a < b {
                component.pairs.push(Pair { a, b, weight: partner.weight, count: 1 });
            }
        }
        if let Some(frame) = faces.frame(node) {
            frames.entry(frame).or_default().push(a);
        }
    }
    for word in words.0.values() {
        let [a, b] = [&word.a, &word.b].map(|id| number[&faces.node(id).unwrap()]);
        match word.kind {
            ConstraintKind::MustLink => component.must.push(Together { a, b }),
            ConstraintKind::CannotLink => component.apart.push(vec![a, b]),
        }
    }
    component.apart.extend(frames.into_values().filter(|faces| faces.len() > 1));
    let labels = merging::cluster(&component, &settings.clusters.merging).labels;
    let id = |number: u32| faces.id(nodes[number as usize]).clone();
    (0..).zip(labels).map(|(number, label)| (id(number), id(label))).collect()
}

pub(super) fn check_fresh(engine: &mut Engine) {
    let nodes: Vec<NodeId> = engine.faces().live().collect();
    for &node in &nodes {
        let found: Vec<NodeId> = engine.graph().neighbourhood(node).iter().map(|n| n.node).collect();
        assert_eq!(found, brute_force(engine, node), "neighbourhood of {node}");
    }
    let kept = engine.faces.enhanced.clone();
    let model = engine.model.clone();
    encode(model.as_ref(), &engine.graph, &mut engine.faces, &nodes).unwrap();
    for &node in &nodes {
        assert_eq!(kept.row(node), engine.faces.enhanced(node), "g of {node}");
    }
    let mut expected = super::super::cluster::Linkages::new(engine_merging(engine));
    expected.grow(engine.faces.slots());
    for scored in link(model.as_ref(), &engine.graph, &engine.faces, &nodes).unwrap() {
        expected.replace(&scored);
    }
    for &node in &nodes {
        let linkages = engine.clusters().linkages();
        assert!(expected.partners(node).eq(linkages.partners(node)), "linkages of {node}");
    }
}

fn engine_merging(engine: &Engine) -> Merging {
    engine.clusters().linkages().merging()
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: std::env::var("ENDURES_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(200),
        max_shrink_iters: 3000,
        ..ProptestConfig::default()
    })]

    #[test]
    fn it_endures_everything_at_once(
        model in model(),
        rule in rule(),
        turns in turns(),
        max_component in prop_oneof![Just(1usize), 1usize..12, Just(1000)],
        max_faces in prop::option::of(5usize..25),
        factor in prop_oneof![Just(1.0f32), Just(0.9), Just(0.7)],
    ) {
        let mut settings = settings(rule);
        settings.clusters.max_component = max_component;
        settings.clusters.merging.threshold_off = factor * settings.clusters.merging.threshold;
        settings.retention.max_faces = max_faces;
        let mut engine = Engine::new(&settings, Arc::new(model));
        let (mut reader, mut kept, mut words) = (Reader::default(), Kept::default(), Words::default());
        let mut snapshots = Vec::new();
        for Turn { requests, refresh_budget, idle, cuts, restarts } in turns {
            if cuts {
                snapshots.push(kept.cut(&engine));
            }
            if let Some(age) = restarts {
                let restored = kept.restored_from(snapshots.iter().rev().nth(age));
                engine = Engine::restore(&settings, Arc::new(model), restored).unwrap();
                reader.agrees_with(&engine);
                if engine.is_settled() {
                    prop_assert_eq!(partition(&engine), pure(&engine, &settings, &words));
                    check_fresh(&mut engine);
                }
            }
            let batch = Batch { requests, refresh_budget, idle, now: Timestamp(1) };
            let changes = engine.apply(batch, &mut ()).unwrap();
            changes.events.iter().for_each(|event| reader.read(event));
            reader.agrees_with(&engine);
            kept.keep(&changes);
            words.hear(&changes);
            if engine.is_settled() {
                prop_assert_eq!(partition(&engine), pure(&engine, &settings, &words));
                check_fresh(&mut engine);
            }
        }
        for changes in settle(&mut engine) {
            changes.events.iter().for_each(|event| reader.read(event));
            kept.keep(&changes);
            words.hear(&changes);
        }
        reader.agrees_with(&engine);
        prop_assert_eq!(partition(&engine), pure(&engine, &settings, &words));
        check_fresh(&mut engine);
    }
}

/// Two people who were one until an operator took his word back, when there was no time to compute them;
/// after a restart they are two large components that share a cluster, and both are extended.
#[test]
fn a_large_cluster_that_came_apart_before_a_restart_is_extended_from_both_ends() {
    let mut settings = settings(SINGLE);
    settings.clusters.max_component = 1;
    let on = |number: usize, angle: f32| face(number, &[angle.cos(), angle.sin(), 0.0, 0.0]);
    let person = |first: usize, angle: f32| (0..30).map(move |i| on(first + i, angle + 0.001 * i as f32));
    let (mut engine, mut kept, mut reader) =
        (Engine::new(&settings, Arc::new(PLAIN)), Kept::default(), Reader::default());
    let mut hear = |engine: &Engine, changes: Changes| {
        kept.keep(&changes);
        changes.events.iter().for_each(|event| reader.read(event));
        reader.agrees_with(engine);
        kept.restored()
    };
    let changes = apply_faces(&mut engine, &person(0, 0.0).chain(person(30, 1.5)).collect::<Vec<_>>(), 0);
    hear(&engine, changes);
    let changes = apply(&mut engine, vec![constraint(ConstraintKind::MustLink, 0, 30)], 0);
    hear(&engine, changes);
    let changes = apply(&mut engine, vec![Request::Release { a: id(0), b: id(30) }], 0);
    let restored = hear(&engine, changes);
    assert_eq!(engine.clusters().book().living(), 1);
    let mut engine = Engine::restore(&settings, Arc::new(PLAIN), restored).unwrap();
    let changes = apply_faces(&mut engine, &[on(70, 0.0305), on(71, 1.5305)], 0);
    hear(&engine, changes);
    settle(&mut engine);
    assert_eq!(engine.clusters().book().living(), 2);
}

/// Who is farther than everyone in a full list is not met, and counts once others have gone.
#[test]
fn a_neighbourhood_that_once_held_everyone_is_filled_up_by_whoever_came_later() {
    let mut engine = engine(SINGLE);
    let on = |number: usize, angle: f32| face(number, &[angle.cos(), angle.sin(), 0.0, 0.0]);
    let near: Vec<Face> = (1..9).map(|number| on(number, 1.0 + 0.01 * number as f32)).collect();
    apply_faces(&mut engine, &[vec![on(0, 0.0)], near].concat(), 0);
    apply_faces(&mut engine, &[on(9, 1.1)], 0);
    apply_faces(&mut engine, &[on(10, 1.5)], 0);
    apply(&mut engine, (1..6).map(erase).collect(), 0);
    settle(&mut engine);
    check_fresh(&mut engine);
}

#[test]
fn the_age_of_the_queue_is_not_that_of_the_epoch_after_a_restart() {
    let mut kept = Kept::default();
    let mut engine = engine(SINGLE);
    let requests = vec![Request::Face(face(1, &[1.0, 0.0, 0.0, 0.0]))];
    let now = Timestamp(1_700_000_000_000);
    kept.keep(&engine.apply(Batch { requests, now, ..Batch::default() }, &mut ()).unwrap());
    let again = Engine::restore(&settings(SINGLE), Arc::new(PLAIN), kept.restored()).unwrap();
    assert_eq!(again.stale_since(), Some(now));
}

#[test]
fn a_graph_is_built_to_its_end_without_a_newcomer() {
    use crate::engine::index::HnswParameters;
    let parameters = HnswParameters { connections: 4, ef_construction: 16, ef_search: 16, few: 100 };
    let settings = EngineSettings { index: IndexKind::Hnsw(parameters), ..settings(SINGLE) };
    let mut engine = Engine::new(&settings, Arc::new(PLAIN));
    let faces: Vec<Face> = (0..1000).map(|n| face(n, &[1.0, n as f32, (n % 7) as f32, (n % 11) as f32])).collect();
    apply_faces(&mut engine, &faces, 0);
    settle(&mut engine);
    apply(&mut engine, (0..400).map(erase).collect(), 0);
    while engine.has_work(Timestamp(1)) {
        let batch = Batch { refresh_budget: usize::MAX, idle: true, now: Timestamp(1), ..Batch::default() };
        engine.apply(batch, &mut ()).unwrap();
    }
    assert!(engine.index().points() < 700 && engine.index().dead_share() < 0.25, "the dead are still in memory");
}
