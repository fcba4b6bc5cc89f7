//! Clusters in the making: a union-find over the items of a component that knows what must stay apart.
//!
//! A cluster goes by its smallest item, which is its root here and its rank where two are equal.
//! Cost: O(log n) a find, and a union moves the smaller set of exclusive groups.

use rustc_hash::FxHashSet;

use super::{Component, Item};

pub(super) struct Partition {
    /// Of each item one on the way to its root, the smallest item of the cluster.
    parents: Vec<u32>,
    /// By root.
    clusters: Vec<Cluster>,
    /// By root, its exclusive groups: two clusters that share one never merge.
    groups: Vec<FxHashSet<u32>>,
}

/// What is known of a cluster.
#[derive(Clone, Copy)]
pub(super) struct Cluster {
    /// Its faces.
    pub size: u64,
    /// The current cluster that holds every face of it.
    pub held: Option<u64>,
}

impl Partition {
    /// Each item for itself.
    pub fn new(component: &Component) -> Partition {
        let alone = |item: &Item| Cluster { size: u64::from(item.size), held: item.held };
        let mut groups = vec![FxHashSet::default(); component.items.len()];
        for (group, items) in (0..).zip(&component.apart) {
            for &item in items {
                groups[item as usize].insert(group);
            }
        }
        Partition {
            parents: (0..component.items.len() as u32).collect(),
            clusters: component.items.iter().map(alone).collect(),
            groups,
        }
    }

    pub fn root(&mut self, item: u32) -> u32 {
        let mut at = item;
        while self.parents[at as usize] != at {
            let parent = self.parents[at as usize];
            self.parents[at as usize] = self.parents[parent as usize];
            at = parent;
        }
        at
    }

    pub fn len(&self) -> usize {
        self.parents.len()
    }

    pub fn is_root(&self, item: u32) -> bool {
        self.parents[item as usize] == item
    }

    pub fn cluster(&self, root: u32) -> Cluster {
        self.clusters[root as usize]
    }

    /// Whether two roots share an exclusive group.
    pub fn apart(&self, a: u32, b: u32) -> bool {
        !self.groups[a as usize].is_disjoint(&self.groups[b as usize])
    }

    /// Makes one cluster of those of two items, and says whether it did: not when they are one
    /// already, nor when they have to stay apart.
    pub fn unite(&mut self, a: u32, b: u32) -> bool {
        let (a, b) = (self.root(a), self.root(b));
        if a == b || self.apart(a, b) {
            return false;
        }
        let (root, child) = (a.min(b), a.max(b));
        self.parents[child as usize] = root;
        let Cluster { size, held } = self.cluster(child);
        let into = &mut self.clusters[root as usize];
        into.size += size;
        into.held = into.held.filter(|_| into.held == held);

        let mut groups = std::mem::take(&mut self.groups[child as usize]);
        let into = &mut self.groups[root as usize];
        if into.len() < groups.len() {
            std::mem::swap(into, &mut groups);
        }
        into.extend(groups);
        true
    }

    /// The root of every item.
    pub fn labels(mut self) -> Vec<u32> {
        (0..self.parents.len() as u32).map(|item| self.root(item)).collect()
    }
}
