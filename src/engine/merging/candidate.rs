//! Two clusters that may merge, and which of all of them go first.

use std::cmp::{Ordering, Reverse};

use super::Weight;

/// A weight for each of so many faces' pairs, as an exact fraction.
#[derive(Debug, Clone, Copy)]
pub(super) struct Evidence {
    pub weight: Weight,
    /// At least 1.
    pub divisor: u64,
}

impl Evidence {
    /// A linkage as it is.
    pub fn of(weight: Weight) -> Evidence {
        Evidence { weight, divisor: 1 }
    }

    pub fn is_above(self, threshold: Weight) -> bool {
        self > Evidence::of(threshold)
    }
}

impl Ord for Evidence {
    fn cmp(&self, other: &Evidence) -> Ordering {
        let crossed = |weight: Weight, divisor: u64| u128::from(weight.0) * u128::from(divisor);
        crossed(self.weight, other.divisor).cmp(&crossed(other.weight, self.divisor))
    }
}

impl PartialOrd for Evidence {
    fn partial_cmp(&self, other: &Evidence) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Evidence {
    fn eq(&self, other: &Evidence) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Evidence {}

/// Two clusters that may merge, by rank: a cluster's rank is its smallest item. The greatest goes
/// first: the one of most evidence, of equal ones that of the smaller (first, second). DESIGN breaks
/// ties by age, but also says that order of arrival cannot matter; face_id, which numbers the items,
/// gives way to no order, and breaks the ties of neighbourhoods too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Candidate {
    pub evidence: Evidence,
    pub first: u32,
    pub second: u32,
}

impl Ord for Candidate {
    fn cmp(&self, other: &Candidate) -> Ordering {
        let ranks = |candidate: &Candidate| Reverse((candidate.first, candidate.second));
        self.evidence.cmp(&other.evidence).then_with(|| ranks(self).cmp(&ranks(other)))
    }
}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Candidate) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
