"""How well clusters match identities: pairwise F, BCubed F and NMI."""

from dataclasses import dataclass

import numpy as np

from facetd_train.data import Integers


@dataclass(frozen=True)
class Scores:
    pairwise_precision: float
    pairwise_recall: float
    bcubed_precision: float
    bcubed_recall: float
    nmi: float

    @property
    def pairwise_f(self) -> float:
        return harmonic(self.pairwise_precision, self.pairwise_recall)

    @property
    def bcubed_f(self) -> float:
        return harmonic(self.bcubed_precision, self.bcubed_recall)

    def __str__(self) -> str:
        return (
            f"pairwise F {100 * self.pairwise_f:.2f}  "
            f"BCubed F {100 * self.bcubed_f:.2f} "
            f"(P {100 * self.bcubed_precision:.2f} R {100 * self.bcubed_recall:.2f})  NMI {100 * self.nmi:.2f}"
        )


def score(truth: Integers, predicted: Integers) -> Scores:
    """Pairwise and BCubed precision and recall, and NMI with the geometric mean (equation 10)."""
    _, t = np.unique(truth, return_inverse=True)
    _, p = np.unique(predicted, return_inverse=True)
    faces, widest = len(t), int(p.max()) + 1
    together, cells = np.unique(t * widest + p, return_counts=True)  # the non-empty cells of the contingency table
    in_truth, in_predicted = np.bincount(t), np.bincount(p)
    row, column = in_truth[together // widest], in_predicted[together % widest]

    def pairs(sizes: Integers) -> float:
        return float((sizes * (sizes - 1)).sum())

    def entropy(sizes: Integers) -> float:
        return float(-(sizes / faces * np.log(sizes / faces)).sum())

    mutual = float((cells / faces * np.log(cells * faces / (row * column))).sum())
    entropies = entropy(in_truth) * entropy(in_predicted)
    return Scores(
        pairwise_precision=ratio(pairs(cells), pairs(in_predicted)),
        pairwise_recall=ratio(pairs(cells), pairs(in_truth)),
        bcubed_precision=float((cells**2 / column).sum() / faces),
        bcubed_recall=float((cells**2 / row).sum() / faces),
        nmi=mutual / entropies**0.5 if entropies > 0 else 1.0,
    )


def ratio(part: float, whole: float) -> float:
    return part / whole if whole else 1.0


def harmonic(a: float, b: float) -> float:
    return 2 * a * b / (a + b) if a + b else 0.0
