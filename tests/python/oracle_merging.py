"""The oracle's merging: from linkages to clusters by DESIGN.md's rules, with everything that constrains them.

Faces are numbers in the order of their ids, and a cluster's rank is its smallest face: ties go to the smaller ranks.
Weights are whole numbers in units of 2^-32, so nothing is ever rounded once linkages have become weights.
"""

import heapq
from collections.abc import Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import NamedTuple

import numpy as np


class Pair(NamedTuple):
    one: int
    other: int


Scored = dict[Pair, float]  # (face, candidate) → linkage, a direction each
Weights = dict[Pair, int]  # the smaller face first


@dataclass(frozen=True)
class Merging:
    rule: str
    threshold: int
    per_face: int
    cap: int

    @staticmethod
    def read(section: dict) -> "Merging":
        """[merging] of a model.toml. The threshold is a f32; hysteresis has ended in what is settled."""
        threshold = int(float(np.float32(section["threshold"])) * 2**32 + 0.5)
        return Merging(section["rule"], threshold, section.get("per_face", 0), section.get("cap", 0))


@dataclass(frozen=True)
class Constraints:
    must: list[tuple[int, int]] = field(default_factory=list)
    apart: list[set[int]] = field(default_factory=list)  # of each set no two share a cluster
    weak: set[int] = field(default_factory=set)  # may join, but never bridge


def merge(faces: int, scored: Scored, merging: Merging, constraints: Constraints) -> list[int]:
    """The number of the cluster of each face, in order of first appearance."""
    weights = weigh(scored, merging.rule)
    clustering = Clustering(faces, weights, merging, constraints.apart)
    for one, other in sorted((min(pair), max(pair)) for pair in constraints.must):
        clustering.unite(one, other)

    # 1: the strong faces alone.
    weak = constraints.weak
    clustering.grow(set(range(faces)) - weak)
    # 2: each weak face joins the cluster that wants it most, as the clusters were before any weak face came.
    formed = {root: sorted(members) for root, members in clustering.members.items() if not members & weak}
    offers = []
    for face in weak:
        for root, members in formed.items():
            between = [weights[pair] for pair in crossing([face], members) if pair in weights]
            strength = clustering.strength(between, 1)
            if strength > merging.threshold:
                offers.append((-strength, face, root))
    for _, face, root in sorted(offers):
        if len(clustering.members[clustering.cluster[face]]) == 1:
            clustering.unite(face, root)
    # 3: those nobody took, among themselves.
    clustering.grow({face for face in weak if len(clustering.members[clustering.cluster[face]]) == 1})

    numbers: dict[int, int] = {}
    return [numbers.setdefault(root, len(numbers)) for root in clustering.cluster]


def weigh(scored: Scored, rule: str) -> Weights:
    """The weight of each pair: of its two directions the sum, or twice the larger; one that was not scored counts 0."""
    directions: dict[Pair, list[int]] = {}
    for (face, candidate), linkage in scored.items():
        fixed = int(linkage * 2**31 + 0.5)
        directions.setdefault(Pair(min(face, candidate), max(face, candidate)), []).append(fixed)
    return {pair: sum(fixed) if rule == "evidence" else 2 * max(fixed) for pair, fixed in directions.items()}


def crossing(some: Iterable[int], others: Iterable[int]) -> Iterable[Pair]:
    return (Pair(min(a, b), max(a, b)) for a in some for b in others)


class Clustering:
    """Clusters as they grow. Each is named by its rank."""

    def __init__(self, faces: int, weights: Weights, merging: Merging, apart: list[set[int]]) -> None:
        self.weights, self.merging = weights, merging
        self.cluster = list(range(faces))
        self.members = {face: {face} for face in range(faces)}
        self.groups: dict[int, set[int]] = {face: set() for face in range(faces)}
        for number, group in enumerate(apart):
            for face in group:
                self.groups[face].add(number)

    def unite(self, one: int, other: int) -> bool:
        """Makes one cluster of those of two faces, unless they must stay apart."""
        kept, gone = sorted((self.cluster[one], self.cluster[other]))
        if kept == gone or self.groups[kept] & self.groups[gone]:
            return False
        for face in self.members[gone]:
            self.cluster[face] = kept
        self.members[kept] |= self.members.pop(gone)
        self.groups[kept] |= self.groups.pop(gone)
        return True

    def grow(self, among: set[int]) -> None:
        """Merges the clusters of these faces as long as the rule finds two to merge."""
        weights = {pair: weight for pair, weight in self.weights.items() if pair.one in among and pair.other in among}
        if self.merging.rule == "evidence":
            self.grow_by_evidence(weights)
        else:
            links = [(-weight, pair) for pair, weight in weights.items() if weight > self.merging.threshold]
            for _, pair in sorted(links):
                self.unite(*pair)

    def strength(self, between: list[int], smaller: int) -> Fraction:
        """What the rule compares with the threshold, of all weights between two clusters."""
        if not between:
            return Fraction(0)
        if self.merging.rule == "single":
            return Fraction(max(between))
        enough = min(self.merging.cap, self.merging.per_face * smaller)
        return Fraction(sum(between), max(len(between), enough))

    def grow_by_evidence(self, weights: Weights) -> None:
        """The highest evidence first. A bet on two clusters is void once either has changed."""
        between: dict[int, dict[int, list[int]]] = {}  # cluster → cluster → the weights between them
        for pair, weight in weights.items():
            one, other = self.cluster[pair.one], self.cluster[pair.other]
            if one != other:
                between.setdefault(one, {}).setdefault(other, []).append(weight)
                between.setdefault(other, {}).setdefault(one, []).append(weight)
        bets: list[tuple[float, Fraction, int, int, int, int]] = []

        def bet(one: int, other: int) -> None:
            one, other = sorted((one, other))
            sizes = len(self.members[one]), len(self.members[other])
            strength = self.strength(between[one][other], min(sizes))
            if strength > self.merging.threshold and not self.groups[one] & self.groups[other]:
                # The float never orders two strengths wrongly, and spares most of the work of comparing fractions.
                heapq.heappush(bets, (-float(strength), -strength, one, other, *sizes))

        for one, others in between.items():
            for other in others:
                if one < other:
                    bet(one, other)
        while bets:
            _, _, one, other, *sizes = heapq.heappop(bets)
            if [len(self.members.get(cluster, ())) for cluster in (one, other)] != sizes:
                continue
            self.unite(one, other)
            for third, gained in between.pop(other).items():
                del between[third][other]
                if third != one:
                    between[one][third] = between[third][one] = between[one].get(third, []) + gained
            for third in between[one]:
                bet(one, third)
