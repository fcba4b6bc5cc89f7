//! Who is in an index, and brute force over them.
//!
//! A set of nodes that inserts and removes in O(1) and walks its members without stepping over
//! holes: a list, and each node's place in it. A search compares with each member, O(n d).

use super::{Faces, Neighbour, Query, answer};
use crate::face::NodeId;

#[derive(Debug, Default)]
pub struct Members {
    nodes: Vec<NodeId>,
    /// By node: where in `nodes` it is.
    places: Vec<Option<u32>>,
}

impl Members {
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// One past the largest node that ever was a member.
    pub fn slots(&self) -> usize {
        self.places.len()
    }

    pub fn contains(&self, node: NodeId) -> bool {
        self.place(node).is_some()
    }

    fn place(&self, node: NodeId) -> Option<u32> {
        *self.places.get(node.index())?
    }

    pub fn insert(&mut self, node: NodeId) {
        assert!(!self.contains(node), "node {node} is in the index already");
        if node.index() >= self.places.len() {
            self.places.resize(node.index() + 1, None);
        }
        self.places[node.index()] = Some(self.nodes.len() as u32);
        self.nodes.push(node);
    }

    /// Takes `node` out; the last of the list takes its place. Answers whether it was in.
    pub fn remove(&mut self, node: NodeId) -> bool {
        let Some(place) = self.place(node) else { return false };
        self.nodes.swap_remove(place as usize);
        if let Some(moved) = self.nodes.get(place as usize) {
            self.places[moved.index()] = Some(place);
        }
        self.places[node.index()] = None;
        true
    }

    /// As [`super::Index::search`], over all members.
    pub fn search(
        &self,
        faces: &Faces,
        query: Query<'_>,
        nearest: usize,
        also: &(dyn Fn(Neighbour) -> bool + Sync),
    ) -> Vec<Neighbour> {
        let others = self.nodes.iter().filter(|&&node| query.face != Some(node));
        let mut met: Vec<Neighbour> = Vec::with_capacity(self.nodes.len());
        met.extend(others.map(|&node| Neighbour { node, similarity: query.similarity(faces, node) }));
        answer(faces, met, nearest, also)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_a_set(turns in prop::collection::vec(0u32..20, 0..200)) {
            let mut members = Members::default();
            let mut expected = BTreeSet::new();
            for node in turns {
                if expected.remove(&node) {
                    prop_assert!(members.remove(NodeId(node)));
                    prop_assert!(!members.remove(NodeId(node)));
                } else {
                    members.insert(NodeId(node));
                    expected.insert(node);
                }
                prop_assert_eq!(members.len(), expected.len());
                prop_assert!((0..25).all(|node| members.contains(NodeId(node)) == expected.contains(&node)));
                let listed: BTreeSet<u32> = members.nodes.iter().map(|node| node.0).collect();
                prop_assert_eq!(&listed, &expected);
            }
        }
    }
}
