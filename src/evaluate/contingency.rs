//! How many faces each pair of a true and a predicted cluster shares, and the measures as sums over that.

use std::collections::HashMap;
use std::hash::Hash;

use super::{Agreement, Nmi};

/// Counts, each list in order of first appearance, so that sums over them are always in the same order.
pub(super) struct Contingency {
    faces: f64,
    /// The size of each true cluster.
    pub(super) truth: Vec<u64>,
    /// The size of each predicted cluster.
    pub(super) predicted: Vec<u64>,
    cells: Vec<Cell>,
}

/// A true and a predicted cluster that share at least one face.
struct Cell {
    size: u64,
    truth_size: u64,
    predicted_size: u64,
}

impl Contingency {
    /// Both of the same, non-zero length.
    pub(super) fn new<T: Eq + Hash, P: Eq + Hash>(truth: &[T], predicted: &[P]) -> Contingency {
        let (mut true_clusters, mut predicted_clusters, mut shared) = (Groups::new(), Groups::new(), Groups::new());
        for (true_label, predicted_label) in truth.iter().zip(predicted) {
            let corner =
                Corner { truth: true_clusters.add(true_label), predicted: predicted_clusters.add(predicted_label) };
            shared.add(corner);
        }
        let cells = (shared.labels.iter().zip(&shared.sizes))
            .map(|(corner, &size)| Cell {
                size,
                truth_size: true_clusters.sizes[corner.truth],
                predicted_size: predicted_clusters.sizes[corner.predicted],
            })
            .collect();
        Contingency {
            faces: truth.len() as f64,
            truth: true_clusters.sizes,
            predicted: predicted_clusters.sizes,
            cells,
        }
    }

    pub(super) fn pairwise(&self) -> Agreement {
        let together = pairs(self.cells.iter().map(|cell| cell.size));
        let share = |whole: u64| if whole == 0 { 1.0 } else { together as f64 / whole as f64 };
        let [predicted, truth] = [&self.predicted, &self.truth].map(|sizes| share(pairs(sizes.iter().copied())));
        Agreement::new(predicted, truth)
    }

    pub(super) fn bcubed(&self) -> Agreement {
        // All faces of a cell have the same share, hence the square.
        let mean = |whole: fn(&Cell) -> u64| {
            let share = |cell: &Cell| (cell.size as f64).powi(2) / whole(cell) as f64;
            self.cells.iter().map(share).sum::<f64>() / self.faces
        };
        Agreement::new(mean(|cell| cell.predicted_size), mean(|cell| cell.truth_size))
    }

    pub(super) fn nmi(&self) -> Nmi {
        match (self.truth.len(), self.predicted.len()) {
            (1, 1) => return Nmi { geometric: 1.0, arithmetic: 1.0 },
            (1, _) | (_, 1) => return Nmi { geometric: 0.0, arithmetic: 0.0 },
            _ => {}
        }
        let entropy = |sizes: &[u64]| {
            let surprise = |&size: &u64| (size as f64 / self.faces) * (self.faces / size as f64).ln();
            sizes.iter().map(surprise).sum::<f64>()
        };
        let mutual = (self.cells.iter())
            .map(|cell| {
                let by_chance = cell.truth_size as f64 * cell.predicted_size as f64 / self.faces;
                (cell.size as f64 / self.faces) * (cell.size as f64 / by_chance).ln()
            })
            .sum::<f64>();
        let (truth, predicted) = (entropy(&self.truth), entropy(&self.predicted));
        // Rounding can leave 0..1 by a hair.
        let over = |mean: f64| (mutual / mean).clamp(0.0, 1.0);
        Nmi { geometric: over((truth * predicted).sqrt()), arithmetic: over((truth + predicted) / 2.0) }
    }
}

/// How many pairs of faces groups of these sizes hold inside them.
fn pairs(sizes: impl Iterator<Item = u64>) -> u64 {
    sizes.map(|size| size * (size - 1) / 2).sum()
}

/// Dense numbers of a true and a predicted cluster.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Corner {
    truth: usize,
    predicted: usize,
}

/// Labels numbered in order of first appearance.
struct Groups<L> {
    numbers: HashMap<L, usize>,
    /// The label of each number.
    labels: Vec<L>,
    /// How often each number's label appeared.
    sizes: Vec<u64>,
}

impl<L: Copy + Eq + Hash> Groups<L> {
    fn new() -> Groups<L> {
        Groups { numbers: HashMap::new(), labels: Vec::new(), sizes: Vec::new() }
    }

    /// Counts one more appearance, and gives the label's number.
    fn add(&mut self, label: L) -> usize {
        let number = *self.numbers.entry(label).or_insert(self.sizes.len());
        if number == self.sizes.len() {
            self.labels.push(label);
            self.sizes.push(0);
        }
        self.sizes[number] += 1;
        number
    }
}
