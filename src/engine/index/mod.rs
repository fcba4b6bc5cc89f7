//! Step 1, index: the nearest faces of a face.
//!
//! A boundary with two implementations: [`Exact`] compares with everyone (tests, the oracle, small
//! installations), [`Growing`] does so while a collection is small and walks an HNSW graph once it
//! is not. An index holds what it needs to search and reads the rest from the table of [`Faces`].

mod exact;
mod growing;
mod hnsw;
mod members;
#[cfg(test)]
mod tests;

pub use exact::Exact;
pub use growing::Growing;
pub use hnsw::HnswParameters;

use super::faces::{Faces, dot};
use super::graph::{Neighbour, nearest_first};
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
            IndexKind::Exact => Box::new(Exact::default()),
            IndexKind::Hnsw(parameters) => Box::new(Growing::new(parameters)),
        }
    }
}

/// Of the faces that `met` holds, what a search answers: the `nearest` nearest, and of the others
/// those that `also` asks for.
fn answer(
    faces: &Faces,
    mut met: Vec<Neighbour>,
    nearest: usize,
    also: &(dyn Fn(Neighbour) -> bool + Sync),
) -> Vec<Neighbour> {
    if met.len() > nearest {
        met.select_nth_unstable_by(nearest, |a, b| nearest_first(faces, a, b));
        let mut kept = nearest;
        for other in nearest..met.len() {
            if also(met[other]) {
                met.swap(kept, other);
                kept += 1;
            }
        }
        met.truncate(kept);
    }
    // Answers are held for a whole batch, and this may have had room for everyone.
    met.shrink_to_fit();
    met
}

/// Whose nearest faces are sought.
#[derive(Debug, Clone, Copy)]
pub struct Query<'a> {
    pub embedding: &'a [f32],
    /// Whose it is, to be left out; none: nobody's who is there.
    pub face: Option<NodeId>,
}

impl<'a> Query<'a> {
    pub fn of(faces: &'a Faces, node: NodeId) -> Query<'a> {
        Query { embedding: faces.embedding(node), face: Some(node) }
    }

    fn similarity(&self, faces: &Faces, other: NodeId) -> f32 {
        dot(self.embedding, faces.embedding(other))
    }
}

/// Finds the nearest faces of a face.
pub trait Index: Send + Sync {
    /// Takes in faces that `faces` holds and the index does not. A node may come again after it was
    /// removed, for another face or another embedding.
    fn insert(&mut self, faces: &Faces, new: &[NodeId]);

    /// Takes in faces as [`Index::insert`] does, but at once, for who goes on from a snapshot: what has to
    /// be built for them is built by [`Index::maintain`] and by those who come. Until then searches
    /// compare with everyone. Called when the index is empty.
    fn adopt(&mut self, faces: &[NodeId]);

    /// From now on no search meets `node`. It does not matter whether `faces` still holds it.
    fn remove(&mut self, node: NodeId);

    /// The faces that `query` meets, in no particular order and without itself: its `nearest`
    /// nearest among them, and of the others met those that `also` asks for. Called from many
    /// threads at once, when `faces` holds all that the index does.
    fn search(
        &self,
        faces: &Faces,
        query: Query<'_>,
        nearest: usize,
        also: &(dyn Fn(Neighbour) -> bool + Sync),
    ) -> Vec<Neighbour>;

    /// Whether a search, as things stand, meets everyone.
    fn is_exact(&self) -> bool;

    /// Whether building is under way.
    fn is_building(&self) -> bool;

    /// Goes on with building that is under way, by `steps` faces at most.
    fn maintain(&mut self, faces: &Faces, steps: usize);

    /// Vectors it compares with, or would: more than there are faces while erased ones are among them.
    fn points(&self) -> usize;

    /// The share of them that is of faces removed.
    fn dead_share(&self) -> f64;
}
