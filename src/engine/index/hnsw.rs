//! The HNSW index (Malkov & Yashunin 2016) by hnsw_rs. O(log n) comparisons a search or insert.
//!
//! Searches run on many threads, inserts one after the other: hnsw_rs takes the lock of a point's
//! neighbour while it holds the point's own (`reverse_update_neighborhood_simple`), and two points
//! of more than one layer that are inserted at once can each wait for the other. With one writer
//! no such cycle can form.

use std::ops::Range;

use hnsw_rs::prelude::{Distance, Hnsw as Graph};

use super::{Faces, Index, Neighbour};
use crate::engine::faces::{dot, nodes};
use crate::face::NodeId;

/// The layers a graph may have; 16 is hnsw_rs's own bound and enough for any memory.
const LAYERS: usize = 16;
/// What hnsw_rs reserves at the start; its tables grow past it.
const EXPECTED_FACES: usize = 10_000;

/// What an HNSW graph is built and searched with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HnswParameters {
    /// Links a point keeps on the upper layers (M), twice as many on the lowest. 2 to 255.
    pub connections: usize,
    /// Candidates kept while a point is inserted.
    pub ef_construction: usize,
    /// Candidates kept while a face is searched: also how many faces a newcomer meets.
    pub ef_search: usize,
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
}

impl Hnsw {
    pub fn new(parameters: HnswParameters) -> Hnsw {
        let HnswParameters { connections, ef_construction, ef_search } = parameters;
        let graph = Graph::new(connections, EXPECTED_FACES, LAYERS, ef_construction, CosineDistance);
        Hnsw { graph, ef_search }
    }
}

impl Index for Hnsw {
    fn insert(&mut self, faces: &Faces, new: Range<usize>) {
        for node in nodes(new) {
            self.graph.insert((faces.embedding(node), node.index()));
        }
    }

    fn search(
        &self,
        faces: &Faces,
        query: NodeId,
        nearest: usize,
        also: &(dyn Fn(Neighbour) -> bool + Sync),
    ) -> Vec<Neighbour> {
        // One more than asked for: the query finds itself.
        let width = self.ef_search.max(nearest + 1);
        let found = self.graph.search(faces.embedding(query), width, width);
        let met = found.into_iter().map(|point| NodeId(point.d_id as u32)).filter(|&node| node != query);
        met.enumerate()
            .map(|(rank, node)| (rank, Neighbour { node, similarity: faces.similarity(query, node) }))
            .filter(|&(rank, neighbour)| rank < nearest || also(neighbour))
            .map(|(_, neighbour)| neighbour)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::index::Exact;
    use crate::face::{Embedding, FaceId};
    use crate::synth::Synth;

    #[test]
    fn it_finds_nearly_all_the_neighbours_that_exist() {
        let synth = Synth { faces: 3000, dimension: 64, seed: 5 }.generate();
        let mut faces = Faces::new(64);
        for (number, row) in synth.embeddings.chunks(64).enumerate() {
            let embedding = Embedding::normalise(row, 64).unwrap();
            faces.add(FaceId::new(&format!("{number:06}")).unwrap(), &embedding);
        }
        let mut hnsw = Hnsw::new(HnswParameters { connections: 24, ef_construction: 128, ef_search: 64 });
        for start in (0..3000).step_by(500) {
            hnsw.insert(&faces, start..start + 500);
        }
        let mut hits = 0;
        for query in nodes(0..3000) {
            let truth: std::collections::HashSet<NodeId> =
                Exact.search(&faces, query, 10, &|_| false).iter().map(|n| n.node).collect();
            let found = hnsw.search(&faces, query, 10, &|_| false);
            assert!(found.iter().all(|n| n.node != query), "{query} met itself");
            hits += found.iter().filter(|n| truth.contains(&n.node)).count();
        }
        assert!(hits >= 29_400, "recall at 10 is {}", hits as f64 / 30_000.0);
    }

    #[test]
    fn a_vector_met_again_is_at_distance_zero_and_no_panic() {
        let embedding = Embedding::normalise(&[0.1; 33], 33).unwrap();
        let mut faces = Faces::new(33);
        for number in 0..200 {
            faces.add(FaceId::new(&format!("{number:03}")).unwrap(), &embedding);
        }
        let mut hnsw = Hnsw::new(HnswParameters { connections: 8, ef_construction: 32, ef_search: 32 });
        hnsw.insert(&faces, 0..200);
        assert!(CosineDistance.eval(embedding.values(), embedding.values()) >= 0.0);
        assert!(!hnsw.search(&faces, NodeId(3), 5, &|_| false).is_empty());
    }
}
