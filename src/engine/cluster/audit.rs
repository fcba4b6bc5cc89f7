//! Clusters as a store kept them, held against what the merging rule makes of the linkages kept beside
//! them. What a batch would compute, without telling anybody. Cost: that of the rule on every face.

use std::collections::BTreeSet;

use super::Clusters;
use crate::engine::faces::Faces;
use crate::face::FaceId;

/// Faces that the rule would put into one cluster, and that are not one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Differing {
    /// The first of them, by id.
    pub face: FaceId,
    pub faces: usize,
}

impl Clusters {
    /// Where the clusters of a settled collection are not what the rule makes of its linkages. Not told
    /// of: what hysteresis alone keeps together, as it may after a restart until the collection settles.
    pub fn differing(&mut self, faces: &Faces) -> Vec<Differing> {
        let all: BTreeSet<_> = faces.live().map(|node| self.components.of(node)).collect();
        let walked: Vec<_> = all.into_iter().flat_map(|id| self.walk(id)).collect();
        let mut differing = Vec::new();
        for id in walked {
            let parts = self.compute(id, faces, false);
            if !parts.is_empty() && !self.compute(id, faces, true).is_empty() {
                differing.extend(parts.iter().filter_map(|part| {
                    let face = part.faces.iter().map(|&node| faces.id(node)).min()?.clone();
                    Some(Differing { face, faces: part.faces.len() })
                }));
            }
        }
        differing
    }
}
