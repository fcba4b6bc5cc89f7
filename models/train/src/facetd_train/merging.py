"""From linkages to clusters, by the merging rules `single` and `evidence` of DESIGN.md, exactly as the daemon does it.

A linkage is fixed point, so that a sum does not depend on its order: a direction is counted in units of 2^-31, the
weight of a pair in units of 2^-32. Under `evidence` the weight is the sum of both directions, in its unit their mean;
under `single` it is twice the larger one. A direction that was not scored counts 0.

Both rules are greedy and take the strongest merge first, so the threshold decides nothing but where they stop: one run
gives the clusters of every threshold, and choosing one costs no more than using it (`Merges`).
"""

import heapq
from dataclasses import dataclass

import numpy as np

from facetd_train.data import Floats, Integers

ONE = 1 << 32  # the weight of a pair that is certain
# Fractions whose denominators are below 2^32 and differ at all differ by more than 2^-64: their quotients in this many
# more bits, rounded down, are ordered as they are.
EXACT = 64


@dataclass(frozen=True)
class Rule:
    """`single`, or `evidence` with its two numbers: how many pairs a face and a merge need to be certain."""

    name: str
    per_face: int = 0
    cap: int = 0

    def __str__(self) -> str:
        return self.name if self == SINGLE else f"{self.name} (per_face {self.per_face}, cap {self.cap})"


SINGLE = Rule("single")


@dataclass(frozen=True)
class Merging:
    """The section `[merging]` of model.toml."""

    rule: Rule
    threshold: float
    threshold_off: float


@dataclass(frozen=True)
class Linkages:
    """Every scored pair of `faces` faces, also the weak ones: once for each direction that was scored."""

    faces: int
    query: Integers
    candidate: Integers
    linkage: Floats

    def pairs(self, rule: Rule) -> "Pairs":
        """The weight of each pair under the rule."""
        fixed = np.floor(self.linkage.astype(np.float64) * (ONE / 2) + 0.5).astype(np.int64)
        name = np.minimum(self.query, self.candidate) * self.faces + np.maximum(self.query, self.candidate)
        order = np.argsort(name, kind="stable")
        names, start = np.unique(name[order], return_index=True)
        if not len(names):
            weight = np.zeros(0, dtype=np.int64)
        elif rule == SINGLE:
            weight = 2 * np.maximum.reduceat(fixed[order], start)
        else:
            weight = np.add.reduceat(fixed[order], start)
        return Pairs(self.faces, names // self.faces, names % self.faces, weight)

    def merges(self, rule: Rule, lowest: float) -> "Merges":
        """What the rule does at any threshold from `lowest` on."""
        pairs = self.pairs(rule)
        return single(pairs, lowest) if rule == SINGLE else evidence(pairs, rule, lowest)

    def clusters(self, merging: Merging) -> Integers:
        """A label for each face."""
        return self.merges(merging.rule, merging.threshold).clusters(merging.threshold)


@dataclass(frozen=True)
class Pairs:
    """Candidate pairs, each once: `first < second`, and its weight."""

    faces: int
    first: Integers
    second: Integers
    weight: Integers


@dataclass(frozen=True)
class Merges:
    """Merges in the order they are made: cluster `into` takes cluster `gone`, both named by their first face.

    `at` is the highest threshold, in units of weight, below which the run comes this far; so it never rises.
    """

    faces: int
    into: Integers
    gone: Integers
    at: Integers

    def clusters(self, threshold: float) -> Integers:
        """The first face of the cluster of each face."""
        made = int(np.searchsorted(-self.at, -fixed_threshold(threshold)))  # those that stand above the threshold
        cluster = np.arange(self.faces)
        cluster[self.gone[:made]] = self.into[:made]
        while not np.array_equal(further := cluster[cluster], cluster):
            cluster = further
        return cluster


def fixed_threshold(threshold: float) -> int:
    """The threshold as the daemon reads it, a f32, in units of weight."""
    return int(np.floor(float(np.float32(threshold)) * ONE + 0.5))


def single(pairs: Pairs, lowest: float) -> Merges:
    """Kruskal: the heaviest pair first. Its clusters at a threshold are the components of the pairs above it."""
    links = np.flatnonzero(pairs.weight > fixed_threshold(lowest))
    links = links[np.argsort(-pairs.weight[links], kind="stable")]
    parent = list(range(pairs.faces))

    def root(face: int) -> int:
        while parent[face] != face:
            parent[face] = parent[parent[face]]
            face = parent[face]
        return face

    made = Log(pairs.faces)
    columns = (pairs.first[links], pairs.second[links], pairs.weight[links])
    for a, b, weight in zip(*(column.tolist() for column in columns), strict=True):
        a, b = sorted((root(a), root(b)))
        if a != b:
            parent[b] = a
            made.add(a, b, weight)
    return made.merges()


def evidence(pairs: Pairs, rule: Rule, lowest: float) -> Merges:
    """The two clusters of the highest evidence first; ties by their first faces.

    Evidence is the weight of all candidate pairs between two clusters, divided by their number or, where there are
    fewer, by as many as it takes to be certain: `per_face` for each face of the smaller cluster, at most `cap`.

    Evidences wait in a heap; one that changed is pushed again, and what comes out is believed only if it is still
    current. A merge costs the number of clusters next to the two. All integers are exact.
    """
    per_face, cap = rule.per_face, rule.cap
    floor = fixed_threshold(lowest) << EXACT
    size = [1] * pairs.faces
    # Of each cluster those next to it, with [weight, number of pairs, evidence]: one list, seen from both sides.
    near: list[dict[int, list[int]]] = [{} for _ in range(pairs.faces)]
    heap: list[tuple[int, int, int]] = []

    def judge(a: int, b: int, between: list[int]) -> None:
        enough = min(cap, per_face * min(size[a], size[b]))
        judged = (between[0] << EXACT) // max(between[1], enough)
        if judged != between[2]:
            between[2] = judged
            if judged > floor:
                heapq.heappush(heap, (-judged, a, b) if a < b else (-judged, b, a))

    for a, b, weight in zip(pairs.first.tolist(), pairs.second.tolist(), pairs.weight.tolist(), strict=True):
        near[a][b] = near[b][a] = between = [weight, 1, 0]
        judge(a, b, between)

    made = Log(pairs.faces)
    while heap:
        judged, a, b = heapq.heappop(heap)
        between = near[a].get(b)
        if between is None or between[2] != -judged:
            continue
        made.add(a, b, -(judged >> EXACT))  # rounded up: a whole threshold is below it or not
        # What is enough between this one and another grows with it only while it is small, or the smaller of the two.
        settled = per_face * size[a] >= cap
        size[a] += size[b]
        del near[a][b], near[b][a]
        of_gone = near[b]
        for c, moved in of_gone.items():
            del near[c][b]
            known = near[a].get(c)
            if known is None:
                # Judged anew below, whatever it was: its entries in the heap name the cluster that is gone.
                near[a][c] = near[c][a] = [moved[0], moved[1], -1]
            else:
                known[0] += moved[0]
                known[1] += moved[1]
        near[b] = {}
        for c in of_gone if settled else near[a]:
            judge(a, c, near[a][c])
    return made.merges()


class Log:
    """Merges as they are made."""

    def __init__(self, faces: int) -> None:
        self.faces = faces
        self.lines: list[tuple[int, int, int]] = []

    def add(self, into: int, gone: int, strength: int) -> None:
        # A merge may be stronger than one before it, but no threshold makes it without that one.
        self.lines.append((into, gone, min(strength, self.lines[-1][2]) if self.lines else strength))

    def merges(self) -> Merges:
        into, gone, at = np.array(self.lines, dtype=np.int64).reshape(-1, 3).T
        return Merges(self.faces, into, gone, at)
