//! What an index promises while faces come and go: the removed are never met, the others are.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use rayon::prelude::*;

use super::*;
use crate::engine::faces::{Known, NewFace};
use crate::face::{Arrival, Embedding, FaceId, Offset, Partition, Place, Timestamp};
use crate::synth::{Kind, Synth};

const PARAMETERS: HnswParameters = HnswParameters { connections: 24, ef_construction: 128, ef_search: 64, few: 0 };

/// Adds a face of these values.
pub fn add(faces: &mut Faces, number: usize, values: &[f32]) -> NodeId {
    let embedding = Embedding::normalise(values, faces.dimension()).unwrap();
    let id = FaceId::new(&format!("{number:06}")).unwrap();
    let known = Known {
        id,
        arrival: Arrival(number as u64 + 1),
        frame: None,
        quality: None,
        captured_at: None,
        arrived_at: Timestamp(0),
        place: Place { partition: Partition(0), offset: Offset(0) },
    };
    faces.add(NewFace { embedding: &embedding, known })
}

/// A table of faces whose vectors, of any length, lie row after row in `values`.
pub fn table(dimension: usize, values: &[f32]) -> (Faces, Vec<NodeId>) {
    let mut faces = Faces::new(dimension);
    let nodes = values.chunks(dimension).enumerate().map(|(number, row)| add(&mut faces, number, row)).collect();
    (faces, nodes)
}

/// Faces in a row: the nearest of each are those next to it.
pub fn line_up(count: usize) -> (Faces, Vec<NodeId>) {
    let values: Vec<f32> = (0..count).flat_map(|i| [(i as f32 * 2e-3).cos(), (i as f32 * 2e-3).sin()]).collect();
    table(2, &values)
}

fn met(index: &dyn Index, faces: &Faces, query: NodeId, nearest: usize) -> BTreeSet<NodeId> {
    index.search(faces, Query::of(faces, query), nearest, &|_| false).iter().map(|neighbour| neighbour.node).collect()
}

/// The share of the `nearest` true neighbours of each live face that a search meets.
fn recall(index: &dyn Index, faces: &Faces, nearest: usize) -> f64 {
    let mut exact = Exact::default();
    let live: Vec<NodeId> = faces.live().collect();
    exact.insert(faces, &live);
    let hits = live.par_iter().map(|&query| {
        let found = met(index, faces, query, nearest);
        assert!(!found.contains(&query), "{query} met itself");
        assert!(found.iter().all(|&node| faces.is_live(node)), "{query} met someone removed");
        let truth = met(&exact, faces, query, nearest);
        (truth.intersection(&found).count(), truth.len())
    });
    let (hits, all) = hits.reduce(|| (0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
    hits as f64 / all as f64
}

#[test]
fn a_graph_finds_nearly_all_the_neighbours_that_exist() {
    let synth = Synth { kind: Kind::Albums, faces: 3000, dimension: 64, seed: 5 }.generate();
    let (faces, nodes) = table(64, &synth.embeddings);
    let mut index = Growing::new(HnswParameters { few: 400, ..PARAMETERS });
    for part in nodes.chunks(500) {
        index.insert(&faces, part);
    }
    assert!(!index.is_exact());
    let recall = recall(&index, &faces, 10);
    assert!(recall >= 0.98, "recall at 10 is {recall}");
}

#[test]
fn a_small_collection_is_searched_exactly_and_has_no_graph() {
    let synth = Synth { kind: Kind::Albums, faces: 300, dimension: 16, seed: 6 }.generate();
    let (faces, nodes) = table(16, &synth.embeddings);
    let mut index = Growing::new(HnswParameters { few: 300, ..PARAMETERS });
    index.insert(&faces, &nodes);
    index.maintain(&faces, 1000);
    assert!(index.is_exact());
    assert_eq!(index.points_of_each(), [0, 0]);
    assert_eq!(recall(&index, &faces, 10), 1.0);
}

#[test]
fn what_else_it_meets_is_answered_when_asked_for() {
    let (faces, nodes) = line_up(50);
    for few in [10, 100] {
        let mut index = Growing::new(HnswParameters { few, ..PARAMETERS });
        index.insert(&faces, &nodes);
        let found = index.search(&faces, Query::of(&faces, NodeId(20)), 4, &|met| met.node.0 % 10 == 0);
        let found: BTreeSet<u32> = found.iter().map(|met| met.node.0).collect();
        assert_eq!(found, BTreeSet::from([0, 10, 18, 19, 21, 22, 30, 40]));
    }
}

/// Faces that come and go, one for one, as retention makes them.
struct Churn {
    faces: Faces,
    index: Growing,
    rows: Vec<f32>,
    next: usize,
    oldest_first: std::collections::VecDeque<NodeId>,
}

impl Churn {
    const DIMENSION: usize = 32;

    fn new(live: usize, few: usize, all: usize) -> Churn {
        let synth = Synth { kind: Kind::Albums, faces: all, dimension: Churn::DIMENSION, seed: 11 }.generate();
        let mut churn = Churn {
            faces: Faces::new(Churn::DIMENSION),
            index: Growing::new(HnswParameters { few, ..PARAMETERS }),
            rows: synth.embeddings,
            next: 0,
            oldest_first: Default::default(),
        };
        churn.come(live);
        churn
    }

    fn come(&mut self, count: usize) {
        let rows = self.rows[self.next * Churn::DIMENSION..].chunks(Churn::DIMENSION).take(count);
        let new: Vec<NodeId> = rows.zip(self.next..).map(|(row, number)| add(&mut self.faces, number, row)).collect();
        assert_eq!(new.len(), count, "the test needs more rows");
        self.next += count;
        self.index.insert(&self.faces, &new);
        self.oldest_first.extend(new);
    }

    fn go(&mut self, count: usize) {
        for node in self.oldest_first.drain(..count) {
            self.index.remove(node);
            self.faces.remove(node);
        }
    }
}

#[test]
fn one_in_one_out_for_ever_keeps_few_dead_points() {
    let live = 600;
    let mut churn = Churn::new(live, 300, 6600);
    let mut rebuilt = 0;
    for _ in 0..6000 / 20 {
        let [_, building] = churn.index.points_of_each();
        churn.go(20);
        churn.come(20);
        let [serving, next] = churn.index.points_of_each();
        assert!(serving * 10 <= live * 19, "{serving} points serve {live} faces");
        assert!((serving + next) * 10 <= live * 32, "{serving} and {next} points for {live} faces");
        rebuilt += usize::from(building > 0 && next == 0);
    }
    assert!(rebuilt >= 7, "{rebuilt} rebuilds");
    let recall = recall(&churn.index, &churn.faces, 10);
    assert!(recall >= 0.97, "recall at 10 is {recall}");
}

#[test]
fn a_finished_rebuild_holds_the_living_and_nobody_else() {
    let mut churn = Churn::new(2000, 500, 2000);
    churn.go(1000);
    assert_eq!(churn.index.points_of_each(), [2000, 0], "half of the points are dead");
    for _ in 0..3 {
        churn.index.maintain(&churn.faces, 400);
        assert!(!churn.index.is_exact());
    }
    assert_eq!(churn.index.points_of_each(), [1000, 0]);
    assert!(recall(&churn.index, &churn.faces, 10) >= 0.97);
}

#[test]
fn a_collection_that_shrinks_far_drops_its_graph() {
    let mut churn = Churn::new(1000, 500, 1000);
    assert!(!churn.index.is_exact());
    churn.go(751);
    assert!(churn.index.is_exact());
    assert_eq!(churn.index.points_of_each(), [0, 0]);
    assert_eq!(recall(&churn.index, &churn.faces, 10), 1.0);
}

/// Whoever looks from where a face is must meet that face: nobody is cut off.
#[test]
fn after_heavy_churn_everyone_can_still_be_found() {
    let mut churn = Churn::new(1500, 700, 9000);
    for _ in 0..75 {
        churn.go(100);
        churn.come(100);
    }
    let live: Vec<NodeId> = churn.faces.live().collect();
    // One after another a stranger stands at the very place of each face and searches.
    let stranger = NodeId(churn.faces.slots() as u32);
    let mut found = 0;
    for &node in &live {
        let values = churn.faces.embedding(node).to_vec();
        assert_eq!(add(&mut churn.faces, 999_999, &values), stranger);
        found += usize::from(met(&churn.index, &churn.faces, stranger, 1).contains(&node));
        churn.faces.remove(stranger);
    }
    assert!(found * 1000 >= live.len() * 995, "{found} of {} are found", live.len());
}

#[test]
fn copies_of_one_face_hide_nobody_and_are_all_met() {
    let synth = Synth { kind: Kind::Albums, faces: 1000, dimension: 32, seed: 3 }.generate();
    let copies = 150;
    let mut values = synth.embeddings[..32].repeat(copies);
    values.extend(&synth.embeddings[32..]);
    let (mut faces, nodes) = table(32, &values);
    let mut index = Growing::new(HnswParameters { few: 100, ..PARAMETERS });
    nodes.chunks(100).for_each(|part| index.insert(&faces, part));
    assert!(!index.is_exact());
    assert_eq!(index.points_of_each()[0], 1000, "copies share a point");
    assert_eq!(
        met(&index, &faces, nodes[7], copies - 1),
        nodes[..copies].iter().copied().filter(|&n| n != nodes[7]).collect()
    );
    assert!(recall(&index, &faces, 10) >= 0.97);

    // All go but one; then that one goes and comes back.
    for &node in &nodes[1..copies] {
        index.remove(node);
        faces.remove(node);
    }
    let near = met(&index, &faces, nodes[0], 10);
    assert!(near.len() == 10 && near.iter().all(|node| node.index() >= copies));
    index.remove(nodes[0]);
    index.insert(&faces, &nodes[..1]);
    assert_eq!(met(&index, &faces, nodes[0], 10), near);
    assert_eq!(index.points_of_each()[0], 1000, "and stands where it stood");
}

/// A turn of the property below.
#[derive(Debug, Clone)]
enum Turn {
    Come(Vec<[i8; 4]>),
    /// So many of the live faces, chosen by these numbers.
    Go(Vec<u16>),
    /// Another embedding under the same id.
    Replace(u16, [i8; 4]),
    Maintain(usize),
}

fn turns() -> impl Strategy<Value = Vec<Turn>> {
    let values = || prop::array::uniform4(-9i8..=9).prop_filter("no direction", |values| values != &[0; 4]);
    let turn = prop_oneof![
        4 => prop::collection::vec(values(), 1..30).prop_map(Turn::Come),
        3 => prop::collection::vec(any::<u16>(), 1..30).prop_map(Turn::Go),
        1 => (any::<u16>(), values()).prop_map(|(face, values)| Turn::Replace(face, values)),
        1 => (0usize..20).prop_map(Turn::Maintain),
    ];
    prop::collection::vec(turn, 1..30)
}

/// How well a run of turns searched while there was a graph.
#[derive(Debug, Default)]
struct Seen {
    hits: usize,
    all: usize,
}

fn play(turns: &[Turn]) -> Result<Seen, TestCaseError> {
    let mut faces = Faces::new(4);
    let parameters = HnswParameters { connections: 8, ef_construction: 32, ef_search: 24, few: 20 };
    let (mut index, mut exact) = (Growing::new(parameters), Exact::default());
    let mut ids: BTreeMap<NodeId, usize> = BTreeMap::new();
    let (mut arrived, mut seen) = (0, Seen::default());
    let chosen = |ids: &BTreeMap<NodeId, usize>, number: u16| {
        let at = usize::from(number) % ids.len().max(1);
        ids.keys().nth(at).copied()
    };
    for turn in turns {
        match turn {
            Turn::Come(rows) => {
                let new: Vec<NodeId> = (rows.iter().zip(arrived..))
                    .map(|(row, number)| add(&mut faces, number, &row.map(f32::from)))
                    .collect();
                ids.extend(new.iter().copied().zip(arrived..));
                arrived += rows.len();
                index.insert(&faces, &new);
                exact.insert(&faces, &new);
            }
            Turn::Go(numbers) => {
                for &number in numbers {
                    let Some(node) = chosen(&ids, number) else { break };
                    ids.remove(&node);
                    index.remove(node);
                    faces.remove(node);
                    exact.remove(node);
                }
            }
            Turn::Replace(number, values) => {
                let Some(node) = chosen(&ids, *number) else { continue };
                let embedding = Embedding::normalise(&values.map(f32::from), 4).unwrap();
                index.remove(node);
                exact.remove(node);
                let known = faces.known(node).clone();
                faces.replace(node, NewFace { embedding: &embedding, known });
                index.insert(&faces, &[node]);
                exact.insert(&faces, &[node]);
            }
            Turn::Maintain(steps) => index.maintain(&faces, *steps),
        }
        for &query in ids.keys() {
            let found = met(&index, &faces, query, 5);
            let truth = met(&exact, &faces, query, 5);
            prop_assert!(found.iter().all(|node| *node != query && ids.contains_key(node)));
            if index.is_exact() {
                prop_assert_eq!(&found, &truth);
            } else {
                // By similarity, since among equals a graph may meet others.
                let last = truth.iter().map(|&node| faces.similarity(query, node)).fold(f32::INFINITY, f32::min);
                seen.hits += found.iter().filter(|&&node| faces.similarity(query, node) >= last).count();
                seen.all += truth.len();
            }
        }
    }
    Ok(seen)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn whatever_comes_and_goes_the_removed_are_never_met_and_the_others_are(turns in turns()) {
        let seen = play(&turns)?;
        prop_assert!(seen.hits * 100 >= seen.all * 90, "{:?}", seen);
    }
}
