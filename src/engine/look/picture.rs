//! What lies around a cluster: its faces and the strangers most like them, with `g` and linkages, for a picture.
//!
//! Cost: O(members log members) to choose the oldest, and the linkages of those shown.

use std::collections::{BTreeMap, HashSet};

use crate::engine::Engine;
use crate::engine::merging::Weight;
use crate::face::{ClusterId, FaceId, NodeId};

/// Members shown, the oldest.
const MOST_MEMBERS: usize = 200;
/// Strangers shown, those with the highest linkages to a member that is.
const MOST_STRANGERS: usize = 50;
/// Linkages below are not shown: nearly every pair has one.
const LEAST_LINKAGE: f32 = 0.1;

/// A cluster's neighbourhood.
#[derive(Debug, Clone, PartialEq)]
pub struct Picture {
    /// Members by age, then strangers.
    pub faces: Vec<Pictured>,
    /// Of pairs of them.
    pub linkages: Vec<PicturedLinkage>,
}

/// A face of a picture.
#[derive(Debug, Clone, PartialEq)]
pub struct Pictured {
    pub face: FaceId,
    pub cluster: ClusterId,
    /// `g`.
    pub enhanced: Vec<f32>,
}

/// The linkage of two faces, by their place in the picture.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PicturedLinkage {
    pub a: usize,
    pub b: usize,
    pub linkage: f64,
}

impl Engine {
    /// Nothing where no such cluster lives.
    pub fn picture(&self, cluster: ClusterId) -> Option<Picture> {
        let book = self.clusters.book();
        book.get(cluster).filter(|cluster| cluster.lives())?;
        let mut nodes = book.members(cluster).to_vec();
        nodes.sort_unstable_by_key(|&node| self.faces.arrival(node));
        nodes.truncate(MOST_MEMBERS);
        nodes.extend(self.strangers(cluster, &nodes));
        let places: BTreeMap<NodeId, usize> = nodes.iter().enumerate().map(|(place, &node)| (node, place)).collect();
        let least = Weight::of(LEAST_LINKAGE);
        let mut linkages = Vec::new();
        for (a, &node) in nodes.iter().enumerate() {
            let partners = self.clusters.linkages().partners(node).filter(|partner| partner.weight >= least);
            linkages.extend(partners.filter_map(|partner| {
                let b = *places.get(&partner.node).filter(|&&b| b > a)?;
                Some(PicturedLinkage { a, b, linkage: partner.weight.probability() })
            }));
        }
        let pictured = |&node: &NodeId| {
            let (face, enhanced) = (self.faces.id(node).clone(), self.faces.enhanced(node).to_vec());
            Some(Pictured { face, cluster: book.cluster_of(node)?, enhanced })
        };
        Some(Picture { faces: nodes.iter().filter_map(pictured).collect(), linkages })
    }

    fn strangers(&self, cluster: ClusterId, members: &[NodeId]) -> Vec<NodeId> {
        let book = self.clusters.book();
        let partners = members.iter().flat_map(|&node| self.clusters.linkages().partners(node));
        let strangers = partners.filter(|partner| book.cluster_of(partner.node).is_some_and(|other| other != cluster));
        let mut strangers: Vec<_> = strangers.collect();
        strangers.sort_unstable_by_key(|partner| (std::cmp::Reverse(partner.weight), partner.node));
        let mut seen = HashSet::new();
        let first = strangers.into_iter().map(|partner| partner.node).filter(|&node| seen.insert(node));
        first.take(MOST_STRANGERS).collect()
    }
}
