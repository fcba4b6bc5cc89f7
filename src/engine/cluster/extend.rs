//! A component too large to compute at every change, extended: its clusters are taken as they are,
//! and only those that changed, or that a change points at, may merge or take in newcomers. Nothing
//! splits; that waits until the component is computed from its faces.
//!
//! Cost: the linkages of the clusters concerned, the largest of them excepted.

use std::collections::{BTreeMap, BTreeSet};

use super::components::ComponentId;
use super::reconcile::Part;
use super::{Clusters, InFrame, frames};
use crate::engine::faces::Faces;
use crate::engine::merging::{self, Item, Pair, Together, Weight};
use crate::face::{ClusterId, NodeId};
use crate::model::artefact::Rule;

/// A cluster taken as it is, or a newcomer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Block {
    Cluster(ClusterId),
    Newcomer(NodeId),
}

/// Two blocks, by number, the smaller first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Between {
    a: u32,
    b: u32,
}

#[derive(Debug, Default, Clone, Copy)]
struct Sum {
    weight: Weight,
    count: u32,
}

impl Clusters {
    /// Answers the parts that are to be one cluster each and are not yet.
    pub(super) fn extend(&self, id: ComponentId, faces: &Faces) -> Vec<Part> {
        let blocks = self.blocks(id);
        let members: Vec<&[NodeId]> = blocks.keys().map(|block| self.members_of(block)).collect();
        let component = self.component_of_blocks(&blocks, &members, faces);
        let labels = merging::cluster(&component, &self.settings.merging).labels;
        let mut merged: BTreeMap<u32, Vec<NodeId>> = BTreeMap::new();
        for (&label, members) in labels.iter().zip(&members) {
            merged.entry(label).or_default().extend(*members);
        }
        let parts = merged.into_values().filter(|part| !self.is_a_cluster(part));
        parts.map(|part| (self.cause_of(&part), part)).map(|(cause, part)| Part::new(part, cause)).collect()
    }

    /// The blocks concerned, numbered: of each face touched in this batch, and of those it links.
    fn blocks(&self, id: ComponentId) -> BTreeMap<Block, u32> {
        let threshold = Weight::of(self.settings.merging.threshold);
        let mut blocks = BTreeSet::new();
        for &node in self.causes.keys().filter(|&&node| self.components.of(node) == id) {
            blocks.insert(self.block_of(node));
            let linked = self.linkages.partners(node).filter(|partner| partner.weight > threshold);
            blocks.extend(linked.map(|partner| self.block_of(partner.node)));
            blocks.extend(self.constraints.must_be_with(node).map(|other| self.block_of(other)));
        }
        blocks.into_iter().zip(0..).collect()
    }

    fn block_of(&self, node: NodeId) -> Block {
        self.book.cluster_of(node).map_or(Block::Newcomer(node), Block::Cluster)
    }

    fn members_of<'a>(&'a self, block: &'a Block) -> &'a [NodeId] {
        match block {
            Block::Cluster(cluster) => self.book.members(*cluster),
            Block::Newcomer(node) => std::slice::from_ref(node),
        }
    }

    fn component_of_blocks(
        &self,
        blocks: &BTreeMap<Block, u32>,
        members: &[&[NodeId]],
        faces: &Faces,
    ) -> merging::Component {
        let number_of = |node: NodeId| blocks.get(&self.block_of(node)).copied();
        let mut component = merging::Component::default();
        let largest = (0..).zip(members).max_by_key(|(_, members)| members.len()).map(|(number, _)| number);
        let mut sums: BTreeMap<Between, Sum> = BTreeMap::new();
        for (own, members) in (0..).zip(members) {
            let weak = members.len() == 1 && self.is_weak(members[0], faces);
            component.items.push(Item { size: members.len() as u32, weak, held: None });
            for &node in members.iter() {
                let others = |other: NodeId| number_of(other).filter(|&other| other != own);
                let must = self.constraints.must_be_with(node).filter_map(others);
                component.must.extend(must.map(|b| Together { a: own, b }));
                let cannot = self.constraints.must_not_be_with(node).filter_map(others);
                component.apart.extend(cannot.map(|b| vec![own, b]));
                if Some(own) == largest {
                    // Each of its pairs is met from the other end.
                    continue;
                }
                for partner in self.linkages.partners(node) {
                    let Some(other) = others(partner.node) else { continue };
                    if own < other || Some(other) == largest {
                        let sum = sums.entry(Between { a: own.min(other), b: own.max(other) }).or_default();
                        sum.count += 1;
                        sum.weight = match self.settings.merging.rule {
                            Rule::Single => sum.weight.max(partner.weight),
                            Rule::Evidence { .. } => sum.weight + partner.weight,
                        };
                    }
                }
            }
        }
        let pair = |(Between { a, b }, Sum { weight, count })| Pair { a, b, weight, count };
        component.pairs = sums.into_iter().map(pair).collect();
        let in_frames =
            (0..).zip(members).flat_map(|(number, members)| members.iter().map(move |&node| InFrame { number, node }));
        // Within a cluster that stands, whatever an operator's word on a frame has made of it, there
        // is nothing to be kept apart.
        component.apart.extend(frames(in_frames, faces).into_iter().map(distinct).filter(|group| group.len() > 1));
        component
    }
}

fn distinct(mut group: Vec<u32>) -> Vec<u32> {
    group.sort_unstable();
    group.dedup();
    group
}
