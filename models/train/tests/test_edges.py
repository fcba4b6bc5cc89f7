"""Edge features are what EDGES.md says, face by face."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from facetd_train import edges
from facetd_train.data import Faces
from facetd_train.edges import NAMES, Structure
from facetd_train.neighbours import Neighbourhoods, search, within

HOP1 = 12


class Definition:
    """EDGES.md in plain Python, from embeddings and lists of neighbours."""

    def __init__(self, features: np.ndarray, near: list[list[int]], hop1: int) -> None:
        self.f, self.near, self.hop1 = features.astype(np.float64), near, hop1

    def cosine(self, a: int, b: int) -> float:
        return float(self.f[a] @ self.f[b])

    def rank(self, a: int, b: int) -> float:
        return math.log1p(self.near[a].index(b)) / math.log1p(self.hop1) if b in self.near[a] else 1.0

    def circle(self, a: int, first: int) -> dict[int, float]:
        return {a: 1.0} | {c: max(0.0, self.cosine(a, c)) for c in self.near[a][:first]}

    def weighted_shared(self, a: int, b: int, first: int) -> float:
        one, other = self.circle(a, first), self.circle(b, first)
        shared = sum(one[c] * other[c] for c in one.keys() & other.keys())
        lengths = [math.sqrt(sum(weight**2 for weight in circle.values())) for circle in (one, other)]
        return shared / (lengths[0] * lengths[1])

    def density(self, a: int) -> float:
        first = [self.cosine(a, c) for c in self.near[a][:10]]
        return sum(first) / len(first) if first else 0.0

    def of(self, q: int, k: int) -> dict[str, float]:
        return {
            "cosine": self.cosine(q, k),
            "rank": self.rank(q, k),
            "reverse_rank": self.rank(k, q),
            "weighted_shared_5": self.weighted_shared(q, k, 5),
            "weighted_shared_hop1": self.weighted_shared(q, k, self.hop1),
            "density_query": self.cosine(q, k) - self.density(q),
            "density_candidate": self.cosine(q, k) - self.density(k),
        }


def assert_as_defined(features: np.ndarray, near: Neighbourhoods, hop1: int) -> torch.Tensor:
    everyone = torch.arange(len(features))
    got = Structure.of(torch.from_numpy(features), everyone, near, hop1).edges(NAMES, everyone, near.rows)
    lists = [rows[mask].tolist() for rows, mask in zip(near.rows, near.mask, strict=True)]
    definition = Definition(features, lists, hop1)
    for q, candidates in enumerate(lists):
        for slot, k in enumerate(candidates):
            expected = definition.of(q, k)
            assert got[q, slot].tolist() == pytest.approx([expected[name] for name in NAMES], abs=1e-5)
    assert (got[~near.mask] == 0).all()
    assert got.isfinite().all()
    assert got.abs().max() <= 1 + 1e-6
    return got


def whole(features: np.ndarray, hop1: int) -> Neighbourhoods:
    rows, _ = search(features, hop1)
    return Neighbourhoods(rows, torch.ones_like(rows, dtype=torch.bool))


def test_features_are_as_defined(people: Faces, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edges, "CHUNK", 17)
    got = assert_as_defined(people.features[:120], whole(people.features[:120], HOP1), HOP1)
    assert (got.flatten(0, 1).std(0) > 0.05).all()  # none of them is a constant


@pytest.mark.parametrize("count", [2, 3, 8])
def test_few_faces(people: Faces, count: int) -> None:
    features = people.features[np.argsort(people.identities)[:count]]
    assert_as_defined(features, whole(features, HOP1), HOP1)


def test_neighbourhoods_may_be_short_one_sided_or_empty(people: Faces) -> None:
    features = people.features[:60]
    near = whole(features, HOP1)
    lengths = torch.randint(0, HOP1 + 1, (60, 1))
    lengths[:5] = 0
    near = Neighbourhoods(near.rows, torch.arange(HOP1) < lengths)
    assert_as_defined(features, near, HOP1)


def test_opposite_faces_share_nothing() -> None:
    features = np.array([[1, 0], [-1, 0]], dtype=np.float32)
    near = whole(features, HOP1)
    everyone = torch.arange(2)
    got = Structure.of(torch.from_numpy(features), everyone, near, HOP1).edges(NAMES, everyone, near.rows)
    assert got[:, 0].tolist() == [[-1, 0, 0, 0, 0, 0, 0]] * 2


def test_twins_of_two_share_all() -> None:
    features = np.array([[1, 0], [1, 0]], dtype=np.float32)
    near = whole(features, HOP1)
    everyone = torch.arange(2)
    got = Structure.of(torch.from_numpy(features), everyone, near, HOP1).edges(NAMES, everyone, near.rows)
    assert got[:, 0].tolist() == pytest.approx(torch.tensor([[1, 0, 0, 1, 1, 0, 0]] * 2))


def test_names_choose_and_order(people: Faces) -> None:
    features = people.features[:30]
    near, everyone = whole(features, HOP1), torch.arange(30)
    structure = Structure.of(torch.from_numpy(features), everyone, near, HOP1)
    every = structure.edges(NAMES, everyone, near.rows)
    some = structure.edges(("density_query", "rank"), everyone, near.rows)
    assert torch.equal(some, every[:, :, [NAMES.index("density_query"), NAMES.index("rank")]])


def test_a_part_of_a_table_is_as_if_there_were_no_more(people: Faces) -> None:
    """Training has a population among all rows, the pipeline only the population: both see the same."""
    population = torch.rand(len(people)) < 0.3
    members = population.nonzero().squeeze(1)
    long, _ = search(people.features, 200)
    near = within(long[members], population, HOP1)
    place = torch.zeros(len(people), dtype=torch.int64)
    place[members] = torch.arange(len(members))
    queries = torch.arange(5, 25)
    structure = Structure.of(torch.from_numpy(people.features), members, near, HOP1)
    got = structure.edges(NAMES, queries, place[near.rows[queries]])

    alone = people.features[members.numpy()]
    assert torch.equal(place[near.rows], whole(alone, HOP1).rows)
    torch.testing.assert_close(got, assert_as_defined(alone, whole(alone, HOP1), HOP1)[queries])


def test_the_definition_names_every_feature() -> None:
    text = (Path(__file__).parent.parent / "EDGES.md").read_text()
    rows = [line.split("`")[1] for line in text.splitlines() if line.startswith("| `")]
    assert tuple(rows) == NAMES
