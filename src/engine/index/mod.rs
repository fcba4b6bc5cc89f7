//! Step 1, index: the nearest faces of a face.
//!
//! A boundary with two implementations: [`Exact`] compares with everyone (small collections,
//! tests, the oracle), [`Hnsw`] walks a graph. An index holds what it needs to search and reads
//! the rest from the table of [`Faces`].

mod exact;
mod hnsw;

use std::ops::Range;

pub use exact::Exact;
pub use hnsw::{Hnsw, HnswParameters};

use super::faces::Faces;
use super::graph::Neighbour;
use crate::face::NodeId;

/// Which index a collection uses.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum IndexKind {
    Exact,
    Hnsw(HnswParameters),
}

impl IndexKind {
    pub fn build(self) -> Box<dyn Index> {
        match self {
            IndexKind::Exact => Box::new(Exact),
            IndexKind::Hnsw(parameters) => Box::new(Hnsw::new(parameters)),
        }
    }
}

/// Finds the nearest faces of a face.
pub trait Index: Send + Sync {
    /// Takes in the faces numbered `new`, which `faces` already holds.
    fn insert(&mut self, faces: &Faces, new: Range<usize>);

    /// The faces that `query`, itself inserted, meets, in no particular order and without itself:
    /// its `nearest` nearest among them, and of the others met those that `also` asks for.
    /// Called from many threads at once.
    fn search(
        &self,
        faces: &Faces,
        query: NodeId,
        nearest: usize,
        also: &(dyn Fn(Neighbour) -> bool + Sync),
    ) -> Vec<Neighbour>;
}
