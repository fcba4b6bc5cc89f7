//! The read side: who is in which cluster, for whoever asks while the engine runs.
//!
//! Written after each commit, so that a reader never sees what a crash could take back. What is shown of a
//! collection is a value that never changes: a reader takes the newest and asks it as often and as long as it
//! likes, all answers being of one moment, and neither waits for the writer nor holds it up. The writer makes the
//! next one of persistent maps, which share what a commit did not change (Bagwell 2001, "Ideal hash trees").
//!
//! DESIGN.md names dashmap for this. That has no order to page by, and shows a commit half done.
//!
//! Cost: O(log n) for each face and cluster a commit changed; nothing for a reader to wait for.

mod collection;
mod listed;
mod pages;

use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use imbl::OrdMap;

pub use collection::{CollectionView, Held, Since};
pub use listed::{Listed, SizeClass};
pub use pages::{AfterCluster, AfterFace, ClusterOrder, Page};

use crate::engine::changes::{Changes, Constraint};
use crate::engine::event::Cluster;
use crate::face::{ClusterId, CollectionName, FaceId};

/// Events held of all collections together, about: what a reader that was away may have missed.
const EVENTS_HELD: usize = 65_536;
/// Of one collection at most.
const EVENTS_HELD_EACH: usize = 8_192;

type Collections = OrdMap<CollectionName, Arc<CollectionView>>;

/// Where every face is.
#[derive(Debug, Default)]
pub struct View {
    collections: ArcSwap<Collections>,
    /// One writes at a time.
    writing: Mutex<()>,
}

/// A face's place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home {
    pub face: FaceId,
    pub home: ClusterId,
}

impl View {
    /// Shows a collection that was restored. `sequence`: of its last event.
    pub fn show<'a>(
        &self,
        collection: &CollectionName,
        homes: impl Iterator<Item = Home>,
        clusters: impl Iterator<Item = &'a Cluster>,
        constraints: impl Iterator<Item = &'a Constraint>,
        sequence: u64,
    ) {
        self.write(collection, |shown, _| shown.fill(homes, clusters, constraints, sequence));
    }

    /// Shows what a commit changed.
    pub fn update(&self, collection: &CollectionName, changes: &Changes) {
        self.write(collection, |shown, held| shown.update(changes, held));
    }

    /// `write` is also told how many events to hold.
    fn write(&self, name: &CollectionName, write: impl FnOnce(&mut CollectionView, usize)) {
        // Nothing is kept under it.
        let _one = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let collections = self.collections.load();
        let mut shown = collections.get(name).map(|shown| CollectionView::clone(shown)).unwrap_or_default();
        let others = collections.len().max(1);
        write(&mut shown, (EVENTS_HELD / others).min(EVENTS_HELD_EACH));
        let shown = Arc::new(shown);
        self.collections.store(Arc::new(collections.update(name.clone(), shown.clone())));
        shown.tell();
    }

    /// A collection as it is now.
    pub fn collection(&self, name: &CollectionName) -> Option<Arc<CollectionView>> {
        self.collections.load().get(name).cloned()
    }

    /// All of them as they are now, by name.
    pub fn collections(&self) -> Vec<(CollectionName, Arc<CollectionView>)> {
        self.collections.load().iter().map(|(name, shown)| (name.clone(), shown.clone())).collect()
    }
}

#[cfg(test)]
mod tests;
