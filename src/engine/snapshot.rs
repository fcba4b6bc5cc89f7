//! What an engine derives from what a store keeps, as a value of its own: neighbourhoods, `g`, who is
//! stale and which clusters are as the merging rule has them. An engine that is given one goes on
//! from it; what has changed since is found by comparing it with what the store has now.
//!
//! Everything goes by node and lies flat, so that to cut one is to copy a few long rows: the engine
//! stands still meanwhile. The graph of the index is not in it; see [`super::index::Index::adopt`].
//!
//! Why nothing stale is missed, however old a snapshot is. A face's linkages are right unless it is
//! stale, at every moment. Those written before the snapshot were right then or are among its stale
//! ones. From there to now neighbourhoods and `g` change only because faces went (those whose arrival
//! is another now, [`Snapshot::retain`]) or came (those it does not know), and each such change marks
//! whom it affects, as it does in a stream. Linkages written since may be of neighbourhoods that
//! have been and gone, so whoever has such is stale too.
//!
//! Cost: 4 d + 12 (hop1 + reserve) bytes a node, and a copy of as many.

use std::collections::HashSet;

use super::graph::Lists;
use super::refresh::{Stale, Staleness};
use crate::face::{Arrival, ClusterId, NodeId, Timestamp};
use crate::model::Shape;

/// In [`Snapshot::components`], of a face whose clusters were still to be computed.
pub const UNSETTLED: u32 = u32::MAX;

/// What an engine had derived at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    pub shape: Shape,
    /// The latest time the engine had been told.
    pub now: Timestamp,
    /// Stands for what clusters go by beside faces and linkages: the merging rule and operators' words.
    pub rules: [u8; 32],
    /// By node: whose it was. 0: nobody's.
    pub arrivals: Vec<u64>,
    /// By node: `g`, row after row.
    pub enhanced: Vec<f32>,
    /// By node.
    pub lists: Lists,
    /// By node: a number that all of its component have, and nobody else. [`UNSETTLED`] where the
    /// component's clusters were not what the merging rule gives.
    pub components: Vec<u32>,
    /// By node: its cluster. 0: nobody's node.
    pub clusters: Vec<u64>,
    /// A face that is in it several times has changed by their sum.
    pub stale: Vec<Stale>,
}

/// Whose linkages a neighbourhood that changes makes stale.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Those of its face.
    Itself,
    /// And of whoever has that face for a candidate: where the model reads candidates' neighbourhoods, or may do so.
    Onlookers,
}

/// A snapshot, and what a store knows of the time since.
#[derive(Debug, Clone)]
pub struct Since {
    pub snapshot: Snapshot,
    /// Faces whose linkages were written after it.
    pub rescored: Vec<NodeId>,
}

impl Snapshot {
    pub fn slots(&self) -> usize {
        self.arrivals.len()
    }

    /// How many faces it holds.
    pub fn faces(&self) -> usize {
        self.arrivals.iter().filter(|&&arrival| arrival != 0).count()
    }

    /// Whose a node was.
    pub fn arrival(&self, node: NodeId) -> Option<Arrival> {
        self.arrivals.get(node.index()).copied().filter(|&arrival| arrival != 0).map(Arrival)
    }

    /// Whether an engine can go on from it without a panic: for what was read from a file. The error says
    /// what is wrong.
    pub fn check(&self) -> Result<(), &'static str> {
        let slots = self.slots();
        if self.enhanced.len() != slots * self.shape.dimension {
            return Err("it has not one g for each node");
        }
        if self.components.len() != slots || self.clusters.len() != slots {
            return Err("it has not one cluster for each node");
        }
        self.lists.check(self.shape, &self.arrivals)?;
        let is_live = |node: NodeId| self.arrival(node).is_some();
        if !self.stale.iter().all(|stale| is_live(stale.node) && stale.staleness.change.is_finite()) {
            return Err("somebody is stale who is not there");
        }
        Ok(())
    }

    /// Cuts off or adds nodes that nobody is at.
    pub fn resize(&mut self, slots: usize) {
        self.arrivals.resize(slots, 0);
        self.enhanced.resize(slots * self.shape.dimension, 0.0);
        self.lists.resize(slots);
        self.components.resize(slots, UNSETTLED);
        self.clusters.resize(slots, 0);
    }

    /// Takes out every face that `lives` does not know. Who had one of them for a neighbour is stale,
    /// as if it had been erased just now, and whom else that reaches. Answers how many went.
    pub fn retain(&mut self, reach: Reach, lives: impl Fn(NodeId, Arrival) -> bool) -> usize {
        let nodes = (0..self.slots() as u32).map(NodeId);
        let gone: Vec<NodeId> =
            nodes.filter(|&node| self.arrival(node).is_some_and(|arrival| !lives(node, arrival))).collect();
        if gone.is_empty() {
            return 0;
        }
        let mut came_apart = HashSet::new();
        for &node in &gone {
            let width = self.shape.dimension;
            self.enhanced[node.index() * width..][..width].fill(0.0);
            self.arrivals[node.index()] = 0;
            self.clusters[node.index()] = 0;
            came_apart.insert(std::mem::replace(&mut self.components[node.index()], UNSETTLED));
        }
        // Its clusters are to be computed without whoever went.
        for component in self.components.iter_mut().filter(|component| came_apart.contains(component)) {
            *component = UNSETTLED;
        }
        self.stale.retain(|stale| self.arrivals[stale.node.index()] != 0);
        let (since, arrivals) = (self.now, &self.arrivals);
        let affected = self.lists.retain(self.shape, |node| arrivals[node.index()] != 0);
        if reach == Reach::Onlookers {
            let bereft: HashSet<u32> = affected.iter().map(|bereft| bereft.node.0).collect();
            let staleness = Staleness { change: 0.0, enhanced: false, since };
            let onlookers = self.lists.who_has(self.shape, |node| bereft.contains(&node.0));
            self.stale.extend(onlookers.map(|node| Stale { node, staleness }));
        }
        self.stale.extend(affected.into_iter().map(|affected| Stale {
            node: affected.node,
            staleness: Staleness { change: affected.change.max(0.0), enhanced: affected.enhanced_is_stale, since },
        }));
        gone.len()
    }
}

/// Whose clusters are as they were: what [`Snapshot::components`] and [`Snapshot::clusters`] say, as far
/// as it still holds.
#[derive(Debug, Default)]
pub struct AsComputed {
    pub rules: [u8; 32],
    components: Vec<u32>,
    /// By number of a component.
    sizes: Vec<u32>,
    clusters: Vec<u64>,
}

impl AsComputed {
    /// What is left of it in `snapshot`, from which whoever is gone was taken out.
    pub fn of(snapshot: &mut Snapshot, rescored: &[NodeId]) -> AsComputed {
        let mut components = std::mem::take(&mut snapshot.components);
        let mut sizes = vec![0; components.len()];
        for &component in &components {
            // Beyond them is UNSETTLED.
            if let Some(size) = sizes.get_mut(component as usize) {
                *size += 1;
            }
        }
        for node in rescored {
            if let Some(component) = components.get_mut(node.index()) {
                *component = UNSETTLED;
            }
        }
        AsComputed { rules: snapshot.rules, components, sizes, clusters: std::mem::take(&mut snapshot.clusters) }
    }

    /// Whether these faces, which are a component, were one then, with the linkages they have, and are in
    /// the clusters that the merging rule gave it.
    pub fn holds(&self, members: &[NodeId], cluster_of: impl Fn(NodeId) -> Option<ClusterId>) -> bool {
        let component = |node: NodeId| self.components.get(node.index()).copied().unwrap_or(UNSETTLED);
        let Some(first) = members.first().map(|&node| component(node)) else { return false };
        self.sizes.get(first as usize).is_some_and(|&size| size as usize == members.len())
            && members.iter().all(|&node| {
                component(node) == first && cluster_of(node).is_some_and(|id| self.clusters[node.index()] == id.0)
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clusters_are_as_computed_where_nothing_of_their_component_is_another() {
        // Two components of two, one of one, and a face whose clusters were owed.
        let mut snapshot = Snapshot {
            shape: Shape { dimension: 1, hop1: 1, hop2: 1 },
            now: Timestamp(0),
            rules: [0; 32],
            arrivals: (1..=6).collect(),
            enhanced: vec![0.5; 6],
            lists: Lists { lengths: vec![0; 6], flags: vec![0; 6], searched_at: vec![0; 6], ..Lists::default() },
            components: vec![0, 0, 2, 2, 4, UNSETTLED],
            clusters: vec![1, 1, 2, 3, 4, 5],
            stale: Vec::new(),
        };
        let holds = |then: &AsComputed, members: &[u32], moved: Option<u32>| {
            let members: Vec<NodeId> = members.iter().copied().map(NodeId).collect();
            let clusters = [1, 1, 2, 3, 4, 5];
            let cluster = |node: NodeId| Some(ClusterId(clusters[node.index()] + u64::from(moved == Some(node.0))));
            then.holds(&members, cluster)
        };
        let then = AsComputed::of(&mut snapshot.clone(), &[NodeId(3)]);
        assert!(holds(&then, &[1, 0], None) && holds(&then, &[4], None));
        assert!(!holds(&then, &[1, 0], Some(0)), "one is in another cluster");
        assert!(!holds(&then, &[1], None), "it was larger");
        assert!(!holds(&then, &[0, 1, 4], None), "it was smaller");
        assert!(!holds(&then, &[2, 3], None), "one was scored since");
        assert!(!holds(&then, &[5], None) && !holds(&then, &[], None), "owed, and nobody");
        assert_eq!(snapshot.retain(Reach::Itself, |node, _| node != NodeId(0)), 1);
        let then = AsComputed::of(&mut snapshot, &[]);
        assert!(!holds(&then, &[1], None), "somebody went from it");
        assert!(holds(&then, &[2, 3], None));
    }
}
