//! What a store kept of a collection, put back into the tables of an engine. Cost: O(faces and linkages).

use std::collections::BTreeMap;

use super::changes::{FaceRecord, KeptLinkages, Restored, RestoredFace};
use super::cluster::{Book, Home, RestoredClusters};
use super::faces::{Faces, Known, NewFace};
use super::link::{Linkage, Scored};
use crate::face::{Arrival, NodeId};

/// Faces, their clusters and linkages, as they stood. Nothing is derived yet.
pub struct Standing {
    pub faces: Faces,
    pub clusters: RestoredClusters,
}

impl Standing {
    /// Of all that was kept but `since`.
    pub fn of(restored: Restored, dimension: usize) -> Standing {
        let Restored { faces: kept, linkages, clusters, constraints, counters, since: _ } = restored;
        let mut faces = Faces::new(dimension);
        let mut nodes: BTreeMap<Arrival, NodeId> = BTreeMap::new();
        let mut homes = Vec::with_capacity(kept.len());
        for RestoredFace { node, record, embedding } in kept {
            nodes.insert(record.arrival, node);
            homes.push(Home { node, home: record.home, home_version: record.home_version });
            faces.add_at(node, NewFace { embedding: &embedding, known: known(record) });
        }
        let scored = |kept: KeptLinkages| {
            // Candidates that were erased or replaced are found by nobody.
            let linkages = kept.linkages.iter().filter_map(|linkage| {
                Some(Linkage { candidate: *nodes.get(&linkage.candidate)?, probability: linkage.probability })
            });
            Scored { node: kept.node, linkages: linkages.collect() }
        };
        let linkages = linkages.into_iter().map(scored).collect();
        let book = Book::restore(clusters, homes.into_iter(), &counters);
        Standing { faces, clusters: RestoredClusters { book, linkages, constraints, as_computed: None } }
    }
}

fn known(record: FaceRecord) -> Known {
    let FaceRecord { id, arrival, frame_id, quality, captured_at, arrived_at, place, .. } = record;
    Known { id, arrival, frame: frame_id, quality, captured_at, arrived_at, place }
}
