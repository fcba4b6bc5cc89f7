//! The linkages of a collection as pairs: of each face, everyone it scored or was scored by, with
//! both directions. What the merging rules read.
//!
//! Cost: replacing a face's linkages is O(hop1 log hop1) plus the shifting of short lists; 12 bytes
//! a candidate at each end of a pair.

use crate::engine::link::Scored;
use crate::engine::merging::{Probability, Weight};
use crate::face::NodeId;
use crate::model::artefact::Merging;

/// One end of a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Candidate {
    other: NodeId,
    /// p(this → other) and p(other → this); none where that direction is not scored.
    outward: Option<Probability>,
    inward: Option<Probability>,
}

/// A face a pair is with, and the pair's linkage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Partner {
    pub node: NodeId,
    pub weight: Weight,
}

/// A pair whose linkage changed. `None`: it was, or is, no candidate pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChangedPair {
    pub a: NodeId,
    pub b: NodeId,
    pub before: Option<Weight>,
    pub after: Option<Weight>,
}

/// Every candidate pair, under one merging rule.
#[derive(Debug)]
pub struct Linkages {
    merging: Merging,
    /// By node, in order of the other face.
    candidates: Vec<Vec<Candidate>>,
}

impl Linkages {
    pub fn new(merging: Merging) -> Linkages {
        Linkages { merging, candidates: Vec::new() }
    }

    #[cfg(test)]
    pub fn merging(&self) -> Merging {
        self.merging
    }

    pub fn grow(&mut self, slots: usize) {
        self.candidates.resize_with(slots.max(self.candidates.len()), Vec::new);
    }

    /// Everyone `node` is a candidate pair with, in order of node.
    pub fn partners(&self, node: NodeId) -> impl Iterator<Item = Partner> {
        let partner = |candidate: &Candidate| Partner { node: candidate.other, weight: self.weight(candidate) };
        self.candidates[node.index()].iter().map(partner)
    }

    fn weight(&self, candidate: &Candidate) -> Weight {
        self.merging.weight(candidate.outward, candidate.inward)
    }

    /// Replaces what is known of a face's linkages. Answers the pairs that changed.
    pub fn replace(&mut self, scored: &Scored) -> Vec<ChangedPair> {
        let node = scored.node;
        let mut wanted: Vec<(NodeId, Option<Probability>)> = scored
            .linkages
            .iter()
            .map(|linkage| (linkage.candidate, Some(Probability::of(linkage.probability))))
            .collect();
        wanted.sort_unstable_by_key(|&(candidate, _)| candidate);
        let mut changed = Vec::new();
        let dropped: Vec<NodeId> = self.candidates[node.index()]
            .iter()
            .filter(|held| held.outward.is_some())
            .map(|held| held.other)
            .filter(|other| wanted.binary_search_by_key(other, |&(candidate, _)| candidate).is_err())
            .collect();
        let dropped = dropped.into_iter().map(|other| (other, None));
        for (other, direction) in dropped.chain(wanted) {
            changed.extend(self.set(node, other, direction));
        }
        changed
    }

    /// Where p(node → candidate) is not scored it becomes what p(candidate → node) is, until it is.
    pub fn presume(&mut self, node: NodeId, candidate: NodeId) -> Option<ChangedPair> {
        let held = &self.candidates[node.index()];
        let place = held.binary_search_by_key(&candidate, |held| held.other).ok()?;
        match held[place] {
            Candidate { outward: None, inward, .. } => self.set(node, candidate, inward),
            _ => None,
        }
    }

    /// Forgets every linkage of a face, in both directions.
    pub fn remove(&mut self, node: NodeId) -> Vec<ChangedPair> {
        let candidates = std::mem::take(&mut self.candidates[node.index()]);
        let forget = |candidate: Candidate| {
            let before = Some(self.weight(&candidate));
            let others = &mut self.candidates[candidate.other.index()];
            if let Ok(place) = others.binary_search_by_key(&node, |held| held.other) {
                others.remove(place);
            }
            ChangedPair { a: node, b: candidate.other, before, after: None }
        };
        candidates.into_iter().map(forget).collect()
    }

    /// Writes p(node → other) at both ends of the pair.
    fn set(&mut self, node: NodeId, other: NodeId, direction: Option<Probability>) -> Option<ChangedPair> {
        let before = self.write(node, other, |candidate| candidate.outward = direction);
        self.write(other, node, |candidate| candidate.inward = direction);
        let held = &self.candidates[node.index()];
        let after = held.binary_search_by_key(&other, |held| held.other).ok().map(|place| self.weight(&held[place]));
        (before != after).then_some(ChangedPair { a: node, b: other, before, after })
    }

    /// Changes one end; an end of which neither direction is scored goes. Answers the weight before.
    fn write(&mut self, node: NodeId, other: NodeId, change: impl FnOnce(&mut Candidate)) -> Option<Weight> {
        let held = &mut self.candidates[node.index()];
        let found = held.binary_search_by_key(&other, |held| held.other);
        let mut candidate = match found {
            Ok(place) => held[place],
            Err(_) => Candidate { other, outward: None, inward: None },
        };
        let before = candidate;
        change(&mut candidate);
        let is_scored = candidate.outward.is_some() || candidate.inward.is_some();
        match found {
            Ok(place) if is_scored => held[place] = candidate,
            Ok(place) => drop(held.remove(place)),
            Err(place) if is_scored => held.insert(place, candidate),
            Err(_) => {}
        }
        found.is_ok().then(|| self.weight(&before))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::link::Linkage;
    use crate::model::artefact::Rule;

    fn scored(node: u32, linkages: &[(u32, f32)]) -> Scored {
        let linkage = |&(candidate, probability)| Linkage { candidate: NodeId(candidate), probability };
        Scored { node: NodeId(node), linkages: linkages.iter().map(linkage).collect() }
    }

    #[test]
    fn what_is_presumed_stands_until_it_is_scored() {
        let merging = Merging { rule: Rule::Evidence { per_face: 1, cap: 6 }, threshold: 0.5, threshold_off: 0.5 };
        let mut linkages = Linkages::new(merging);
        linkages.grow(2);
        let (old, new) = (NodeId(0), NodeId(1));
        let weight = |linkages: &Linkages| linkages.partners(old).next().map(|partner| partner.weight);
        let of = |outward, inward| Some(merging.weight(Some(Probability::of(outward)), Some(Probability::of(inward))));
        assert_eq!(linkages.presume(old, new), None, "nothing is known of the two");
        linkages.replace(&scored(1, &[(0, 0.8)]));
        assert_eq!(linkages.presume(old, new).and_then(|pair| pair.after), of(0.8, 0.8));
        assert_eq!(linkages.presume(old, new), None);
        linkages.replace(&scored(0, &[(1, 0.4)]));
        assert_eq!((weight(&linkages), linkages.presume(old, new)), (of(0.4, 0.8), None));
        linkages.replace(&scored(0, &[]));
        linkages.presume(old, new);
        linkages.replace(&scored(0, &[]));
        assert_eq!(
            weight(&linkages),
            Some(merging.weight(None, Some(Probability::of(0.8)))),
            "it has not met the other"
        );
    }

    #[test]
    fn a_candidate_takes_twelve_bytes() {
        assert_eq!(size_of::<Candidate>(), 12);
    }
}
