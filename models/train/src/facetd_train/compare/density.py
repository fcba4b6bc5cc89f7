"""Peers that look for dense places: DBSCAN, HDBSCAN and its streaming form FISHDBC. Noise becomes clusters of one."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from facetd_train.compare.collection import Collection
from facetd_train.compare.method import Method, Setting, alone, grid, steps
from facetd_train.data import Integers

LOWEST = 0.3  # cosine; nobody takes faces further apart for neighbours


def distances_within(collection: Collection) -> csr_array:
    near = collection.closer_than(LOWEST)
    near.data = np.maximum(1 - near.data, 0)
    return near


def dbscan(near: csr_array, setting: Setting) -> Integers:
    from sklearn.cluster import DBSCAN

    found = DBSCAN(eps=1 - float(setting["cosine"]), min_samples=int(setting["min_samples"]), metric="precomputed")
    return alone(found.fit_predict(near))


@dataclass(frozen=True)
class Tree:
    """Merges by mutual reachability, which settings only cut. `grown` is a FISHDBC, fed in one of two ways."""

    grown: Any

    LEVELS = (1, 2, 3, 4)  # min_samples

    @staticmethod
    def of_every_pair(collection: Collection) -> "Tree":
        """HDBSCAN's exact tree. (scikit-learn 1.9's HDBSCAN fails under numpy 2.4 as soon as epsilon is above 0.)"""
        from fishdbc import FISHDBC

        grown = FISHDBC.from_edges(min_samples=Tree.LEVELS, dedup=False)
        for face in range(1, len(collection)):
            cosines = collection.features[:face] @ collection.features[face]
            distances = np.maximum(1 - cosines.astype(np.float64), 0)
            grown.add_edges(np.full(face, face, dtype=np.int32), np.arange(face, dtype=np.int32), distances)
        return Tree(grown)

    @staticmethod
    def of_stream(collection: Collection) -> "Tree":
        """One face after the other, with the distances its search in an HNSW index came by."""
        from fishdbc import FISHDBC

        grown = FISHDBC.from_metric("cosine", min_samples=Tree.LEVELS)
        for feature in collection.features:
            grown.add(feature)
        return Tree(grown)

    def cut(self, setting: Setting) -> Integers:
        labels, *_ = self.grown.cluster(
            min_cluster_size=int(setting["min_cluster_size"]),
            min_samples=int(setting["min_samples"]),
            cluster_selection_method=str(setting["select"]),
            cluster_selection_epsilon=float(setting["epsilon"]),
        )
        return alone(np.asarray(labels))


CUTS = grid(
    min_samples=Tree.LEVELS,
    min_cluster_size=[2, 3],
    select=["eom", "leaf"],
    epsilon=[0.0, *steps(0.2, 0.6, 0.02)],
)
METHODS = [
    Method(
        "DBSCAN",
        distances_within,
        dbscan,
        grid(min_samples=[1, 2, 3, 4], cosine=steps(LOWEST, 0.9, 0.02)),
        package="sklearn",
    ),
    Method("HDBSCAN", Tree.of_every_pair, Tree.cut, CUTS, package="fishdbc"),
    Method("FISHDBC", Tree.of_stream, Tree.cut, CUTS, package="fishdbc", note="streaming"),
]
