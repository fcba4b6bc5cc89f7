//! The merging rules: from the linkages of one component to its clusters. A pure function of exact
//! integers, so neither the order of arrival nor that of the pairs can change what comes out.
//!
//! `single` is the paper's rule ([`single`]); `evidence` asks more of larger clusters ([`evidence`]).
//! Both obey the same frame, which is this file:
//!
//! 1. What `must` be together is united first, then nothing that `apart` forbids is ever united.
//! 2. The rule runs over the strong faces.
//! 3. Each weak face joins the cluster that wants it most, so that none bridges two.
//! 4. The rule runs over the weak faces that are left.
//!
//! Cost: e pairs of n faces, `single` O(e log e), `evidence` O(e log² e); benches/merging.rs measures it.

mod candidate;
mod evidence;
mod partition;
mod single;

use std::iter::Sum;
use std::num::NonZeroU32;
use std::ops::{Add, AddAssign};

use crate::model::artefact::{Merging, Rule};
use candidate::Candidate;
use evidence::Greedy;
use partition::Partition;
use single::Single;

/// One direction of a linkage, in units of 2⁻³¹. Kept as one more than that, so that an optional one
/// takes no more room: there are millions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Probability(NonZeroU32);

impl Probability {
    /// The nearest; what is outside 0 to 1 is taken as the end it is beyond, and NaN as 0.
    pub fn of(probability: f32) -> Probability {
        let units = (f64::from(probability.clamp(0.0, 1.0)) * f64::from(1u32 << 31)).round() as u32;
        Probability(NonZeroU32::MIN.saturating_add(units))
    }

    fn units(self) -> u64 {
        u64::from(self.0.get() - 1)
    }
}

/// The linkage of a pair, or a sum of linkages, in units of 2⁻³²: exact, whatever the order of adding.
/// The pairs of a component are fewer than 2³², so that no sum overflows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Weight(u64);

impl Weight {
    pub const ZERO: Weight = Weight(0);
    pub const ONE: Weight = Weight(1 << 32);

    /// As a number of 0 to 1, for whoever looks at one linkage.
    pub fn probability(self) -> f64 {
        self.0 as f64 / Weight::ONE.0 as f64
    }

    /// The nearest to a threshold of model.toml, which is 0 to 1.
    pub fn of(threshold: f32) -> Weight {
        Weight((f64::from(threshold) * Weight::ONE.0 as f64).round() as u64)
    }
}

impl Add for Weight {
    type Output = Weight;

    fn add(self, other: Weight) -> Weight {
        Weight(self.0 + other.0)
    }
}

impl AddAssign for Weight {
    fn add_assign(&mut self, other: Weight) {
        *self = *self + other;
    }
}

impl Sum for Weight {
    fn sum<I: Iterator<Item = Weight>>(weights: I) -> Weight {
        weights.fold(Weight::ZERO, Add::add)
    }
}

impl Merging {
    /// The linkage of a pair out of its two directions, None where one was not scored: the larger
    /// under `single`, their mean under `evidence`.
    pub fn weight(&self, outward: Option<Probability>, inward: Option<Probability>) -> Weight {
        let direction = |scored: Option<Probability>| scored.map_or(0, Probability::units);
        Weight(match self.rule {
            Rule::Single => 2 * direction(outward.max(inward)),
            Rule::Evidence { .. } => direction(outward) + direction(inward),
        })
    }

    /// What speaks for one face to join a cluster, of its linkages to faces there: what has to be above τ.
    pub fn evidence_of_one(&self, linkages: &[f32]) -> f32 {
        match self.rule {
            Rule::Single => linkages.iter().copied().fold(0.0, f32::max),
            Rule::Evidence { per_face, cap } => {
                linkages.iter().sum::<f32>() / linkages.len().max(per_face.min(cap) as usize).max(1) as f32
            }
        }
    }
}

/// What is clustered: a face, or a block of faces taken as it is. Its number is its place in the
/// component, in order of the (smallest) face_id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Item {
    /// Its faces.
    pub size: u32,
    /// A face too poor to bridge two clusters. One that must be with another is not weak.
    pub weak: bool,
    /// The cluster that holds it now, for hysteresis; None: it may go where it likes.
    pub held: Option<u64>,
}

/// The candidate pairs of faces between two items.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pair {
    pub a: u32,
    pub b: u32,
    /// The sum of their linkages; under `single` the largest of them.
    pub weight: Weight,
    /// How many they are.
    pub count: u32,
}

/// Two items that an operator put together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Together {
    pub a: u32,
    pub b: u32,
}

/// A component of links, and all that may decide how it is clustered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Component {
    pub items: Vec<Item>,
    /// Of each two items at most once, in any order.
    pub pairs: Vec<Pair>,
    /// United before all else, in order of (smaller, larger) number, unless `apart` forbids.
    pub must: Vec<Together>,
    /// Groups of items of which no two may share a cluster: a frame, or two that an operator keeps apart.
    pub apart: Vec<Vec<u32>>,
}

/// The clusters of a component.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Clustering {
    /// Of each item the smallest item of its cluster.
    pub labels: Vec<u32>,
    /// Something merged that would not have without hysteresis.
    pub held: bool,
}

/// Clusters a component as `merging` says.
pub fn cluster(component: &Component, merging: &Merging) -> Clustering {
    let thresholds = Thresholds { on: Weight::of(merging.threshold), off: Weight::of(merging.threshold_off) };
    match merging.rule {
        Rule::Single => cluster_by(&Single { items: &component.items, thresholds }, component),
        Rule::Evidence { per_face, cap } => cluster_by(&Greedy { per_face, cap, thresholds }, component),
    }
}

/// A merging rule, as the frame needs it.
trait Merges {
    /// Merges clusters of `partition` that `pairs` connect. True when any merge needed τ_off.
    fn merge(&self, partition: &mut Partition, pairs: &[Pair]) -> bool;

    /// The clusters that would take weak items as they stand now: `first` is the weak item, `second`
    /// the cluster. Of each of `pairs`, `a` is the weak item.
    fn offers(&self, partition: &mut Partition, pairs: &[Pair]) -> Vec<Candidate>;

    fn thresholds(&self) -> Thresholds;
}

fn cluster_by(rule: &impl Merges, component: &Component) -> Clustering {
    let mut partition = Partition::new(component);
    let mut weak: Vec<bool> = component.items.iter().map(|item| item.weak).collect();
    for Together { a, b } in in_order(&component.must) {
        (weak[a as usize], weak[b as usize]) = (false, false);
        partition.unite(a, b);
    }
    if !weak.contains(&true) {
        let held = rule.merge(&mut partition, &component.pairs);
        return Clustering { labels: partition.labels(), held };
    }

    let pairs = |wanted: fn(bool, bool) -> bool, weak: &[bool]| -> Vec<Pair> {
        let pairs = component.pairs.iter().copied();
        pairs.filter(|pair| wanted(weak[pair.a as usize], weak[pair.b as usize])).collect()
    };
    let mut held = rule.merge(&mut partition, &pairs(|a, b| !a && !b, &weak));
    held |= join(rule, &mut partition, pairs(|a, b| a != b, &weak), &mut weak);
    held |= rule.merge(&mut partition, &pairs(|a, b| a && b, &weak));
    Clustering { labels: partition.labels(), held }
}

/// Lets each weak item join the cluster that offers most, the best offer first; who joined is not
/// weak any more. Nobody's offer counts those who joined, so a weak item brings no other with it.
fn join(rule: &impl Merges, partition: &mut Partition, mut pairs: Vec<Pair>, weak: &mut [bool]) -> bool {
    for pair in &mut pairs {
        if weak[pair.b as usize] {
            (pair.a, pair.b) = (pair.b, pair.a);
        }
    }
    let mut offers = rule.offers(partition, &pairs);
    offers.sort_unstable_by(|a, b| b.cmp(a));
    let mut held = false;
    for Candidate { evidence, first: item, second: cluster } in offers {
        if weak[item as usize] && partition.unite(item, cluster) {
            weak[item as usize] = false;
            held |= !evidence.is_above(rule.thresholds().on);
        }
    }
    held
}

/// Each with its smaller item first, in order.
fn in_order(must: &[Together]) -> Vec<Together> {
    let ordered = must.iter().map(|&Together { a, b }| Together { a: a.min(b), b: a.max(b) });
    let mut ordered: Vec<Together> = ordered.collect();
    ordered.sort_unstable_by_key(|pair| (pair.a, pair.b));
    ordered
}

/// What linkages and evidence must be above.
#[derive(Debug, Clone, Copy)]
struct Thresholds {
    on: Weight,
    off: Weight,
}

impl Thresholds {
    /// Between two that are held by `a` and `b`, None where nothing or no one cluster holds all of it.
    fn between(self, a: Option<u64>, b: Option<u64>) -> Weight {
        if a.is_some() && a == b { self.off } else { self.on }
    }
}

#[cfg(test)]
mod tests;
