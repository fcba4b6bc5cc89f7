//! The HNSW graph (Malkov & Yashunin 2016) by hnsw_rs, without the hierarchy, and whose its points
//! are. A search or an insert compares with a few thousand faces, slowly more as the graph grows;
//! both run on all cores.
//!
//! A graph cannot forget: a point whose face was removed stays as a stepping stone. It is left out
//! of answers, and searches are widened by the share of such dead points, so that they meet as many
//! live ones as before; how many there may be is [`super::growing`]'s affair. The copy of a removed
//! vector stays in memory until then.
//!
//! Faces of one and the same vector (a picture sent twice, a face that left and came back) share a
//! point. Else a few dozen of them fill each other's links, which hnsw_rs keeps by nearness alone, and
//! nothing leads out: measured, 100 copies of the first face hid all 6000 others. Faces that are
//! only nearly the same do so far less, the less the more mixed they come in.
//!
//! One layer, because only then may hnsw_rs insert in parallel. It takes the lock of a point's
//! neighbour while it holds the point's own (`reverse_update_neighborhood_simple`). With several
//! layers a point is found through an upper one before its lower ones are linked, and two new
//! points can each wait for the other. With one layer there is no such cycle: a point is found only
//! once its own linking has begun, and its linking begins only after its search has ended. So if A
//! waits for B, B began before A did; whoever began first waits for nobody. The very first point is
//! inserted alone, since until it is the entry, others would stay without links. Graphs share no
//! locks, and `insert` takes `&mut self`, so one parallel insert a graph is all there ever is.
//!
//! Measured on 20,000 synthetic 128-d faces, connections 24, ef_construction 128, ef_search 64:
//! recall at 16 is 0.938 with one layer and 0.937 with the hierarchy.

use std::collections::HashMap;

use hnsw_rs::prelude::{Distance, Hnsw as Graph};
use rayon::prelude::*;
use sha2::{Digest as _, Sha256};

use super::{Faces, Neighbour, Query, answer};
use crate::engine::faces::dot;
use crate::face::NodeId;

/// See above.
const LAYERS: usize = 1;

/// What an HNSW graph is built and searched with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HnswParameters {
    /// Half the links a point keeps (M of the paper, whose lowest layer keeps 2 M). 2 to 255.
    pub connections: usize,
    /// Candidates kept while a point is inserted.
    pub ef_construction: usize,
    /// Candidates kept while a face is searched: also how many faces a newcomer meets.
    pub ef_search: usize,
    /// Faces up to which a collection has no graph. On two cores, 128-d, connections 24,
    /// ef_construction 128, ef_search 64, microseconds a face (recall at 16 of the graph; brute force
    /// has 1):
    ///
    /// | faces | graph: insert | search | recall | brute force |
    /// | ---: | ---: | ---: | ---: | ---: |
    /// | 4,000 | 216 | 153 | 0.987 | 50 |
    /// | 8,000 | 396 | 257 | 0.967 | 100 |
    /// | 16,000 | 725 | 408 | 0.933 | 211 |
    /// | 20,000 | 870 | 535 | 0.921 | 248 |
    ///
    /// At 40,000 brute force was still ahead; the shipped configuration goes by whose vectors fit
    /// into the caches of a small machine.
    pub few: usize,
}

/// 1 − cosine, never below zero: rounding can take the cosine of a vector with itself past 1, and
/// hnsw_rs panics on a negative distance.
#[derive(Clone, Copy)]
struct CosineDistance;

impl Distance<f32> for CosineDistance {
    fn eval(&self, a: &[f32], b: &[f32]) -> f32 {
        (1.0 - dot(a, b)).max(0.0)
    }
}

/// A navigable graph over the embeddings, which it copies.
pub struct Hnsw {
    graph: Graph<'static, f32, CosineDistance>,
    ef_search: usize,
    /// By point: whose it is; of nobody, it is dead.
    owners: Vec<Vec<NodeId>>,
    /// By node: its point.
    points: Vec<Option<u32>>,
    by_vector: HashMap<Digest, u32>,
    dead: usize,
}

/// Stands for a vector: two different ones never have the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Digest([u8; 32]);

impl Digest {
    fn of(vector: &[f32]) -> Digest {
        let mut sha = Sha256::new();
        vector.iter().for_each(|value| sha.update(value.to_le_bytes()));
        Digest(sha.finalize().into())
    }
}

impl Hnsw {
    /// An empty graph with room for `expected` faces; it grows past it.
    pub fn new(parameters: HnswParameters, expected: usize) -> Hnsw {
        let HnswParameters { connections, ef_construction, ef_search, .. } = parameters;
        let graph = Graph::new(connections, expected, LAYERS, ef_construction, CosineDistance);
        Hnsw { graph, ef_search, owners: Vec::new(), points: Vec::new(), by_vector: HashMap::new(), dead: 0 }
    }

    /// Points held, dead ones included.
    pub fn points(&self) -> usize {
        self.owners.len()
    }

    pub fn dead(&self) -> usize {
        self.dead
    }

    pub fn contains(&self, node: NodeId) -> bool {
        self.points.get(node.index()).is_some_and(Option::is_some)
    }

    /// Gives each of `new`, none of which it contains, a point.
    pub fn insert(&mut self, faces: &Faces, new: &[NodeId]) {
        let first_point = self.points();
        let digests: Vec<Digest> = new.par_iter().map(|&node| Digest::of(faces.embedding(node))).collect();
        let mut first_owners = Vec::with_capacity(new.len());
        for (&node, digest) in new.iter().zip(digests) {
            let point = *self.by_vector.entry(digest).or_insert_with(|| {
                first_owners.push(node);
                self.owners.push(Vec::new());
                self.dead += 1;
                self.owners.len() as u32 - 1
            });
            self.own(point, node);
        }
        let insert = |(number, &node): (usize, &NodeId)| {
            self.graph.insert((faces.embedding(node), first_point + number));
        };
        let alone = usize::from(first_point == 0).min(first_owners.len());
        first_owners.iter().enumerate().take(alone).for_each(insert);
        first_owners.par_iter().enumerate().skip(alone).for_each(insert);
    }

    fn own(&mut self, point: u32, node: NodeId) {
        let owners = &mut self.owners[point as usize];
        self.dead -= usize::from(owners.is_empty());
        owners.push(node);
        if node.index() >= self.points.len() {
            self.points.resize(node.index() + 1, None);
        }
        self.points[node.index()] = Some(point);
    }

    pub fn remove(&mut self, node: NodeId) {
        let Some(point) = self.points.get_mut(node.index()).and_then(Option::take) else { return };
        let owners = &mut self.owners[point as usize];
        owners.retain(|&owner| owner != node);
        self.dead += usize::from(owners.is_empty());
    }

    /// As [`super::Index::search`], over the faces that the graph leads to.
    pub fn search(
        &self,
        faces: &Faces,
        query: Query<'_>,
        nearest: usize,
        also: &(dyn Fn(Neighbour) -> bool + Sync),
    ) -> Vec<Neighbour> {
        let met = self.meet(query, nearest).into_iter();
        let met = met.map(|node| Neighbour { node, similarity: query.similarity(faces, node) });
        answer(faces, met.collect(), nearest, also)
    }

    /// The faces met: at least `nearest`, if the graph leads to as many.
    fn meet(&self, query: Query<'_>, nearest: usize) -> Vec<NodeId> {
        // One more than asked for: the query finds itself.
        let wanted = self.ef_search.max(nearest + 1);
        let live = self.points() - self.dead;
        let mut width = (wanted * self.points()).div_ceil(live.max(1));
        loop {
            let found = self.graph.search(query.embedding, width, width);
            let owners = found.iter().flat_map(|point| &self.owners[point.d_id]).copied();
            let met: Vec<NodeId> = owners.filter(|&node| query.face != Some(node)).collect();
            // The dead may lie thicker here than elsewhere: a whole person may have gone.
            if met.len() >= nearest || found.len() < width {
                return met;
            }
            width *= 2;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::index::tests::{line_up, table};

    /// Should inserting in parallel ever wait for itself, this test does not end.
    #[test]
    fn many_threads_insert_near_duplicates_and_none_waits_for_ever() {
        let threads = rayon::ThreadPoolBuilder::new().num_threads(8).build().unwrap();
        let values = (0..6000u32).flat_map(|number| {
            let near = (number % 7) as f32;
            (0..8).map(move |i| near + (i as f32) + (number as f32 * 1e-6))
        });
        let (faces, nodes) = table(8, &values.collect::<Vec<f32>>());
        let parameters = HnswParameters { connections: 4, ef_construction: 16, ef_search: 16, few: 0 };
        let mut hnsw = Hnsw::new(parameters, 10);
        threads.install(|| nodes.chunks(2000).for_each(|part| hnsw.insert(&faces, part)));
        assert_eq!((hnsw.graph.get_nb_point(), hnsw.points(), hnsw.dead()), (6000, 6000, 0));
        assert_eq!(hnsw.search(&faces, Query::of(&faces, NodeId(5)), 4, &|_| false).len(), 4);
    }

    #[test]
    fn a_vector_met_again_is_at_distance_zero_and_no_panic() {
        let (faces, nodes) = table(33, &[0.1; 33 * 200]);
        let mut hnsw = Hnsw::new(HnswParameters { connections: 8, ef_construction: 32, ef_search: 32, few: 0 }, 200);
        hnsw.insert(&faces, &nodes);
        assert!(CosineDistance.eval(faces.embedding(NodeId(0)), faces.embedding(NodeId(1))) >= 0.0);
        assert!(!hnsw.search(&faces, Query::of(&faces, NodeId(3)), 5, &|_| false).is_empty());
    }

    #[test]
    fn who_stands_among_the_dead_still_meets_the_living() {
        let (faces, nodes) = line_up(500);
        let mut hnsw = Hnsw::new(HnswParameters { connections: 8, ef_construction: 32, ef_search: 8, few: 0 }, 500);
        hnsw.insert(&faces, &nodes);
        (100..400).filter(|&node| node != 250).for_each(|node| hnsw.remove(NodeId(node)));
        let mut met: Vec<u32> =
            hnsw.search(&faces, Query::of(&faces, NodeId(250)), 6, &|_| false).iter().map(|met| met.node.0).collect();
        met.sort_unstable();
        assert_eq!(met.len(), 6);
        // Six of the living, from the edges of the gap: which, depends on how the graph grew.
        assert!(met.iter().all(|&node| (80..100).contains(&node) || (400..420).contains(&node)), "{met:?}");
        assert_eq!(hnsw.dead(), 299);
    }
}
