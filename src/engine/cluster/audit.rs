//! Clusters as a store kept them, held against what the merging rule makes of the linkages kept beside
//! them. What a batch would compute, without telling anybody. Cost: that of the rule on every face.

use std::collections::{BTreeMap, BTreeSet};

use super::{Book, ClusterSettings, Clusters, Home, RestoredClusters};
use crate::engine::changes::{FaceRecord, KeptLinkages, Restored, RestoredFace};
use crate::engine::faces::{Faces, Known, NewFace};
use crate::engine::link::{Linkage, Scored};
use crate::face::{Arrival, FaceId, NodeId};

/// Faces that the rule would put into one cluster, and that are not one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Differing {
    /// The first of them, by id.
    pub face: FaceId,
    pub faces: usize,
}

/// Where the clusters of a settled collection are not what the rule makes of its linkages. Not told
/// of: what hysteresis alone keeps together, as it may after a restart until the collection settles.
pub fn differing(settings: &ClusterSettings, restored: Restored) -> Vec<Differing> {
    let Restored { faces: kept, linkages, clusters, constraints, counters, since: _ } = restored;
    let dimension = kept.first().map_or(1, |face| face.embedding.values().len());
    let mut faces = Faces::new(dimension);
    let mut nodes: BTreeMap<Arrival, NodeId> = BTreeMap::new();
    let mut homes = Vec::with_capacity(kept.len());
    for RestoredFace { node, record, embedding } in kept {
        nodes.insert(record.arrival, node);
        homes.push(Home { node, home: record.home, home_version: record.home_version });
        faces.add_at(node, NewFace { embedding: &embedding, known: known(record) });
    }
    let scored = |kept: KeptLinkages| Scored {
        node: kept.node,
        linkages: kept
            .linkages
            .iter()
            .filter_map(|linkage| {
                Some(Linkage { candidate: *nodes.get(&linkage.candidate)?, probability: linkage.probability })
            })
            .collect(),
    };
    let linkages = linkages.into_iter().map(scored).collect();
    let book = Book::restore(clusters, homes.into_iter(), &counters);
    let restored = RestoredClusters { book, linkages, constraints, as_computed: None };
    Clusters::restore(settings.clone(), &faces, restored).differing(&faces)
}

impl Clusters {
    fn differing(&mut self, faces: &Faces) -> Vec<Differing> {
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

fn known(record: FaceRecord) -> Known {
    let FaceRecord { id, arrival, frame_id, quality, captured_at, arrived_at, place, .. } = record;
    Known { id, arrival, frame: frame_id, quality, captured_at, arrived_at, place }
}
