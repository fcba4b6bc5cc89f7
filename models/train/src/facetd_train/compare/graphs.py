"""Peers on the graph of nearest neighbours: approximate rank-order, Infomap, FINCH."""

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from facetd_train.compare.collection import Collection
from facetd_train.compare.method import RATIOS, Method, Setting, clusters, grid, steps
from facetd_train.data import Floats, Integers

SEED = 1


@dataclass(frozen=True)
class RankOrder:
    """Approximate rank-order (Otto, Wang, Jain 2017, equations 3 and 4) of each face and each of its neighbours.

    d(a, b) counts those of a's list up to b that are absent from b's list, and the distance is
    (d(a, b) + d(b, a)) / min(rank of b for a, rank of a for b). Lists begin with the face itself, at rank 0.
    """

    collection: Collection
    face: Integers
    other: Integers
    distance: Floats

    @staticmethod
    def of(collection: Collection) -> "RankOrder":
        faces = len(collection)
        lists = np.column_stack([np.arange(faces), collection.nearest[0]])
        width = lists.shape[1]
        names = np.sort((np.arange(faces)[:, None] * faces + lists).ravel())  # of (face, one in its list)

        def listed(owner: Integers, member: Integers) -> np.ndarray:
            wanted = owner * faces + member
            return names[np.searchsorted(names, wanted).clip(max=len(names) - 1)] == wanted

        face, other = np.repeat(np.arange(faces), width - 1), lists[:, 1:].ravel()
        rank = np.tile(np.arange(1, width), faces)  # of other for face
        back = lists[other] == face[:, None]
        # Who is not in the other's list stands behind its last.
        rank_back = np.where(back.any(axis=1), back.argmax(axis=1), width)

        def absent(a: Integers, b: Integers, up_to: Integers) -> Integers:
            missing = np.column_stack([~listed(b, lists[a, place]) for place in range(width)])
            return (missing & (np.arange(width) < up_to[:, None])).sum(axis=1)

        both = absent(face, other, rank) + absent(other, face, rank_back)
        return RankOrder(collection, face, other, both / np.minimum(rank, rank_back))

    def linked(self, setting: Setting) -> Integers:
        near = self.distance < float(setting["distance"])
        size = len(self.collection)
        links = csr_array((np.ones(near.sum()), (self.face[near], self.other[near])), shape=(size, size))
        return connected_components(links, directed=False)[1]


def infomap(collection: Collection, setting: Setting) -> Integers:
    from infomap import Infomap

    rows, cosines = collection.nearest
    near = cosines > float(setting["cosine"])
    face = np.repeat(np.arange(len(collection)), near.sum(axis=1))
    options = ["--silent", f"--seed {SEED}"]
    options += ["--two-level"] if setting["levels"] == "two" else []
    options += ["--directed"] if setting["links"] == "directed" else []
    mapped = Infomap(" ".join(options))
    links = zip(face.tolist(), rows[near].tolist(), cosines[near].tolist(), strict=True)
    mapped.add_links(list(links))
    labels = -1 - np.arange(len(collection))  # whoever has no link is alone
    for node, module in mapped.run().modules().items():
        labels[node] = module
    return labels


def finch(collection: Collection, setting: Setting) -> Integers:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it could do more neighbours with another package
        from finch import FINCH

    everyone = len(collection)  # exact neighbours, whatever the number
    if "partition" in setting:
        partitions, counts, _ = FINCH(collection.features, distance="cosine", ann_threshold=everyone, verbose=False)
        return partitions[:, min(int(setting["partition"]), len(counts) - 1)]
    wanted = clusters(collection, setting["ratio"])
    _, _, labels = FINCH(
        collection.features, req_clust=wanted, distance="cosine", ann_threshold=everyone, verbose=False
    )
    return labels


def as_it_is(collection: Collection) -> Collection:
    return collection


def with_neighbours(collection: Collection) -> Collection:
    _ = collection.nearest  # searched once for all settings
    return collection


METHODS = [
    Method("Approximate rank-order", RankOrder.of, RankOrder.linked, grid(distance=steps(0.05, 4, 0.05))),
    Method(
        "Infomap",
        with_neighbours,
        infomap,
        grid(levels=["any", "two"], links=["undirected", "directed"], cosine=[*steps(0.4, 0.75, 0.025), 0.0]),
        package="infomap",
        note="cosines as weights",
    ),
    Method(
        "FINCH",
        as_it_is,
        finch,
        grid(partition=[0, 1, 2, 3]) + grid(ratio=RATIOS),
        package="finch",
        note="a partition, or the number of clusters",
    ),
]
