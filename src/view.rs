//! The read side: who is in which cluster, for look-ups while the engine runs.
//!
//! Written after each commit, so a reader never sees what a crash could take back. Readers and the
//! writer meet only at a shard of a map, and only for one entry; so a reader may walk home →
//! merged_into → … while a commit is being shown. [`View::update`] writes in an order that makes
//! this safe: what a way needs is there before the way, and goes after it.

use std::hash::Hash;
use std::sync::Arc;

use dashmap::DashMap;

use crate::engine::changes::Changes;
use crate::engine::event::Cluster;
use crate::face::{ClusterId, CollectionName, FaceId};

/// How often a look-up that met a cluster which had just ended begins anew. Each time the writer
/// must have shown another commit meanwhile, so more than one is rare already.
const ATTEMPTS: usize = 8;
/// Below so many entries it is not worth giving memory back.
const SMALL: usize = 4096;

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

/// A face's place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home {
    pub face: FaceId,
    pub home: ClusterId,
}

impl View {
    /// Shows a collection that was restored.
    pub fn show<'a>(
        &self,
        collection: &CollectionName,
        homes: impl Iterator<Item = Home>,
        clusters: impl Iterator<Item = &'a Cluster>,
    ) {
        let shown = self.collection(collection);
        for cluster in clusters {
            shown.clusters.insert(cluster.id, cluster.clone());
        }
        for Home { face, home } in homes {
            shown.homes.insert(face, home);
        }
    }

    /// A handle of its own, so that no lock of the outer map is held while it is written.
    fn collection(&self, name: &CollectionName) -> Arc<CollectionView> {
        self.collections.entry(name.clone()).or_default().clone()
    }

    /// Shows what a commit changed: clusters before the faces that are in them, faces that went
    /// before the clusters that ended.
    pub fn update(&self, collection: &CollectionName, changes: &Changes) {
        let shown = self.collection(collection);
        for cluster in &changes.clusters {
            shown.clusters.insert(cluster.id, cluster.clone());
        }
        for face in &changes.faces {
            shown.homes.insert(face.record.id.clone(), face.record.home);
        }
        for face in &changes.gone_ids {
            shown.homes.remove(face);
        }
        for cluster in &changes.retired {
            shown.clusters.remove(cluster);
        }
        give_back(&shown.homes);
        give_back(&shown.clusters);
    }

    /// The living cluster of a face.
    pub fn cluster_of(&self, collection: &CollectionName, face: &FaceId) -> Option<Cluster> {
        let shown = self.collections.get(collection)?.clone();
        (0..ATTEMPTS).find_map(|_| match shown.walk(face) {
            Walk::Arrived(cluster) => Some(Some(cluster)),
            Walk::NoSuchFace => Some(None),
            Walk::Overtaken => None,
        })?
    }
}

/// How a walk from a face to its living cluster ended.
enum Walk {
    Arrived(Cluster),
    NoSuchFace,
    /// A cluster on the way ended under it, so the face has another home by now, or none.
    Overtaken,
}

impl CollectionView {
    /// It comes to an end: merges are never undone and a cluster that went into another never
    /// lives again, so ways only grow longer and cannot lead back.
    fn walk(&self, face: &FaceId) -> Walk {
        let Some(mut id) = self.homes.get(face).map(|home| *home) else { return Walk::NoSuchFace };
        loop {
            // Cloned, so that no two locks are held at once.
            let Some(cluster) = self.clusters.get(&id).map(|cluster| cluster.clone()) else { return Walk::Overtaken };
            match cluster.merged_into {
                Some(into) => id = into,
                None => return Walk::Arrived(cluster),
            }
        }
    }
}

/// Gives memory back once most of what was in a map is gone. A map that has shrunk has to lose
/// three quarters of its entries before it is copied again, so this costs O(1) an entry.
fn give_back<K: Eq + Hash, V>(map: &DashMap<K, V>) {
    if map.capacity() > SMALL && map.len() < map.capacity() / 4 {
        map.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use proptest::prelude::*;

    use super::*;
    use crate::histories::{History, face_ids, steps};

    fn lobby() -> CollectionName {
        CollectionName::new("lobby").unwrap()
    }

    /// What the history says of every face there could be.
    fn check(view: &View, history: &History) {
        for face in face_ids() {
            let home = history.homes.get(&face);
            let living = home.map(|home| history.clusters[history.way(home.cluster).last().unwrap()].clone());
            assert_eq!(view.cluster_of(&lobby(), &face), living, "face {face}");
        }
    }

    proptest! {
        #[test]
        fn a_look_up_finds_the_living_cluster_and_no_face_that_is_gone(steps in steps()) {
            let (mut history, view) = (History::default(), View::default());
            for step in steps {
                view.update(&lobby(), &history.take(step));
                check(&view, &history);
            }
            let restored = View::default();
            let homes = history.homes.iter().map(|(face, home)| Home { face: face.clone(), home: home.cluster });
            restored.show(&lobby(), homes, history.clusters.values());
            check(&restored, &history);
            prop_assert_eq!(view.collection(&lobby()).clusters.len(), history.clusters.len());
        }
    }

    /// A face moves from one new cluster to the next while it is looked up: it is always somewhere.
    #[test]
    fn a_face_on_the_move_is_never_lost() {
        use crate::histories::Step;
        let (mut history, view, stop) = (History::default(), View::default(), AtomicBool::new(false));
        for face in [0, 1] {
            view.update(&lobby(), &history.take(Step::Create { face }));
        }
        let moving = face_ids().next().unwrap();
        std::thread::scope(|scope| {
            let reader = || {
                while !stop.load(Ordering::Relaxed) {
                    assert!(view.cluster_of(&lobby(), &moving).is_some());
                }
            };
            let readers = [scope.spawn(reader), scope.spawn(reader)];
            for _ in 0..20_000 {
                // Into the other's cluster with all its cluster, then out again into a new one.
                view.update(&lobby(), &history.take(Step::Merge { a: 0, b: 1 }));
                view.update(&lobby(), &history.take(Step::Split { face: 0 }));
            }
            stop.store(true, Ordering::Relaxed);
            for reader in readers {
                reader.join().unwrap();
            }
        });
        check(&view, &history);
    }

    #[test]
    fn memory_falls_once_most_faces_are_gone() {
        let map: DashMap<u32, u32> = (0..100_000).map(|number| (number, number)).collect();
        let full = map.capacity();
        map.retain(|&number, _| number < 100);
        give_back(&map);
        assert!(map.capacity() < full / 10, "{} of {full}", map.capacity());
        assert_eq!(map.len(), 100);
    }
}
