//! A new model, or another τ, over the faces of a state: `facetd recluster`.
//!
//! Each collection's faces, clusters and constraints go into an engine with the new model, without
//! the linkages of the old one. One batch scores every face and computes every component, so it comes
//! out settled, and ids live on as in any merge or split. The changes of all collections are one
//! commit, which also names the new model: until then nothing is changed, and whenever it dies
//! the state is that of the old model, whole.
//!
//! Cost: for each face an insert, a search and a row of RE and LP. Memory: the engine of one
//! collection at a time, and until the commit the linkages of all: about 3 KB a face.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::settings::ShardSettings;
use super::shard::ShardError;
use crate::engine::Engine;
use crate::engine::changes::{Batch, Changes};
use crate::face::{ClusterId, CollectionName, NodeId, Timestamp};
use crate::model::FaceTransformer;
use crate::store::{CollectionCommit, Commit, Store, StoreError};

/// Is told how far it is.
pub trait Progress {
    fn begins(&mut self, collection: &CollectionName, faces: usize);
    fn ends(&mut self, collection: &CollectionName, outcome: Reclustered);
    /// The last moment at which nothing has changed.
    fn commits(&mut self);
}

/// What became of a collection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reclustered {
    pub clusters_before: usize,
    pub clusters_after: usize,
    /// Faces whose cluster is another than before.
    pub moved: usize,
    pub events: usize,
}

/// Whether there is something to do: the state was made with another model than that of `settings`.
/// An error when that model takes other embeddings.
pub fn is_due(store: &Store, settings: &ShardSettings) -> Result<bool, StoreError> {
    match store.check_model(&settings.model) {
        Ok(()) => Ok(false),
        Err(StoreError::OtherModel { .. }) => Ok(true),
        Err(error) => Err(error),
    }
}

/// Clusters every collection anew with `model`, and has the state go on with it. This operation is
/// atomic: see the head of this file.
pub fn recluster(
    store: &mut Store,
    settings: &ShardSettings,
    model: &Arc<dyn FaceTransformer>,
    now: Timestamp,
    progress: &mut dyn Progress,
) -> Result<(), ShardError> {
    let mut names: Vec<CollectionName> = store.collections().cloned().collect();
    names.sort();
    let mut commit = Commit { model: Some(settings.model.clone()), now, ..Commit::default() };
    for collection in names {
        let mut restored = store.restored(&collection)?;
        restored.linkages.clear();
        progress.begins(&collection, restored.faces.len());
        let mut engine = Engine::restore(&settings.recluster(&collection), model.clone(), restored)?;
        let before = Whereabouts::of(&engine);
        let changes = settle(&mut engine, now)?;
        let after = Whereabouts::of(&engine);
        let outcome = Reclustered {
            clusters_before: before.clusters,
            clusters_after: after.clusters,
            moved: before
                .cluster_of
                .iter()
                .filter(|(node, cluster)| after.cluster_of.get(node) != Some(cluster))
                .count(),
            events: changes.events.len(),
        };
        progress.ends(&collection, outcome);
        commit.collections.push(CollectionCommit { collection, changes });
    }
    progress.commits();
    Ok(store.commit(&commit)?)
}

/// One batch in which there is time for everything.
fn settle(engine: &mut Engine, now: Timestamp) -> Result<Changes, ShardError> {
    let batch = Batch { refresh_budget: usize::MAX, idle: true, now, ..Batch::default() };
    let changes = engine.apply(batch, &mut ())?;
    debug_assert!(engine.is_settled(), "every face was scored and every component computed");
    Ok(changes)
}

/// Who is in which cluster.
struct Whereabouts {
    cluster_of: BTreeMap<NodeId, ClusterId>,
    clusters: usize,
}

impl Whereabouts {
    fn of(engine: &Engine) -> Whereabouts {
        let book = engine.clusters().book();
        let cluster_of = engine.faces().live().filter_map(|node| Some((node, book.cluster_of(node)?))).collect();
        Whereabouts { cluster_of, clusters: book.living() }
    }
}
