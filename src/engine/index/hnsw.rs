//! The HNSW index (Malkov & Yashunin 2016) by hnsw_rs, without the hierarchy. A search or an insert
//! compares with a few thousand faces, slowly more as the graph grows; both run on all cores.
//!
//! One layer, because only then may hnsw_rs insert in parallel. It takes the lock of a point's
//! neighbour while it holds the point's own (`reverse_update_neighborhood_simple`). With several
//! layers a point is found through an upper one before its lower ones are linked, and two new
//! points can each wait for the other. With one layer there is no such cycle: a point is found only
//! once its own linking has begun, and its linking begins only after its search has ended. So if A
//! waits for B, B began before A did; whoever began first waits for nobody. The very first point is
//! inserted alone, since until it is the entry, others would stay without links.
//!
//! Measured on 20,000 synthetic 128-d faces, connections 24, ef_construction 128, ef_search 64:
//! recall at 16 is 0.938 with one layer and 0.937 with the hierarchy.

use std::ops::Range;

use hnsw_rs::prelude::{Distance, Hnsw as Graph};
use rayon::prelude::*;

use super::{Faces, Index, Neighbour};
use crate::engine::faces::{dot, nodes};
use crate::face::NodeId;

/// See above.
const LAYERS: usize = 1;
/// What hnsw_rs reserves at the start; its tables grow past it.
const EXPECTED_FACES: usize = 10_000;

/// What an HNSW graph is built and searched with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HnswParameters {
    /// Half the links a point keeps (M of the paper, whose lowest layer keeps 2 M). 2 to 255.
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
        let insert = |node: NodeId| self.graph.insert((faces.embedding(node), node.index()));
        let mut new = nodes(new);
        if self.graph.get_nb_point() == 0
            && let Some(first) = new.next()
        {
            insert(first);
        }
        new.collect::<Vec<_>>().into_par_iter().for_each(insert);
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

    /// Should inserting in parallel ever wait for itself, this test does not end.
    #[test]
    fn many_threads_insert_near_duplicates_and_none_waits_for_ever() {
        let threads = rayon::ThreadPoolBuilder::new().num_threads(8).build().unwrap();
        let mut faces = Faces::new(8);
        for number in 0..6000u32 {
            let near = (number % 7) as f32;
            let values: Vec<f32> = (0..8).map(|i| near + (i as f32) + (number as f32 * 1e-6)).collect();
            faces.add(FaceId::new(&format!("{number:06}")).unwrap(), &Embedding::normalise(&values, 8).unwrap());
        }
        let mut hnsw = Hnsw::new(HnswParameters { connections: 4, ef_construction: 16, ef_search: 16 });
        threads.install(|| hnsw.insert(&faces, 0..6000));
        assert_eq!(hnsw.graph.get_nb_point(), 6000);
        assert_eq!(hnsw.search(&faces, NodeId(5), 4, &|_| false).len(), 4);
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
