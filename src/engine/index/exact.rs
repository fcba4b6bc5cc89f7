//! The exact index: compares a face with every other. O(n d) a search.

use super::members::Members;
use super::{Faces, Index, Neighbour, Query};
use crate::face::NodeId;

/// Brute force over the table of faces.
#[derive(Debug, Default)]
pub struct Exact {
    members: Members,
}

impl Index for Exact {
    fn insert(&mut self, _faces: &Faces, new: &[NodeId]) {
        new.iter().for_each(|&node| self.members.insert(node));
    }

    fn adopt(&mut self, faces: &[NodeId]) {
        faces.iter().for_each(|&node| self.members.insert(node));
    }

    fn remove(&mut self, node: NodeId) {
        self.members.remove(node);
    }

    fn search(
        &self,
        faces: &Faces,
        query: Query<'_>,
        nearest: usize,
        also: &(dyn Fn(Neighbour) -> bool + Sync),
    ) -> Vec<Neighbour> {
        self.members.search(faces, query, nearest, also)
    }

    fn is_exact(&self) -> bool {
        true
    }

    fn is_building(&self) -> bool {
        false
    }

    fn maintain(&mut self, _faces: &Faces, _steps: usize) {}

    fn points(&self) -> usize {
        self.members.len()
    }

    fn dead_share(&self) -> f64 {
        0.0
    }
}
