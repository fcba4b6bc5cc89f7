//! An engine that was stopped goes on: the same clusters, and once settled the same as if it had not stopped.

use super::*;
use crate::engine::changes::{FaceRecord, KeptLinkages, Restored, RestoredFace};
use crate::face::{ClusterId, NodeId};

/// What a store keeps, in the plainest way.
#[derive(Default)]
pub(super) struct Kept {
    faces: BTreeMap<NodeId, FaceRecord>,
    vectors: BTreeMap<NodeId, Embedding>,
    linkages: BTreeMap<NodeId, KeptLinkages>,
    clusters: BTreeMap<ClusterId, crate::engine::event::Cluster>,
    words: BTreeMap<(FaceId, FaceId), Constraint>,
    counters: crate::engine::changes::Counters,
}

impl Kept {
    pub(super) fn keep(&mut self, changes: &Changes) {
        for node in &changes.gone_nodes {
            self.faces.remove(node);
            self.vectors.remove(node);
            self.linkages.remove(node);
        }
        for face in &changes.faces {
            self.faces.insert(face.node, face.record.clone());
        }
        for vector in &changes.vectors {
            self.vectors.insert(vector.node, vector.embedding.clone());
        }
        for linkages in &changes.linkages {
            self.linkages.insert(linkages.node, linkages.clone());
        }
        for cluster in &changes.clusters {
            self.clusters.insert(cluster.id, cluster.clone());
        }
        for cluster in &changes.retired {
            self.clusters.remove(cluster);
        }
        for word in &changes.constraints {
            let (a, b) = (word.a.clone().min(word.b.clone()), word.a.clone().max(word.b.clone()));
            self.words.insert((a, b), word.clone());
        }
        for released in &changes.released {
            self.words.remove(&(released.a.clone(), released.b.clone()));
        }
        self.counters = changes.counters;
    }

    pub(super) fn restored(&self) -> Restored {
        let face = |(&node, record): (&NodeId, &FaceRecord)| RestoredFace {
            node,
            record: record.clone(),
            embedding: self.vectors[&node].clone(),
        };
        Restored {
            faces: self.faces.iter().map(face).collect(),
            linkages: self.linkages.values().cloned().collect(),
            clusters: self.clusters.values().cloned().collect(),
            constraints: self.words.values().cloned().collect(),
            counters: self.counters,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn a_restored_engine_settles_where_the_other_does(rule in rule(), stream in stream(), stop in 0usize..12) {
        let settings = settings(rule);
        let mut whole = Engine::new(&settings, Arc::new(Mean));
        let mut again = Engine::new(&settings, Arc::new(Mean));
        let mut kept = Kept::default();
        for (number, (requests, budget)) in stream.into_iter().enumerate() {
            if number == stop {
                again = Engine::restore(&settings, Arc::new(Mean), kept.restored()).unwrap();
                prop_assert_eq!(partition(&again), partition(&whole));
            }
            kept.keep(&apply(&mut again, requests.clone(), budget));
            apply(&mut whole, requests, budget);
        }
        settle(&mut whole);
        for changes in settle(&mut again) {
            kept.keep(&changes);
        }
        prop_assert_eq!(partition(&again), partition(&whole));
        let last = Engine::restore(&settings, Arc::new(Mean), kept.restored()).unwrap();
        prop_assert_eq!(partition(&last), partition(&whole));
        let told: Vec<_> = settle(&mut { last }).into_iter().flat_map(|changes| changes.events).collect();
        prop_assert!(told.is_empty(), "a settled state has nothing to tell after a restart: {:?}", told);
    }
}
