//! Why two faces are together, or that they are not: of all ways from one to the other over links, that whose weakest
//! link is the strongest (Pollack 1960, "The maximum capacity through a network"; here Dijkstra's search).
//!
//! Under the rule `evidence` a cluster is more than its links, but there is always such a way: of two clusters with
//! evidence above τ one pair at least is linked. Only weak faces, whom their quality keeps from bridging, are led round.
//! Cost: O(e log e) for the links of the faces met, [`MOST_MET`] at most.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, HashMap};

use crate::engine::Engine;
use crate::engine::merging::Weight;
use crate::face::{FaceId, NodeId};

/// Faces looked at before the question is given up.
const MOST_MET: usize = 20_000;

/// What ties two faces together.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Tie {
    /// The linkage of the pair, above τ.
    Link(f64),
    /// An operator's word.
    MustLink,
}

/// A step of a way.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    pub from: FaceId,
    pub to: FaceId,
    pub tie: Tie,
}

/// Why two faces are together.
#[derive(Debug, Clone, PartialEq)]
pub struct Why {
    /// They are in one cluster.
    pub together: bool,
    /// τ.
    pub threshold: f32,
    /// From the first face to the second; nothing: no links lead there.
    pub path: Vec<Step>,
}

/// Why that cannot be said.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum WhyError {
    #[error("no face {0} in this collection")]
    UnknownFace(FaceId),
    #[error("more than {MOST_MET} faces lie between these two: ask of two that are nearer to each other")]
    TooFar,
}

/// How well a face can be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Reached {
    /// The weakest tie on the way.
    weakest: Weight,
    /// Of ways as good, the shorter.
    steps: u32,
    node: NodeId,
}

impl Ord for Reached {
    fn cmp(&self, other: &Reached) -> Ordering {
        let rank = |reached: &Reached| (reached.weakest, std::cmp::Reverse((reached.steps, reached.node)));
        rank(self).cmp(&rank(other))
    }
}

impl PartialOrd for Reached {
    fn partial_cmp(&self, other: &Reached) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Engine {
    pub fn why(&self, a: &FaceId, b: &FaceId) -> Result<Why, WhyError> {
        let node = |id: &FaceId| self.faces.node(id).ok_or_else(|| WhyError::UnknownFace(id.clone()));
        let (a, b) = (node(a)?, node(b)?);
        let cluster = self.clusters.book().cluster_of(a);
        let together = cluster == self.clusters.book().cluster_of(b);
        // Of faces together the way is looked for among those they are with.
        let may_lead = |node: NodeId| !together || self.clusters.book().cluster_of(node) == cluster;
        let path = self.way(a, b, &may_lead)?;
        Ok(Why { together, threshold: self.clusters.merging().threshold, path })
    }

    fn way(&self, a: NodeId, b: NodeId, may_lead: &dyn Fn(NodeId) -> bool) -> Result<Vec<Step>, WhyError> {
        let mut came_from: HashMap<NodeId, (NodeId, Tie)> = HashMap::new();
        let mut best: HashMap<NodeId, Reached> = HashMap::new();
        let start = Reached { weakest: Weight::ONE, steps: 0, node: a };
        let mut open = BinaryHeap::from([start]);
        best.insert(a, start);
        while let Some(reached) = open.pop() {
            if best[&reached.node] != reached {
                continue;
            }
            if reached.node == b {
                return Ok(self.retrace(a, b, &came_from));
            }
            if best.len() > MOST_MET {
                return Err(WhyError::TooFar);
            }
            for (node, tie, weight) in self.ties(reached.node) {
                let next = Reached { weakest: reached.weakest.min(weight), steps: reached.steps + 1, node };
                if may_lead(node) && best.get(&node).is_none_or(|known| *known < next) {
                    best.insert(node, next);
                    came_from.insert(node, (reached.node, tie));
                    open.push(next);
                }
            }
        }
        Ok(Vec::new())
    }

    /// Everyone a face is linked with or tied to.
    fn ties(&self, node: NodeId) -> impl Iterator<Item = (NodeId, Tie, Weight)> {
        let threshold = Weight::of(self.clusters.merging().threshold);
        let links = self.clusters.linkages().partners(node).filter(move |partner| partner.weight > threshold);
        let links = links.map(|partner| (partner.node, Tie::Link(partner.weight.probability()), partner.weight));
        links.chain(self.clusters.must_be_with(node).map(|other| (other, Tie::MustLink, Weight::ONE)))
    }

    fn retrace(&self, a: NodeId, b: NodeId, came_from: &HashMap<NodeId, (NodeId, Tie)>) -> Vec<Step> {
        let mut path = Vec::new();
        let mut node = b;
        while node != a {
            let (from, tie) = came_from[&node];
            path.push(Step { from: self.faces.id(from).clone(), to: self.faces.id(node).clone(), tie });
            node = from;
        }
        path.reverse();
        path
    }
}
