//! What is asked of an engine changes nothing and says what is so.

use super::*;
use crate::engine::look::{Step, Tie, WhyError};
use crate::engine::merging::Weight;
use crate::face::{ClusterId, NodeId};

/// [`Mean`], but that `g` is the embedding itself: a newcomer changes nobody's.
struct Alone(Mean);

impl FaceTransformer for Alone {
    fn shape(&self) -> Shape {
        self.0.shape()
    }

    fn edges(&self) -> &[EdgeFeature] {
        self.0.edges()
    }

    fn encode(&self, rows: &mut Neighbourhoods) -> Result<Vec<f32>, ModelError> {
        Ok(rows.faces.clone())
    }

    fn link(&self, rows: &mut Neighbourhoods) -> Result<Vec<f32>, ModelError> {
        self.0.link(rows)
    }
}

/// The strongest weakest tie of all ways between each two faces, by trying every face between (Floyd 1962).
fn strongest(engine: &Engine) -> BTreeMap<(NodeId, NodeId), Weight> {
    let live: Vec<NodeId> = engine.faces().live().collect();
    let threshold = Weight::of(engine.clusters().merging().threshold);
    let mut best = BTreeMap::new();
    for &a in &live {
        let links = engine.clusters().linkages().partners(a).filter(|partner| partner.weight > threshold);
        best.extend(links.map(|partner| ((a, partner.node), partner.weight)));
        best.extend(engine.clusters().must_be_with(a).map(|b| ((a, b), Weight::ONE)));
    }
    for &between in &live {
        for &a in &live {
            for &b in &live {
                let (Some(&first), Some(&second)) = (best.get(&(a, between)), best.get(&(between, b))) else {
                    continue;
                };
                let way = first.min(second);
                let known = best.entry((a, b)).or_insert(way);
                *known = way.max(*known);
            }
        }
    }
    best
}

fn cluster_of(engine: &Engine, node: NodeId) -> ClusterId {
    engine.clusters().book().cluster_of(node).unwrap()
}

proptest! {
    #[test]
    fn an_embedding_is_scored_as_the_newcomer_it_would_be(
        stream in stream(), model in model(), rule in rule(), values in embedding(),
    ) {
        let mut engine = Engine::new(&settings(rule), Arc::new(Alone(model)));
        for (requests, budget) in stream {
            apply(&mut engine, requests, budget);
        }
        settle(&mut engine);
        let newcomer = face(9999, &values);
        let found = engine.find(&newcomer.embedding).unwrap();
        prop_assert!(!engine.has_work(Timestamp(1)), "it changed something");
        let evidence: Vec<f32> = found.clusters.iter().map(|cluster| cluster.evidence).collect();
        prop_assert!(evidence.is_sorted_by(|a, b| a >= b));
        let threshold = engine.clusters().merging().threshold;
        prop_assert_eq!(found.would_join.is_some(), evidence.first().is_some_and(|&best| best > threshold));
        let mut expected = BTreeMap::new();
        for cluster in &found.clusters {
            for found in &cluster.faces {
                let node = engine.faces().node(&found.face).unwrap();
                prop_assert_eq!(cluster_of(&engine, node), cluster.id);
                expected.insert(engine.faces().arrival(node), found.linkage);
            }
        }
        let changes = apply_faces(&mut engine, &[newcomer], 0);
        let node = engine.faces().node(&id(9999)).unwrap();
        let kept = changes.linkages.iter().find(|kept| kept.node == node).unwrap();
        let scored: BTreeMap<_, _> = kept.linkages.iter().map(|link| (link.candidate, link.probability)).collect();
        prop_assert_eq!(scored, expected);
    }

    #[test]
    fn the_way_that_is_shown_is_the_strongest(stream in stream(), rule in rule()) {
        let mut engine = engine(rule);
        for (requests, budget) in stream {
            apply(&mut engine, requests, budget);
        }
        settle(&mut engine);
        let best = strongest(&engine);
        let live: Vec<NodeId> = engine.faces().live().collect();
        for (&a, &b) in live.iter().flat_map(|a| live.iter().map(move |b| (a, b))) {
            let why = engine.why(engine.faces().id(a), engine.faces().id(b)).unwrap();
            prop_assert_eq!(why.together, cluster_of(&engine, a) == cluster_of(&engine, b));
            let steps = why.path.windows(2).all(|two| two[0].to == two[1].from);
            prop_assert!(steps);
            if a == b || why.path.is_empty() {
                prop_assert!(why.path.is_empty());
                // Of two who are not together no way is kept back.
                prop_assert!(a == b || why.together || !best.contains_key(&(a, b)));
                continue;
            }
            prop_assert_eq!((&why.path[0].from, &why.path.last().unwrap().to), (engine.faces().id(a), engine.faces().id(b)));
            let weakest = why.path.iter().map(|Step { tie, .. }| match tie {
                Tie::Link(probability) => *probability,
                Tie::MustLink => 1.0,
            });
            let weakest = weakest.fold(1.0, f64::min);
            let strongest = best[&(a, b)].probability();
            // Through others there may be a stronger one, which says nothing of why these are together.
            prop_assert!(weakest == strongest || (why.together && weakest < strongest), "{} {}", weakest, strongest);
            prop_assert!(weakest > f64::from(why.threshold) - 1e-6);
        }
    }

    #[test]
    fn a_picture_shows_the_cluster_and_who_is_most_like_it(stream in stream(), rule in rule()) {
        let mut engine = engine(rule);
        for (requests, budget) in stream {
            apply(&mut engine, requests, budget);
        }
        settle(&mut engine);
        let clusters: BTreeSet<ClusterId> = engine.faces().live().map(|node| cluster_of(&engine, node)).collect();
        for cluster in clusters {
            let picture = engine.picture(cluster).unwrap();
            let members = engine.clusters().book().members(cluster).len();
            prop_assert!(picture.faces.iter().take(members).all(|face| face.cluster == cluster));
            prop_assert!(picture.faces.iter().skip(members).all(|face| face.cluster != cluster));
            for pictured in &picture.faces {
                let node = engine.faces().node(&pictured.face).unwrap();
                prop_assert_eq!(pictured.enhanced.as_slice(), engine.faces().enhanced(node));
            }
            for linkage in &picture.linkages {
                let [a, b] = [linkage.a, linkage.b].map(|place| engine.faces().node(&picture.faces[place].face).unwrap());
                let partner = engine.clusters().linkages().partners(a).find(|partner| partner.node == b).unwrap();
                prop_assert_eq!(partner.weight.probability(), linkage.linkage);
            }
        }
        prop_assert_eq!(engine.picture(ClusterId(u64::MAX)), None);
    }
}

#[test]
fn an_embedding_finds_the_cluster_of_its_like() {
    let mut engine = Engine::new(&settings(SINGLE), Arc::new(Alone(PLAIN)));
    let faces = [[1.0, 0.0, 0.0, 0.0], [0.99, 0.1, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]];
    let faces: Vec<Face> = (0..).zip(&faces).map(|(number, values)| face(number, values)).collect();
    apply_faces(&mut engine, &faces, 9);
    settle(&mut engine);
    let find = |values: &[f32]| engine.find(&Embedding::normalise(values, SHAPE.dimension).unwrap()).unwrap();
    let found = find(&[0.98, 0.05, 0.0, 0.0]);
    assert_eq!(found.would_join, Some(cluster_of(&engine, engine.faces().node(&id(0)).unwrap())));
    assert_eq!(found.clusters[0].faces.len(), 2);
    assert_eq!(find(&[0.0, 0.0, 0.0, 1.0]).would_join, None);
    let nobody = Engine::new(&settings(SINGLE), Arc::new(PLAIN));
    let found = nobody.find(&faces[0].embedding).unwrap();
    assert_eq!((found.would_join, found.clusters), (None, Vec::new()));
}

#[test]
fn a_word_of_an_operator_is_a_reason_too() {
    let mut engine = Engine::new(&settings(SINGLE), Arc::new(Alone(PLAIN)));
    apply_faces(&mut engine, &[face(1, &[1.0, 0.0, 0.0, 0.0]), face(2, &[0.0, 1.0, 0.0, 0.0])], 9);
    let why = engine.why(&id(1), &id(2)).unwrap();
    assert_eq!((why.together, why.path), (false, Vec::new()));
    apply(&mut engine, vec![constraint(ConstraintKind::MustLink, 1, 2)], 0);
    let why = engine.why(&id(2), &id(1)).unwrap();
    assert_eq!((why.together, why.path), (true, vec![Step { from: id(2), to: id(1), tie: Tie::MustLink }]));
    assert_eq!(engine.why(&id(1), &id(7)), Err(WhyError::UnknownFace(id(7))));
}
