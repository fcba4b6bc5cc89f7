//! How good a clustering is, held against the truth: the three measures of the paper (arXiv 2104.11502, section 4.1).
//!
//! All of them are sums over the cells of the contingency table, so the cost is linear in the faces
//! and the memory linear in the non-empty cells; no pair of faces is ever looked at.

mod contingency;

use std::fmt;
use std::hash::Hash;

use serde::Serialize;

use contingency::Contingency;

/// A prediction measured against the truth. Every measure is in 0..1, 1 is perfect.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Scores {
    pub faces: u64,
    /// How many clusters the truth has.
    pub people: u64,
    /// How many clusters were predicted.
    pub clusters: u64,
    /// Over pairs of faces: are two together that belong together?
    pub pairwise: Agreement,
    /// Over faces, each counting the same: how pure is its cluster, how whole its person?
    /// (Bagga and Baldwin 1998; Amigó et al. 2009.)
    pub bcubed: Agreement,
    pub nmi: Nmi,
}

/// The two ways of being wrong, and both in one number.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Agreement {
    /// Of what was put together, the share that belongs together; 1 when nothing was.
    pub precision: f64,
    /// Of what belongs together, the share that was put together; 1 when nothing does.
    pub recall: f64,
    /// The harmonic mean of the two; 0 when both are 0.
    pub f: f64,
}

/// Mutual information of truth and prediction over a mean of their entropies, which differ in the mean.
/// Where a side is one single cluster it has no entropy: then 1 when both sides are, else 0.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Nmi {
    /// The paper's equation 10.
    pub geometric: f64,
    /// What scikit-learn computes unless told otherwise.
    pub arithmetic: f64,
}

#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum EvaluateError {
    #[error(
        "the truth has {truth} labels and the prediction {predicted}: they must be of the same faces, in the same order"
    )]
    Lengths { truth: usize, predicted: usize },
    #[error("there are no labels, so there is nothing to measure")]
    Empty,
}

/// Measures the labels `predicted` against `truth`, of the same faces in the same order. Only which
/// labels are equal counts. The sums run in order of first appearance, so the same input gives the same bits.
pub fn evaluate<T, P>(truth: &[T], predicted: &[P]) -> Result<Scores, EvaluateError>
where
    T: Eq + Hash,
    P: Eq + Hash,
{
    if truth.len() != predicted.len() {
        return Err(EvaluateError::Lengths { truth: truth.len(), predicted: predicted.len() });
    }
    if truth.is_empty() {
        return Err(EvaluateError::Empty);
    }
    let table = Contingency::new(truth, predicted);
    Ok(Scores {
        faces: truth.len() as u64,
        people: table.truth.len() as u64,
        clusters: table.predicted.len() as u64,
        pairwise: table.pairwise(),
        bcubed: table.bcubed(),
        nmi: table.nmi(),
    })
}

impl Agreement {
    fn new(precision: f64, recall: f64) -> Agreement {
        let sum = precision + recall;
        let f = if sum > 0.0 { 2.0 * precision * recall / sum } else { 0.0 };
        Agreement { precision, recall, f }
    }
}

impl fmt::Display for Scores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<10} {:>10} {:>10} {:>10}", "%", "precision", "recall", "F")?;
        for (name, agreement) in [("pairwise", self.pairwise), ("BCubed", self.bcubed)] {
            let Agreement { precision, recall, f: both } = agreement;
            writeln!(f, "{name:<10} {:>10.2} {:>10.2} {:>10.2}", 100.0 * precision, 100.0 * recall, 100.0 * both)?;
        }
        writeln!(f, "{:<10} {:>32.2}", "NMI", 100.0 * self.nmi.geometric)?;
        let Scores { faces, people, clusters, nmi, .. } = self;
        let arithmetic = 100.0 * nmi.arithmetic;
        write!(
            f,
            "{faces} faces of {people} people in {clusters} clusters; NMI with the arithmetic mean {arithmetic:.2}"
        )
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    const TRUTH: [u32; 16] = [0, 0, 0, 0, 1, 1, 1, 2, 2, 3, 4, 4, 4, 4, 4, 5];
    const PREDICTED: [u32; 16] = [7, 7, 7, 2, 2, 2, 2, 5, 6, 8, 9, 9, 9, 7, 1, 1];

    fn near(one: f64, other: f64, tolerance: f64) -> bool {
        (one - other).abs() <= tolerance
    }

    fn same(one: Agreement, other: Agreement) -> bool {
        near(one.precision, other.precision, 1e-9) && near(one.recall, other.recall, 1e-9) && near(one.f, other.f, 1e-9)
    }

    fn same_scores(one: Scores, other: Scores) -> bool {
        same(one.pairwise, other.pairwise)
            && same(one.bcubed, other.bcubed)
            && near(one.nmi.geometric, other.nmi.geometric, 1e-9)
            && near(one.nmi.arithmetic, other.nmi.arithmetic, 1e-9)
    }

    #[test]
    fn the_example_gives_the_numbers_worked_out_elsewhere() {
        let scores = evaluate(&TRUTH, &PREDICTED).unwrap();
        assert_eq!((scores.faces, scores.people, scores.clusters), (16, 6, 7));
        assert!(same(scores.pairwise, Agreement { precision: 0.5625, recall: 0.45, f: 0.5 }));
        assert!(same(scores.bcubed, Agreement { precision: 0.75, recall: 0.66875, f: 0.707048458150 }));
        assert!(near(scores.nmi.geometric, 0.739746315520, 1e-9));
        assert!(near(scores.nmi.arithmetic, 0.738971375646, 1e-9));
    }

    #[test]
    fn the_table_for_people_has_percents() {
        let table = evaluate(&TRUTH, &PREDICTED).unwrap().to_string();
        assert_eq!(
            table.lines().collect::<Vec<_>>(),
            [
                "%           precision     recall          F",
                "pairwise        56.25      45.00      50.00",
                "BCubed          75.00      66.88      70.70",
                "NMI                                   73.97",
                "16 faces of 6 people in 7 clusters; NMI with the arithmetic mean 73.90",
            ]
        );
    }

    #[test]
    fn edge_cases_are_natural() {
        let scores = |truth: &[u32], predicted: &[u32]| evaluate(truth, predicted).unwrap();
        let perfect = Agreement { precision: 1.0, recall: 1.0, f: 1.0 };
        for all in [[0, 0, 0], [0, 1, 2], [0, 1, 1]] {
            let scores = scores(&all, &all);
            assert_eq!((scores.pairwise, scores.bcubed), (perfect, perfect));
            assert_eq!(scores.nmi, Nmi { geometric: 1.0, arithmetic: 1.0 });
        }
        let none_together = scores(&[0, 0, 0], &[0, 1, 2]);
        assert_eq!(none_together.pairwise, Agreement { precision: 1.0, recall: 0.0, f: 0.0 });
        assert_eq!(none_together.nmi, Nmi { geometric: 0.0, arithmetic: 0.0 });
        let all_together = scores(&[0, 1, 2], &[0, 0, 0]);
        assert_eq!(all_together.pairwise, Agreement { precision: 0.0, recall: 1.0, f: 0.0 });

        assert_eq!(evaluate::<u32, u32>(&[], &[]), Err(EvaluateError::Empty));
        assert_eq!(evaluate(&[1], &[1, 2]), Err(EvaluateError::Lengths { truth: 1, predicted: 2 }));
    }

    /// The definitions, word by word, over all pairs of faces.
    fn by_brute_force(truth: &[u32], predicted: &[u32]) -> Scores {
        let faces = 0..truth.len();
        let mut pairs = [0.0; 3];
        let mut shares = [0.0; 2];
        let mut information = [0.0; 3];
        for one in faces.clone() {
            let [mut both, mut of_truth, mut of_predicted] = [0.0f64; 3];
            for other in faces.clone() {
                let same_truth = truth[one] == truth[other];
                let same_predicted = predicted[one] == predicted[other];
                let same =
                    [same_truth && same_predicted, same_truth, same_predicted].map(|same| f64::from(u8::from(same)));
                both += same[0];
                of_truth += same[1];
                of_predicted += same[2];
                if other < one {
                    pairs.iter_mut().zip(same).for_each(|(pairs, same)| *pairs += same);
                }
            }
            shares[0] += both / of_predicted / truth.len() as f64;
            shares[1] += both / of_truth / truth.len() as f64;
            let all = truth.len() as f64;
            information[0] += (both * all / (of_truth * of_predicted)).ln() / all;
            information[1] -= (of_truth / all).ln() / all;
            information[2] -= (of_predicted / all).ln() / all;
        }
        let ratio = |part: f64, whole: f64, empty: f64| if whole > 1e-12 { part / whole } else { empty };
        let [mutual, truth_entropy, predicted_entropy] = information;
        let alike = if truth_entropy.max(predicted_entropy) < 1e-12 { 1.0 } else { 0.0 };
        let distinct = |labels: &[u32]| labels.iter().collect::<BTreeSet<_>>().len() as u64;
        Scores {
            faces: truth.len() as u64,
            people: distinct(truth),
            clusters: distinct(predicted),
            pairwise: Agreement::new(ratio(pairs[0], pairs[2], 1.0), ratio(pairs[0], pairs[1], 1.0)),
            bcubed: Agreement::new(shares[0], shares[1]),
            nmi: Nmi {
                geometric: ratio(mutual, (truth_entropy * predicted_entropy).sqrt(), alike),
                arithmetic: ratio(mutual, (truth_entropy + predicted_entropy) / 2.0, alike),
            },
        }
    }

    fn labels() -> impl Strategy<Value = Vec<(u32, u32)>> {
        (1u32..12, 1u32..12)
            .prop_flat_map(|(people, clusters)| proptest::collection::vec((0..people, 0..clusters), 1..60))
    }

    proptest! {
        #[test]
        fn equals_the_definitions_and_does_not_mind_names_or_order(
            (labels, shuffled) in labels().prop_flat_map(|labels| (Just(labels.clone()), Just(labels).prop_shuffle())),
            salt in any::<u32>(),
        ) {
            let (truth, predicted): (Vec<_>, Vec<_>) = labels.iter().copied().unzip();
            let scores = evaluate(&truth, &predicted).unwrap();
            let brute = by_brute_force(&truth, &predicted);
            prop_assert!(same_scores(scores, brute), "{scores:?} {brute:?}");
            prop_assert_eq!((scores.people, scores.clusters), (brute.people, brute.clusters));

            let renamed: Vec<_> = predicted.iter().map(|label| format!("{}", label ^ salt)).collect();
            prop_assert_eq!(evaluate(&truth, &renamed).unwrap(), scores);

            let (truth, predicted): (Vec<_>, Vec<_>) = shuffled.into_iter().unzip();
            prop_assert!(same_scores(evaluate(&truth, &predicted).unwrap(), scores));
        }

        #[test]
        fn swapping_the_sides_swaps_precision_and_recall(labels in labels()) {
            let (truth, predicted): (Vec<_>, Vec<_>) = labels.into_iter().unzip();
            let one = evaluate(&truth, &predicted).unwrap();
            let other = evaluate(&predicted, &truth).unwrap();
            let swap = |agreement: Agreement| Agreement::new(agreement.recall, agreement.precision);
            let other = Scores { pairwise: swap(other.pairwise), bcubed: swap(other.bcubed), ..other };
            prop_assert!(same_scores(one, other));
        }
    }
}
