//! Step 2, graph: every face's neighbourhood, and who is affected when a face enters or leaves one.
//!
//! A neighbourhood is the `hop1` nearest other faces, nearest first, ties by face_id; its first
//! `hop2` feed the relation encoder, all of it the linkage predictor. Behind it a reserve is kept,
//! the next nearest: when a neighbour is erased the reserve moves up, and only once it is used up
//! the index has to be searched again. Where faces come and go at the same pace it hardly ever is.
//!
//! Offering a newcomer to a face costs one comparison when it does not enter, O(hop1) when it does;
//! taking a face out costs O(hop1) for each face that holds it.

use std::cmp::Ordering;

use super::faces::Faces;
use crate::face::NodeId;

/// A face met, and its cosine to the face that met it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Neighbour {
    pub node: NodeId,
    pub similarity: f32,
}

/// The order of a neighbourhood: nearest first, ties by face_id.
pub fn nearest_first(faces: &Faces, a: &Neighbour, b: &Neighbour) -> Ordering {
    b.similarity.total_cmp(&a.similarity).then_with(|| faces.id(a.node).cmp(faces.id(b.node)))
}

/// A face whose neighbourhood changed because another, `because`, entered or left it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Affected {
    pub node: NodeId,
    pub because: NodeId,
    pub similarity: f32,
    /// It was or is among the first `hop2`, so `g` is no longer what RE would give.
    pub enhanced_is_stale: bool,
}

/// What a new search changed of a neighbourhood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Renewed {
    pub neighbourhood_changed: bool,
    pub inner_changed: bool,
}

/// A neighbourhood and its reserve.
#[derive(Debug, Default, Clone)]
struct List {
    /// Nearest first. Nobody who is not in it is nearer than its last.
    neighbours: Vec<Neighbour>,
    /// It holds everyone there is: a newcomer may go to its end.
    complete: bool,
    /// Erasures have used up the reserve: only a search tells who comes next.
    short: bool,
    /// How many faces had arrived when the index was last searched for it.
    searched_at: u64,
}

/// The neighbourhoods of a collection, one a node.
#[derive(Debug)]
pub struct Graph {
    hop1: usize,
    hop2: usize,
    /// Of a neighbourhood and its reserve.
    capacity: usize,
    lists: Vec<List>,
    /// By node, in order: the faces whose list holds it.
    holders: Vec<Vec<NodeId>>,
}

impl Graph {
    pub fn new(hop1: usize, hop2: usize) -> Graph {
        let reserve = (hop1 / 2).max(4);
        Graph { hop1, hop2, capacity: hop1 + reserve, lists: Vec::new(), holders: Vec::new() }
    }

    /// How many nearest faces a search is to find.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Nearest first.
    pub fn neighbourhood(&self, node: NodeId) -> &[Neighbour] {
        let neighbours = &self.lists[node.index()].neighbours;
        &neighbours[..neighbours.len().min(self.hop1)]
    }

    /// The neighbours that feed RE.
    pub fn inner(&self, node: NodeId) -> &[Neighbour] {
        let neighbours = &self.lists[node.index()].neighbours;
        &neighbours[..neighbours.len().min(self.hop2)]
    }

    /// The faces in whose neighbourhood `node` is, in order of node.
    pub fn neighbour_of(&self, node: NodeId) -> impl Iterator<Item = NodeId> {
        let holds = move |&holder: &NodeId| self.neighbourhood(holder).iter().any(|held| held.node == node);
        self.holders[node.index()].iter().copied().filter(holds)
    }

    /// Whether erasures have used up the reserve, so that only a search tells who comes next.
    pub fn is_short(&self, node: NodeId) -> bool {
        self.lists[node.index()].short
    }

    /// How many faces had arrived when the index was last searched for this one.
    pub fn searched_at(&self, node: NodeId) -> u64 {
        self.lists[node.index()].searched_at
    }

    /// Whether `newcomer`, itself not in it, would enter the list of a face that already has one:
    /// said from the newcomer's side, so `met.node` is the face.
    pub fn would_enter(&self, faces: &Faces, met: Neighbour, newcomer: NodeId) -> bool {
        let Some(list) = self.lists.get(met.node.index()) else { return false };
        let offered = Neighbour { node: newcomer, similarity: met.similarity };
        let Some(last) = list.neighbours.last() else { return true };
        self.takes_at_the_end(list) || nearest_first(faces, &offered, last) == Ordering::Less
    }

    /// Whether a face farther than all may be appended. To a list that is short it may: better
    /// somebody than nobody until the search.
    fn takes_at_the_end(&self, list: &List) -> bool {
        list.neighbours.len() < self.capacity && (list.complete || list.neighbours.len() < self.hop1)
    }

    /// Makes room for nodes up to `slots`.
    pub fn grow(&mut self, slots: usize) {
        self.lists.resize_with(slots.max(self.lists.len()), List::default);
        self.holders.resize_with(slots.max(self.holders.len()), Vec::new);
    }

    /// Offers `newcomer` to the list of `met.node`; answers whom it affects, if anyone.
    pub fn offer(&mut self, faces: &Faces, met: Neighbour, newcomer: NodeId) -> Option<Affected> {
        let offered = Neighbour { node: newcomer, similarity: met.similarity };
        let list = &self.lists[met.node.index()];
        let rank = list.neighbours.partition_point(|held| nearest_first(faces, held, &offered) == Ordering::Less);
        let at_the_end = rank == list.neighbours.len();
        let already = list.neighbours.get(rank).is_some_and(|held| held.node == newcomer);
        if already || (at_the_end && !self.takes_at_the_end(list)) {
            return None;
        }
        let list = &mut self.lists[met.node.index()];
        list.neighbours.insert(rank, offered);
        enter(&mut self.holders[newcomer.index()], met.node);
        // Once it is full it does not hear of those who come and are farther.
        list.complete &= list.neighbours.len() < self.capacity;
        if list.neighbours.len() > self.capacity {
            let pushed_out = list.neighbours.pop();
            if let Some(pushed_out) = pushed_out {
                leave(&mut self.holders[pushed_out.node.index()], met.node);
            }
        }
        (rank < self.hop1).then_some(Affected {
            node: met.node,
            because: newcomer,
            similarity: met.similarity,
            enhanced_is_stale: rank < self.hop2,
        })
    }

    /// Takes a face out of every list and forgets its own; answers whom that affects, in order of node.
    pub fn remove(&mut self, node: NodeId) -> Vec<Affected> {
        let own = std::mem::take(&mut self.lists[node.index()]);
        for neighbour in own.neighbours {
            leave(&mut self.holders[neighbour.node.index()], node);
        }
        let mut affected = Vec::new();
        for holder in std::mem::take(&mut self.holders[node.index()]) {
            let list = &mut self.lists[holder.index()];
            let Some(rank) = list.neighbours.iter().position(|held| held.node == node) else { continue };
            let similarity = list.neighbours.remove(rank).similarity;
            list.short |= list.neighbours.len() < self.hop1 && !list.complete;
            if rank < self.hop1 {
                let enhanced_is_stale = rank < self.hop2;
                affected.push(Affected { node: holder, because: node, similarity, enhanced_is_stale });
            }
        }
        affected
    }

    /// Gives `node` the list that a search found. `exact` says that the search missed nobody.
    pub fn renew(
        &mut self,
        faces: &Faces,
        node: NodeId,
        mut found: Vec<Neighbour>,
        arrivals: u64,
        exact: bool,
    ) -> Renewed {
        found.sort_unstable_by(|a, b| nearest_first(faces, a, b));
        // As many as were asked for: there may be others.
        let complete = exact && found.len() < self.capacity;
        found.truncate(self.capacity);
        let before = std::mem::take(&mut self.lists[node.index()].neighbours);
        for neighbour in &before {
            leave(&mut self.holders[neighbour.node.index()], node);
        }
        for neighbour in &found {
            enter(&mut self.holders[neighbour.node.index()], node);
        }
        let changed = |hop: usize| {
            let nodes = |list: &[Neighbour]| list.iter().take(hop).map(|held| held.node).collect::<Vec<_>>();
            nodes(&before) != nodes(&found)
        };
        let renewed = Renewed { neighbourhood_changed: changed(self.hop1), inner_changed: changed(self.hop2) };
        self.lists[node.index()] = List { neighbours: found, complete, short: false, searched_at: arrivals };
        renewed
    }
}

fn enter(holders: &mut Vec<NodeId>, holder: NodeId) {
    if let Err(place) = holders.binary_search(&holder) {
        holders.insert(place, holder);
    }
}

fn leave(holders: &mut Vec<NodeId>, holder: NodeId) {
    if let Ok(place) = holders.binary_search(&holder) {
        holders.remove(place);
    }
}
