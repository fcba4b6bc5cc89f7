//! The index of a collection of any size, which changes its shape while it serves.
//!
//! A small collection has no graph: comparing with everyone is faster and misses nobody, and
//! thousands of small collections cost next to nothing. Past `few` faces a graph is built, and
//! from the moment it holds everyone it answers. Because a graph cannot forget, its dead points pile
//! up; once they are a quarter of it, the next graph is built from the living, and the old one
//! goes with all its dead when that is ready. Below half of `few` again, the graph is dropped.
//!
//! Building is never a pause: each newcomer brings [`PACE`] others into the graph under way, and
//! [`Index::maintain`] brings more when there is time. What served goes on serving; newcomers and
//! removals reach both.
//!
//! Cost: brute force up to 1.5 `few` faces; past it that of the graph, a newcomer's insert 2 + `PACE`
//! fold while a graph replaces another. At one in, one out, the dead are a quarter of the graph when
//! building begins and the living come in within n / PACE newcomers, so the serving graph never
//! holds more than 1.9 points a face, and both together not more than 3.2.

use super::hnsw::{Hnsw, HnswParameters};
use super::members::Members;
use super::{Faces, Index, Neighbour, Query};
use crate::face::NodeId;

/// One in so many nodes is brought in before those between. Prime, so as not to fall in with a rhythm.
const STRIDE: usize = 61;
/// Faces brought into the graph under way with each newcomer.
const PACE: usize = 2;
/// A graph with more than one dead point in this many is replaced.
const ONE_DEAD_IN: usize = 4;

/// Brute force or an HNSW graph, whichever fits the collection.
pub struct Growing {
    parameters: HnswParameters,
    members: Members,
    /// Holds every member. While there is none, searches compare with everyone.
    serving: Option<Hnsw>,
    next: Option<Next>,
}

/// The graph under way. Newcomers enter it as they come; whoever was there when it was begun is
/// brought in stride by stride, so that the first points, through which all others are found, are
/// not the likes of one another only because they came together.
struct Next {
    graph: Hnsw,
    /// The next node to be brought in, and where the stride began that it is in.
    node: usize,
    began: usize,
    /// One past the last node to be brought in.
    end: usize,
}

impl Next {
    /// The next of the nodes to be brought in, each of which is named once.
    fn step(&mut self) -> Option<NodeId> {
        if self.node >= self.end {
            self.began += 1;
            self.node = self.began;
        }
        if self.began >= STRIDE.min(self.end) {
            return None;
        }
        let node = NodeId(self.node as u32);
        self.node += STRIDE;
        Some(node)
    }
}

impl Growing {
    pub fn new(parameters: HnswParameters) -> Growing {
        Growing { parameters, members: Members::default(), serving: None, next: None }
    }

    /// Points of the graph that serves and of the one under way.
    pub(super) fn points_of_each(&self) -> [usize; 2] {
        let next = self.next.as_ref().map(|next| &next.graph);
        [self.serving.as_ref(), next].map(|graph| graph.map_or(0, Hnsw::points))
    }

    /// Every graph there is.
    fn graphs(&mut self) -> impl Iterator<Item = &mut Hnsw> {
        self.serving.iter_mut().chain(self.next.as_mut().map(|next| &mut next.graph))
    }

    /// Drops graphs that are not worth their keep and begins those that are.
    fn take_stock(&mut self) {
        if self.members.len() < self.parameters.few / 2 {
            retire(self.serving.take());
            retire(self.next.take().map(|next| next.graph));
        }
        let wanted = match &self.serving {
            None => self.members.len() > self.parameters.few,
            Some(graph) => graph.dead() * ONE_DEAD_IN > graph.points(),
        };
        if wanted && self.next.is_none() {
            let graph = Hnsw::new(self.parameters, self.members.len());
            self.next = Some(Next { graph, node: 0, began: 0, end: self.members.slots() });
        }
    }

    /// Brings up to `steps` members into the graph under way. With the last of them it serves.
    fn build(&mut self, faces: &Faces, steps: usize) {
        let Some(next) = &mut self.next else { return };
        let mut missing = Vec::new();
        let mut complete = false;
        while missing.len() < steps && !complete {
            match next.step() {
                Some(node) if self.members.contains(node) && !next.graph.contains(node) => missing.push(node),
                Some(_) => {}
                None => complete = true,
            }
        }
        next.graph.insert(faces, &missing);
        if complete {
            let served = std::mem::replace(&mut self.serving, self.next.take().map(|next| next.graph));
            retire(served);
        }
    }
}

/// Frees a graph while others work: at some 10 µs a point, a large one takes seconds.
fn retire(graph: Option<Hnsw>) {
    if let Some(graph) = graph {
        rayon::spawn(move || drop(graph));
    }
}

impl Index for Growing {
    fn insert(&mut self, faces: &Faces, new: &[NodeId]) {
        new.iter().for_each(|&node| self.members.insert(node));
        self.graphs().for_each(|graph| graph.insert(faces, new));
        self.take_stock();
        self.build(faces, PACE * new.len());
    }

    fn adopt(&mut self, faces: &[NodeId]) {
        faces.iter().for_each(|&node| self.members.insert(node));
        self.take_stock();
    }

    fn remove(&mut self, node: NodeId) {
        self.members.remove(node);
        self.graphs().for_each(|graph| graph.remove(node));
        self.take_stock();
    }

    fn search(
        &self,
        faces: &Faces,
        query: Query<'_>,
        nearest: usize,
        also: &(dyn Fn(Neighbour) -> bool + Sync),
    ) -> Vec<Neighbour> {
        match &self.serving {
            Some(graph) => graph.search(faces, query, nearest, also),
            None => self.members.search(faces, query, nearest, also),
        }
    }

    fn is_exact(&self) -> bool {
        self.serving.is_none()
    }

    fn is_building(&self) -> bool {
        self.next.is_some()
    }

    fn maintain(&mut self, faces: &Faces, steps: usize) {
        self.build(faces, steps);
        self.take_stock();
    }

    fn points(&self) -> usize {
        match self.points_of_each() {
            [0, _] => self.members.len(),
            points => points.into_iter().sum(),
        }
    }

    fn dead_share(&self) -> f64 {
        self.serving.as_ref().map_or(0.0, |graph| graph.dead() as f64 / graph.points().max(1) as f64)
    }
}
