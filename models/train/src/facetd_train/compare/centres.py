"""Peers that look for centres or cut a tree of merges: K-Means, HAC, MeanShift, Affinity Propagation, Spectral.

All see embeddings of length 1, where the squared Euclidean distance is 2 - 2 cosine.
"""

import warnings
from dataclasses import dataclass

import numpy as np
from scipy.cluster import hierarchy
from scipy.linalg import eigh
from scipy.sparse import csr_array

from facetd_train.compare.collection import Collection
from facetd_train.compare.method import RATIOS, Method, Setting, clusters, grid, steps
from facetd_train.data import Floats, Integers

SEED = 0


def as_it_is(collection: Collection) -> Collection:
    return collection


def k_means(collection: Collection, setting: Setting) -> Integers:
    from sklearn.cluster import KMeans

    count = clusters(collection, setting["ratio"])
    return KMeans(count, n_init=1, random_state=SEED).fit_predict(collection.features)


@dataclass(frozen=True)
class Trees:
    """The merges of agglomerative clustering: scipy's, since scikit-learn would build the tree anew for each cut."""

    collection: Collection
    linkage: dict[str, Floats]

    @staticmethod
    def of(collection: Collection) -> "Trees":
        from scipy.spatial.distance import pdist

        distances = pdist(collection.features.astype(np.float64), "sqeuclidean")
        distances /= 2  # 1 - cosine
        return Trees(collection, {name: hierarchy.linkage(distances, name) for name in ("average", "complete")})

    def cut(self, setting: Setting) -> Integers:
        tree = self.linkage[str(setting["linkage"])]
        if "ratio" in setting:
            return hierarchy.fcluster(tree, clusters(self.collection, setting["ratio"]), "maxclust")
        return hierarchy.fcluster(tree, 1 - float(setting["cosine"]), "distance")


def mean_shift(collection: Collection, setting: Setting) -> Integers:
    from sklearn.cluster import MeanShift

    bandwidth = (2 - 2 * float(setting["cosine"])) ** 0.5
    return MeanShift(bandwidth=bandwidth, n_jobs=1).fit_predict(collection.features)


def affinity_propagation(collection: Collection, setting: Setting) -> Integers:
    from sklearn.cluster import AffinityPropagation

    found = AffinityPropagation(
        preference=float(setting["preference"]),
        damping=float(setting["damping"]),
        affinity="precomputed",
        random_state=SEED,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # not converged: everybody alone, and the scores say so
        labels = found.fit_predict(collection.features @ collection.features.T)
    return labels if labels.min() >= 0 else np.arange(len(collection))


@dataclass(frozen=True)
class Spectrum:
    """Eigenvectors of the normalised Laplacian of the neighbour graph, those of the smallest eigenvalues first."""

    collection: Collection
    vectors: Floats

    @staticmethod
    def of(collection: Collection) -> "Spectrum":
        affinity = neighbour_graph(collection).toarray().astype(np.float64)
        degree = np.maximum(affinity.sum(axis=1), 1e-12) ** -0.5
        affinity *= degree[:, None] * degree
        most = clusters(collection, min(RATIOS))
        # The largest of the affinity are the smallest of the Laplacian. A dense solver: thousands of vectors are
        # wanted, of which an iterative one has no more to gain.
        _, vectors = eigh(affinity, subset_by_index=[len(collection) - most, len(collection) - 1], overwrite_a=True)
        return Spectrum(collection, np.ascontiguousarray(vectors[:, ::-1] * degree[:, None], dtype=np.float32))

    def cut(self, setting: Setting) -> Integers:
        from sklearn.cluster import KMeans

        count = clusters(self.collection, setting["ratio"])
        return KMeans(count, n_init=1, random_state=SEED).fit_predict(self.vectors[:, :count])


def neighbour_graph(collection: Collection) -> csr_array:
    """Cosines of the faces to their nearest, the same in both directions; none below 0."""
    rows, cosines = collection.nearest
    place = (np.repeat(np.arange(len(collection)), rows.shape[1]), rows.ravel())
    graph = csr_array((cosines.ravel().clip(0), place), shape=(len(collection), len(collection)))
    return graph.maximum(graph.T)


METHODS = [
    Method("K-Means", as_it_is, k_means, grid(ratio=RATIOS), package="sklearn"),
    Method(
        "HAC",
        Trees.of,
        Trees.cut,
        grid(linkage=["average", "complete"], ratio=[*RATIOS, 0.9, 1.1, 1.4])
        + grid(linkage=["average", "complete"], cosine=steps(0.1, 0.9, 0.02)),
        note="average or complete linkage, cut by number or by distance",
    ),
    Method("MeanShift", as_it_is, mean_shift, grid(cosine=[0.6, 0.7, 0.5, 0.65, 0.8]), package="sklearn"),
    Method("Spectral", Spectrum.of, Spectrum.cut, grid(ratio=RATIOS), package="sklearn"),
    Method(
        "Affinity Propagation",
        as_it_is,
        affinity_propagation,
        grid(preference=[0.4, 0.2, 0.6, 0.0, -1.0, -3.0], damping=[0.7]),
        package="sklearn",
    ),
]
