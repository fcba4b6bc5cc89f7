//! The living clusters of a collection, kept in the orders they are listed in.
//!
//! Cost: O(log n) a change.

use std::cmp::Reverse;

use imbl::{OrdMap, OrdSet};

use crate::engine::event::Cluster;
use crate::face::ClusterId;

/// A cluster, and when it changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    pub cluster: Cluster,
    /// Sequence of the collection's event that changed it last; none since the daemon started.
    pub sequence: Option<u64>,
}

/// Living clusters of about one size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SizeClass {
    /// A power of two; more than half of it, but for 1.
    pub up_to: u32,
    pub clusters: usize,
}

/// The last is of all that are larger than the one before.
const CLASSES: usize = 32;

/// Place in the list by size: large ones first, of one size the older.
pub(super) type BySize = (Reverse<u32>, ClusterId);
/// Place in the list by recent change: those of no event last, the younger first.
pub(super) type ByChange = (Reverse<u64>, Reverse<ClusterId>);

/// Clusters by id, those that merged too, and the living ones in order.
#[derive(Debug, Clone, Default)]
pub(super) struct Clusters {
    by_id: OrdMap<ClusterId, Listed>,
    pub by_size: OrdSet<BySize>,
    pub by_change: OrdSet<ByChange>,
    /// Which went into which: (into, from).
    merged: OrdSet<(ClusterId, ClusterId)>,
    /// How many live of each size class.
    classes: [usize; CLASSES],
}

impl Clusters {
    pub fn get(&self, id: ClusterId) -> Option<&Listed> {
        self.by_id.get(&id)
    }

    /// How many live.
    pub fn living(&self) -> usize {
        self.by_size.len()
    }

    pub fn put(&mut self, cluster: Cluster, sequence: Option<u64>) {
        self.remove(cluster.id);
        let id = cluster.id;
        match cluster.merged_into {
            Some(into) => drop(self.merged.insert((into, id))),
            None => {
                self.by_size.insert((Reverse(cluster.size), id));
                self.by_change.insert((Reverse(sequence.unwrap_or(0)), Reverse(id)));
                self.classes[class(cluster.size)] += 1;
            }
        }
        self.by_id.insert(id, Listed { cluster, sequence });
    }

    pub fn remove(&mut self, id: ClusterId) {
        let Some(Listed { cluster, sequence }) = self.by_id.remove(&id) else { return };
        match cluster.merged_into {
            Some(into) => drop(self.merged.remove(&(into, id))),
            None => {
                self.by_size.remove(&(Reverse(cluster.size), id));
                self.by_change.remove(&(Reverse(sequence.unwrap_or(0)), Reverse(id)));
                self.classes[class(cluster.size)] -= 1;
            }
        }
    }

    /// The cluster that a way from `home` ends in.
    pub fn living_of(&self, home: ClusterId) -> Option<&Listed> {
        let mut listed = self.get(home)?;
        // It comes to an end: merges are never undone, so ways cannot lead back.
        while let Some(into) = listed.cluster.merged_into {
            listed = self.get(into)?;
        }
        Some(listed)
    }

    /// `id` and every cluster whose way leads there, in order of id.
    pub fn gone_into(&self, id: ClusterId) -> Vec<ClusterId> {
        let mut found = vec![id];
        let mut next = 0;
        while let Some(&into) = found.get(next) {
            next += 1;
            let range = (into, ClusterId(0))..=(into, ClusterId(u64::MAX));
            found.extend(self.merged.range(range).map(|&(_, from)| from));
        }
        found.sort_unstable();
        found
    }

    /// The size classes up to that of the largest cluster.
    pub fn sizes(&self) -> Vec<SizeClass> {
        let classes = self.classes.iter().rposition(|&clusters| clusters > 0).map_or(0, |last| last + 1);
        let class = |(power, &clusters): (u32, &usize)| SizeClass { up_to: 1u32 << power, clusters };
        (0..).zip(&self.classes[..classes]).map(class).collect()
    }
}

/// 0 for 1, 1 for 2, 2 for 3 and 4, 3 for 5 to 8.
fn class(size: u32) -> usize {
    let power = u32::BITS - size.saturating_sub(1).leading_zeros();
    (power as usize).min(CLASSES - 1)
}
