//! The read side: who is in which cluster, for look-ups while the engine runs.
//!
//! Written after each commit, so a reader never sees what a crash could take back. Readers and the
//! writer meet only at a shard of a map, and only for one entry.

use std::sync::Arc;

use dashmap::DashMap;

use crate::engine::Changes;
use crate::engine::Engine;
use crate::engine::cluster::Cluster;
use crate::face::{ClusterId, CollectionName, FaceId};

/// Where every face is.
#[derive(Debug, Default)]
pub struct View {
    collections: DashMap<CollectionName, Arc<CollectionView>>,
}

#[derive(Debug, Default)]
struct CollectionView {
    homes: DashMap<FaceId, ClusterId>,
    clusters: DashMap<ClusterId, Cluster>,
}

impl View {
    /// Shows a collection that was restored.
    pub fn show(&self, collection: &CollectionName, engine: &Engine) {
        let shown = self.collection(collection);
        for node in crate::engine::faces::nodes(0..engine.len()) {
            shown.homes.insert(engine.faces().id(node).clone(), engine.clusters().home(node));
        }
        for cluster in engine.clusters().records() {
            shown.clusters.insert(cluster.id, cluster.clone());
        }
    }

    /// A handle of its own, so that no lock of the outer map is held while it is written.
    fn collection(&self, name: &CollectionName) -> Arc<CollectionView> {
        self.collections.entry(name.clone()).or_default().clone()
    }

    /// Shows what a commit changed: clusters first, so that every home a reader finds is there.
    pub fn update(&self, collection: &CollectionName, changes: &Changes) {
        let shown = self.collection(collection);
        for cluster in &changes.clusters {
            shown.clusters.insert(cluster.id, cluster.clone());
        }
        for added in &changes.added {
            shown.homes.insert(added.face.id.clone(), added.home);
        }
    }

    /// The living cluster of a face.
    pub fn cluster_of(&self, collection: &CollectionName, face: &FaceId) -> Option<Cluster> {
        let shown = self.collections.get(collection)?.clone();
        let mut id = *shown.homes.get(face)?;
        loop {
            let cluster = shown.clusters.get(&id)?.clone();
            match cluster.merged_into {
                Some(older) => id = older,
                None => return Some(cluster),
            }
        }
    }
}
