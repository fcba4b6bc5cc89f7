//! Step 2, graph: every face's neighbourhood, and who is affected when a newcomer enters one.
//!
//! A neighbourhood is the `hop1` nearest other faces, nearest first, ties by face_id; its first
//! `hop2` feed the relation encoder, all of it the linkage predictor. Offering a newcomer to a
//! face costs one comparison when it does not enter, O(hop1) when it does.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use super::faces::Faces;
use crate::face::NodeId;

/// A face met, and its cosine to the face that met it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Neighbour {
    pub node: NodeId,
    pub similarity: f32,
}

/// The order of a neighbourhood: nearest first, ties by face_id.
pub fn nearest_first(faces: &Faces, a: &Neighbour, b: &Neighbour) -> Ordering {
    b.similarity.total_cmp(&a.similarity).then_with(|| faces.id(a.node).cmp(faces.id(b.node)))
}

/// A face whose neighbourhood a newcomer entered.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Affected {
    /// The nearest newcomer that entered.
    pub newcomer: NodeId,
    pub similarity: f32,
    /// One of them is among the first `hop2`, so `g` is no longer what RE would give.
    pub enhanced_is_stale: bool,
}

/// The neighbourhoods of a collection, one a node.
#[derive(Debug)]
pub struct Graph {
    hop1: usize,
    hop2: usize,
    neighbourhoods: Vec<Vec<Neighbour>>,
}

impl Graph {
    pub fn new(hop1: usize, hop2: usize) -> Graph {
        Graph { hop1, hop2, neighbourhoods: Vec::new() }
    }

    pub fn neighbourhood(&self, node: NodeId) -> &[Neighbour] {
        &self.neighbourhoods[node.index()]
    }

    /// The neighbours that feed RE.
    pub fn inner(&self, node: NodeId) -> &[Neighbour] {
        let neighbourhood = self.neighbourhood(node);
        &neighbourhood[..neighbourhood.len().min(self.hop2)]
    }

    /// Whether `newcomer`, itself not in it, would enter the neighbourhood of a face that already
    /// has one: said from the newcomer's side, so `met.node` is the face.
    pub fn would_enter(&self, faces: &Faces, met: Neighbour, newcomer: NodeId) -> bool {
        let Some(neighbourhood) = self.neighbourhoods.get(met.node.index()) else { return false };
        let Some(last) = neighbourhood.last().filter(|_| neighbourhood.len() >= self.hop1) else { return true };
        let offered = Neighbour { node: newcomer, similarity: met.similarity };
        nearest_first(faces, &offered, last) == Ordering::Less
    }

    /// Gives newcomers, numbered on from the last node, their neighbourhoods out of the faces each
    /// `met`, and offers each to the faces it met. Answers who is affected, newcomers themselves
    /// excepted (they are scored in any case).
    pub fn admit(&mut self, faces: &Faces, met: Vec<Vec<Neighbour>>) -> BTreeMap<NodeId, Affected> {
        let first_new = self.neighbourhoods.len();
        for found in &met {
            let mut neighbourhood = found.clone();
            neighbourhood.sort_unstable_by(|a, b| nearest_first(faces, a, b));
            neighbourhood.truncate(self.hop1);
            self.neighbourhoods.push(neighbourhood);
        }
        let mut affected: BTreeMap<NodeId, Affected> = BTreeMap::new();
        for (number, found) in met.into_iter().enumerate() {
            let newcomer = NodeId((first_new + number) as u32);
            for Neighbour { node, similarity } in found {
                let Some(rank) = self.offer(faces, node, Neighbour { node: newcomer, similarity }) else { continue };
                if node.index() >= first_new {
                    continue;
                }
                let enhanced_is_stale = rank < self.hop2;
                let entry = affected.entry(node).or_insert(Affected { newcomer, similarity, enhanced_is_stale: false });
                entry.enhanced_is_stale |= enhanced_is_stale;
                if similarity > entry.similarity {
                    (entry.newcomer, entry.similarity) = (newcomer, similarity);
                }
            }
        }
        affected
    }

    /// Puts `newcomer` into `node`'s neighbourhood if it is near enough; answers at which rank.
    fn offer(&mut self, faces: &Faces, node: NodeId, newcomer: Neighbour) -> Option<usize> {
        let neighbourhood = &mut self.neighbourhoods[node.index()];
        let rank = neighbourhood.partition_point(|held| nearest_first(faces, held, &newcomer) == Ordering::Less);
        let already = neighbourhood.get(rank).is_some_and(|held| held.node == newcomer.node);
        if rank >= self.hop1 || already {
            return None;
        }
        neighbourhood.insert(rank, newcomer);
        neighbourhood.truncate(self.hop1);
        Some(rank)
    }
}
