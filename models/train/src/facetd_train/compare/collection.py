"""The faces a method clusters, and how well it did on those of them that are scored.

Parameters are chosen on the whole training half, of which only the validation identities are scored: a threshold
depends on how many strangers there are, so a method must be tuned among as many faces as it will meet in the test half.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from facetd_train import neighbours
from facetd_train.data import Faces, Floats, Integers
from facetd_train.scores import Scores, ratio
from facetd_train.scores import score as score_everyone

CHUNK = 1024


@dataclass(frozen=True)
class Collection:
    """What a method is given: embeddings of length 1 as they arrive, and how many neighbours it may ask for."""

    features: Floats
    neighbours: int
    faces_per_identity: float  # of the faces parameters are chosen on

    def __len__(self) -> int:
        return len(self.features)

    @cached_property
    def nearest(self) -> tuple[Integers, Floats]:
        """The nearest other faces of each, nearest first: rows `[N, k]` and cosines `[N, k]`."""
        rows, cosines = neighbours.search(self.features, self.neighbours)
        return rows.numpy(), cosines.numpy()

    def closer_than(self, cosine: float) -> csr_array:
        """The cosines above it, of every face to every other, nobody's to themselves."""
        rows, columns, values = [], [], []
        for start in range(0, len(self), CHUNK):
            block = self.features[start : start + CHUNK] @ self.features.T
            near = block > cosine
            near[np.arange(len(block)), np.arange(start, start + len(block))] = False
            row, column = near.nonzero()
            rows.append(row + start)
            columns.append(column)
            values.append(block[near])
        place = (np.concatenate(rows), np.concatenate(columns))
        return csr_array((np.concatenate(values), place), shape=(len(self), len(self)))


@dataclass(frozen=True)
class Judged:
    """A collection with the truth about it."""

    collection: Collection
    identities: Integers
    scored: NDArray[np.bool_]

    @staticmethod
    def of(faces: Faces, scored: Integers, neighbours: int, faces_per_identity: float) -> "Judged":
        """`scored`: the identities that are."""
        collection = Collection(faces.features, neighbours, faces_per_identity)
        return Judged(collection, faces.identities, np.isin(faces.identities, scored))

    def score(self, predicted: Integers) -> Scores:
        return score(self.identities, predicted, self.scored)


def score(truth: Integers, predicted: Integers, scored: NDArray[np.bool_]) -> Scores:
    """Scores of some faces, whose clusters are taken as they are, with whoever else is in them.

    A face's precision and recall count everybody, so that a merge with an unscored stranger costs what it will cost
    when all are scored; the sums go over the scored faces. NMI is theirs alone.
    """
    _, t = np.unique(truth, return_inverse=True)
    _, p = np.unique(predicted, return_inverse=True)
    _, cell, cells = np.unique(t * (p.max() + 1) + p, return_inverse=True, return_counts=True)
    # Of each scored face: how many share its identity and cluster, its cluster, its identity; itself among them.
    both = cells[cell][scored].astype(np.float64)
    cluster, identity = np.bincount(p)[p][scored], np.bincount(t)[t][scored]
    return Scores(
        pairwise_precision=ratio(float((both - 1).sum()), float((cluster - 1).sum())),
        pairwise_recall=ratio(float((both - 1).sum()), float((identity - 1).sum())),
        bcubed_precision=float((both / cluster).mean()),
        bcubed_recall=float((both / identity).mean()),
        nmi=score_everyone(truth[scored], predicted[scored]).nmi,
    )


def goodness(scores: Scores) -> float:
    """What parameters are chosen by: the mean of the two F that are reported, so neither is bought with the other."""
    return (scores.pairwise_f + scores.bcubed_f) / 2
