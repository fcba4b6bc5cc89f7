"""The merging rules as DESIGN.md words them, with nothing done for speed: the yardstick of both implementations.

After each merge every pair of clusters is judged anew, face by face, in exact fractions.
"""

from dataclasses import dataclass, field
from fractions import Fraction
from itertools import combinations, product

import numpy as np

Clusters = list[set[int]]


@dataclass(frozen=True)
class Case:
    """Linkages by (face, candidate) in both directions, the rule, and what constrains it."""

    faces: int
    linkages: dict[tuple[int, int], float]
    rule: str
    threshold: float
    per_face: int = 2
    cap: int = 16
    must: list[tuple[int, int]] = field(default_factory=list)
    apart: list[set[int]] = field(default_factory=list)
    weak: set[int] = field(default_factory=set)

    def merge(self) -> set[frozenset[int]]:
        clusters = [{face} for face in range(self.faces)]
        for a, b in sorted(tuple(sorted(pair)) for pair in self.must):
            one, other = (next(c for c in clusters if face in c) for face in (a, b))
            if one is not other and not self.forbidden(one, other):
                clusters = unite(clusters, one, other)
        formed = self.settle([c for c in clusters if not c & self.weak])
        offers = [
            (-strength, face, min(cluster))
            for face in self.weak
            for cluster in formed
            if (strength := self.strength({face}, cluster)) > self.fixed_threshold()
        ]
        left, taking = set(self.weak), {min(cluster): set(cluster) for cluster in formed}
        for _, face, rank in sorted(offers):
            if face in left and not self.forbidden({face}, taking[rank]):
                left.remove(face)
                taking[rank].add(face)
        return {frozenset(cluster) for cluster in [*taking.values(), *self.settle([{face} for face in left])]}

    def settle(self, clusters: Clusters) -> Clusters:
        """Merges the strongest two until none may."""
        while True:
            possible = []
            for one, other in combinations(clusters, 2):
                strength = self.strength(one, other)
                if strength > self.fixed_threshold() and not self.forbidden(one, other):
                    # Single linkage breaks ties by the faces of a link, evidence by the clusters' first faces.
                    tie = self.strongest_pair(one, other) if self.rule == "single" else sorted((min(one), min(other)))
                    possible.append((-strength, list(tie), one, other))
            if not possible:
                return clusters
            _, _, one, other = min(possible, key=lambda merge: merge[:2])
            clusters = unite(clusters, one, other)

    def strength(self, one: set[int], other: set[int]) -> Fraction:
        weights = [self.weight(a, b) for a, b in product(one, other) if self.is_candidate(a, b)]
        if not weights:
            return Fraction(0)
        if self.rule == "single":
            return Fraction(max(weights))
        return Fraction(sum(weights), max(len(weights), min(self.cap, self.per_face * min(len(one), len(other)))))

    def strongest_pair(self, one: set[int], other: set[int]) -> tuple[int, int]:
        pairs = [(min(a, b), max(a, b)) for a, b in product(one, other) if self.is_candidate(a, b)]
        return min(pairs, key=lambda pair: (-self.weight(*pair), pair))

    def is_candidate(self, a: int, b: int) -> bool:
        return (a, b) in self.linkages or (b, a) in self.linkages

    def weight(self, a: int, b: int) -> int:
        directions = [half_up(self.linkages.get(pair, 0.0) * 2**31) for pair in ((a, b), (b, a))]
        return sum(directions) if self.rule == "evidence" else 2 * max(directions)

    def fixed_threshold(self) -> int:
        return half_up(float(np.float32(self.threshold)) * 2**32)

    def forbidden(self, one: set[int], other: set[int]) -> bool:
        return any(one & group and other & group for group in self.apart)


def unite(clusters: Clusters, one: set[int], other: set[int]) -> Clusters:
    return [c for c in clusters if c is not one and c is not other] + [one | other]


def half_up(value: float) -> int:
    return int(Fraction(value) + Fraction(1, 2))


def partition(labels: list[int]) -> set[frozenset[int]]:
    clusters: dict[int, set[int]] = {}
    for face, label in enumerate(labels):
        clusters.setdefault(label, set()).add(face)
    return {frozenset(cluster) for cluster in clusters.values()}


def random_case(seed: int, constrained: bool) -> Case:
    """Up to 22 faces in loose groups. Every other case has linkages of a few values only, so that ties decide."""
    generator = np.random.default_rng(seed)
    faces = int(generator.integers(1, 23))
    group = generator.integers(0, max(1, faces // 4), faces)
    linkages = {}
    for face in range(faces):
        others = [other for other in range(faces) if other != face]
        for candidate in generator.permutation(others)[: generator.integers(0, 9)].tolist():
            linkage = generator.beta(4, 2) if group[face] == group[candidate] else generator.beta(1, 6)
            if seed % 2:
                linkage = round(linkage * 4) / 4
            linkages[face, candidate] = float(np.float32(linkage))

    def some(count: int, size: int) -> list[list[int]]:
        drawn = [generator.choice(faces, size, replace=False).tolist() for _ in range(generator.integers(0, count))]
        return drawn if faces >= size else []

    rule = "single" if generator.random() < 0.4 else "evidence"
    constrained = constrained and faces >= 3
    return Case(
        faces=faces,
        linkages=linkages,
        rule=rule,
        threshold=float(generator.choice([0.3, 0.5, 0.7] if rule == "single" else [0.1, 0.125, 0.2, 0.3])),
        per_face=int(generator.integers(1, 5)),
        cap=int(generator.integers(1, 17)),
        must=[(a, b) for a, b in some(4, 2)] if constrained else [],
        apart=[set(group) for group in some(5, 2) + some(3, 3)] if constrained else [],
        weak=set(np.flatnonzero(generator.random(faces) < 0.25).tolist()) if constrained else set(),
    )
