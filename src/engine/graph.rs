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

use rayon::prelude::*;

use super::faces::Faces;
use crate::face::NodeId;
use crate::model::Shape;

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

/// In [`Lists::flags`].
const COMPLETE: u8 = 1;
const SHORT: u8 = 2;

impl List {
    fn flags(&self) -> u8 {
        u8::from(self.complete) * COMPLETE + u8::from(self.short) * SHORT
    }
}

/// The neighbours kept of a face.
fn capacity(hop1: usize) -> usize {
    let reserve = (hop1 / 2).max(4);
    hop1.saturating_add(reserve)
}

/// Neighbourhoods with their reserve, flat, by node: see [`Graph`].
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Lists {
    /// How many of the rows below are a node's.
    pub lengths: Vec<u16>,
    pub flags: Vec<u8>,
    pub searched_at: Vec<u64>,
    /// The neighbours of the first node, nearest first, then those of the second, and so on.
    pub nodes: Vec<u32>,
    pub similarities: Vec<f32>,
}

/// A face some of whose neighbours went at once.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bereft {
    pub node: NodeId,
    /// The sum of their cosines, of those that were in its neighbourhood.
    pub change: f32,
    pub enhanced_is_stale: bool,
}

impl Lists {
    /// Where each node's neighbours are.
    fn places(&self) -> impl Iterator<Item = std::ops::Range<usize>> {
        self.lengths.iter().scan(0, |start, &length| {
            let place = *start..*start + usize::from(length);
            *start = place.end;
            Some(place)
        })
    }

    /// Whether a graph can be made of it: every list is somebody's, not too long, and of others who are
    /// there. `arrivals`: by node, 0 where nobody is.
    pub fn check(&self, shape: Shape, arrivals: &[u64]) -> Result<(), &'static str> {
        let slots = arrivals.len();
        if [self.lengths.len(), self.flags.len(), self.searched_at.len()] != [slots; 3] {
            return Err("it has not one neighbourhood for each node");
        }
        let held: usize = self.lengths.iter().map(|&length| usize::from(length)).sum();
        if [self.nodes.len(), self.similarities.len()] != [held; 2] {
            return Err("its neighbourhoods are not as long as they say");
        }
        let longest = capacity(shape.hop1);
        for ((own, place), &arrival) in (0..).zip(self.places()).zip(arrivals) {
            let neighbours = &self.nodes[place];
            if neighbours.len() > longest || (arrival == 0 && !neighbours.is_empty()) {
                return Err("a neighbourhood is too long");
            }
            let is_another = |&node: &u32| node != own && arrivals.get(node as usize).is_some_and(|&there| there != 0);
            if !neighbours.iter().all(is_another) {
                return Err("a neighbour is not there");
            }
        }
        Ok(())
    }

    /// The nodes in whose neighbourhood there is one of these, in order.
    pub fn who_has(&self, shape: Shape, sought: impl Fn(NodeId) -> bool) -> impl Iterator<Item = NodeId> {
        let has = move |place: std::ops::Range<usize>| {
            self.nodes[place].iter().take(shape.hop1).any(|&node| sought(NodeId(node)))
        };
        (0..).map(NodeId).zip(self.places()).filter(move |(_, place)| has(place.clone())).map(|(node, _)| node)
    }

    /// Cuts off or adds nodes of nobody.
    pub fn resize(&mut self, slots: usize) {
        self.lengths.resize(slots, 0);
        self.flags.resize(slots, 0);
        self.searched_at.resize(slots, 0);
    }

    /// As [`Graph::remove`] for each node that `lives` does not hold. Answers whom that affects, in
    /// order of node.
    pub fn retain(&mut self, shape: Shape, lives: impl Fn(NodeId) -> bool) -> Vec<Bereft> {
        let mut affected = Vec::new();
        let mut kept = 0;
        let places: Vec<_> = self.places().collect();
        for (own, place) in (0..).map(NodeId).zip(places) {
            let start = kept;
            let mut bereft = Bereft { node: own, change: 0.0, enhanced_is_stale: false };
            let mut is_affected = false;
            for (rank, from) in place.clone().enumerate().filter(|_| lives(own)) {
                if lives(NodeId(self.nodes[from])) {
                    self.nodes[kept] = self.nodes[from];
                    self.similarities[kept] = self.similarities[from];
                    kept += 1;
                } else if rank < shape.hop1 {
                    is_affected = true;
                    bereft.change += self.similarities[from];
                    bereft.enhanced_is_stale |= rank < shape.hop2;
                }
            }
            let length = kept - start;
            let flags = &mut self.flags[own.index()];
            if length < place.len() && length < shape.hop1 && *flags & COMPLETE == 0 {
                *flags |= SHORT;
            }
            if !lives(own) {
                (*flags, self.searched_at[own.index()]) = (0, 0);
            }
            self.lengths[own.index()] = length as u16;
            affected.extend(is_affected.then_some(bereft));
        }
        self.nodes.truncate(kept);
        self.similarities.truncate(kept);
        affected
    }
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
        Graph { hop1, hop2, capacity: capacity(hop1), lists: Vec::new(), holders: Vec::new() }
    }

    /// The neighbourhoods that `lists` holds, which were checked for `shape`.
    pub fn restore(shape: Shape, lists: &Lists) -> Graph {
        let slots = lists.lengths.len();
        let mut held_by = vec![0u32; slots];
        lists.nodes.iter().for_each(|&node| held_by[node as usize] += 1);
        let mut holders: Vec<Vec<NodeId>> = held_by.par_iter().map(|&held| Vec::with_capacity(held as usize)).collect();
        // By node, so that each list of holders is in order.
        for (holder, place) in (0..).map(NodeId).zip(lists.places()) {
            for &node in &lists.nodes[place] {
                holders[node as usize].push(holder);
            }
        }
        let places: Vec<_> = lists.places().collect();
        let list = |(node, place): (usize, std::ops::Range<usize>)| {
            let neighbours = lists.nodes[place.clone()].iter().zip(&lists.similarities[place]);
            let neighbour = |(&node, &similarity): (&u32, &f32)| Neighbour { node: NodeId(node), similarity };
            List {
                neighbours: neighbours.map(neighbour).collect(),
                complete: lists.flags[node] & COMPLETE != 0,
                short: lists.flags[node] & SHORT != 0,
                searched_at: lists.searched_at[node],
            }
        };
        let lists = places.into_par_iter().enumerate().map(list).collect();
        Graph { hop1: shape.hop1, hop2: shape.hop2, capacity: capacity(shape.hop1), lists, holders }
    }

    /// A copy of the neighbourhood of each of so many nodes.
    pub fn cut(&self, slots: usize) -> Lists {
        debug_assert_eq!(self.lists.len(), slots, "the graph grows with the table of faces");
        let held = self.lists.iter().map(|list| list.neighbours.len()).sum();
        let mut cut = Lists {
            lengths: self.lists.iter().map(|list| list.neighbours.len() as u16).collect(),
            flags: self.lists.iter().map(List::flags).collect(),
            searched_at: self.lists.iter().map(|list| list.searched_at).collect(),
            nodes: Vec::with_capacity(held),
            similarities: Vec::with_capacity(held),
        };
        for list in &self.lists {
            cut.nodes.extend(list.neighbours.iter().map(|held| held.node.0));
            cut.similarities.extend(list.neighbours.iter().map(|held| held.similarity));
        }
        cut
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

    /// Whether `candidate` is in the neighbourhood of `node`.
    pub fn has_met(&self, node: NodeId, candidate: NodeId) -> bool {
        self.neighbourhood(node).iter().any(|neighbour| neighbour.node == candidate)
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
