//! The rule `single`, the paper's: the connected components of links.
//!
//! With clusters to keep apart the order counts: the strongest links are taken first, as Kruskal does.
//! Of equal links that of the smaller (smaller, larger) item goes first. One false link joins two
//! people, which is why there is another rule ([`super::evidence`]). Cost: O(e log e) for e links.

use super::candidate::{Candidate, Evidence};
use super::partition::Partition;
use super::{Item, Merges, Pair, Thresholds};

pub(super) struct Single<'a> {
    pub items: &'a [Item],
    pub thresholds: Thresholds,
}

impl Single<'_> {
    /// Hysteresis is of the two items, whatever became of their clusters.
    fn is_link(&self, pair: &Pair) -> bool {
        let held = |item: u32| self.items[item as usize].held;
        pair.weight > self.thresholds.between(held(pair.a), held(pair.b))
    }
}

impl Merges for Single<'_> {
    fn merge(&self, partition: &mut Partition, pairs: &[Pair]) -> bool {
        let links = pairs.iter().filter(|pair| self.is_link(pair)).map(|pair| Candidate {
            evidence: Evidence::of(pair.weight),
            first: pair.a.min(pair.b),
            second: pair.a.max(pair.b),
        });
        let mut links: Vec<Candidate> = links.collect();
        links.sort_unstable_by(|a, b| b.cmp(a));
        let mut held = false;
        for link in links {
            let merged = partition.unite(link.first, link.second);
            held |= merged && !link.evidence.is_above(self.thresholds.on);
        }
        held
    }

    fn offers(&self, partition: &mut Partition, pairs: &[Pair]) -> Vec<Candidate> {
        let links = pairs.iter().filter(|pair| self.is_link(pair)).map(|pair| Candidate {
            evidence: Evidence::of(pair.weight),
            first: pair.a,
            second: partition.root(pair.b),
        });
        links.collect()
    }

    fn thresholds(&self) -> Thresholds {
        self.thresholds
    }
}
