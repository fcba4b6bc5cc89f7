//! The exact index: compares a face with every other. O(n d) a search, nothing kept.

use std::ops::Range;

use super::{Faces, Index, Neighbour};
use crate::engine::faces::nodes;
use crate::engine::graph::nearest_first;
use crate::face::NodeId;

/// Brute force over the table of faces.
pub struct Exact;

impl Index for Exact {
    fn insert(&mut self, _faces: &Faces, _new: Range<usize>) {}

    fn search(
        &self,
        faces: &Faces,
        query: NodeId,
        nearest: usize,
        also: &(dyn Fn(Neighbour) -> bool + Sync),
    ) -> Vec<Neighbour> {
        let mut met: Vec<Neighbour> = nodes(0..faces.len())
            .filter(|&node| node != query)
            .map(|node| Neighbour { node, similarity: faces.similarity(query, node) })
            .collect();
        if met.len() > nearest {
            met.select_nth_unstable_by(nearest, |a, b| nearest_first(faces, a, b));
            let rest = met.split_off(nearest);
            met.extend(rest.into_iter().filter(|&neighbour| also(neighbour)));
        }
        met
    }
}
