"""The pipeline and the stream score what the definition of a neighbourhood says."""

import numpy as np
import torch
from torch import Tensor

from facetd_train import simulation
from facetd_train.data import Faces
from facetd_train.merging import Linkages, score
from facetd_train.model import FaceTransformer
from facetd_train.neighbours import Neighbourhoods, within


def strongest(linkages: Linkages) -> dict[tuple[int, int], float]:
    """The linkage of each directed pair; of a pair scored more than once the largest."""
    best: dict[tuple[int, int], float] = {}
    for q, c, p in zip(linkages.query.tolist(), linkages.candidate.tolist(), linkages.linkage.tolist(), strict=True):
        best[q, c] = max(p, best.get((q, c), 0.0))
    return best


def by_hand(model: FaceTransformer, features: np.ndarray) -> dict[tuple[int, int], float]:
    """Face by face, without batches, masks or chunks."""
    values = torch.from_numpy(features)
    cosine = values @ values.T
    cosine.fill_diagonal_(-2)
    order = cosine.argsort(dim=1, descending=True)[:, : min(model.hop1, len(values) - 1)]

    def alone(count: int) -> Tensor:
        return torch.ones(1, count, dtype=torch.bool)

    with torch.inference_mode():
        g = torch.cat(
            [
                model.re(
                    values[[face]], values[order[face, : model.hop2]][None], alone(min(model.hop2, order.shape[1]))
                )
                for face in range(len(values))
            ]
        )
        found = {}
        for face in range(len(values)):
            linkage = model.lp(g[[face]], g[order[face]][None], alone(order.shape[1]))[0]
            found |= {
                (face, c): p
                for c, p in zip(order[face].tolist(), linkage.tolist(), strict=True)
                if p > simulation.FLOOR
            }
    return found


def assert_same(got: dict[tuple[int, int], float], expected: dict[tuple[int, int], float]) -> None:
    assert got.keys() == expected.keys()
    np.testing.assert_allclose([got[pair] for pair in expected], list(expected.values()), atol=1e-5)


def test_batch_is_the_pipeline(model: FaceTransformer, people: Faces) -> None:
    features = people.features[:60]
    expected = by_hand(model, features)
    assert 20 < len(expected) < 60 * model.hop1  # some linkages are below the floor, some above
    assert_same(strongest(simulation.batch(model, features)), expected)


def test_a_stream_keeps_the_strongest_of_all_its_populations(model: FaceTransformer, people: Faces) -> None:
    features = people.features[:45]
    expected: dict[tuple[int, int], float] = {}
    for end in (10, 20, 30, 40, 45):
        for pair, linkage in by_hand(model, features[:end]).items():
            expected[pair] = max(linkage, expected.get(pair, 0.0))
    assert_same(strongest(simulation.stream(model, features, 10)), expected)


def test_a_stream_in_one_arrival_is_the_batch(model: FaceTransformer, people: Faces) -> None:
    assert_same(
        strongest(simulation.stream(model, people.features, 1000)),
        strongest(simulation.batch(model, people.features)),
    )


def test_one_face_and_two(model: FaceTransformer, people: Faces) -> None:
    assert len(simulation.batch(model, people.features[:1]).linkage) == 0
    assert_same(
        strongest(simulation.stream(model, people.features[:2], 1)),
        strongest(simulation.batch(model, people.features[:2])),
    )


def test_linkages_of_short_neighbourhoods_skip_what_is_not_there(model: FaceTransformer, people: Faces) -> None:
    near = within(torch.tensor([[1, 2, 3]]), torch.tensor([True, False, True, False]), 3)
    g = torch.from_numpy(people.features[:4])
    faces, _, _ = simulation.pairs(torch.tensor([0]), near, model.link_all(g, torch.tensor([0]), near))
    assert len(faces) <= 1
    assert isinstance(near, Neighbourhoods)


def test_scores_of_perfect_linkages(people: Faces) -> None:
    same = people.identities[:, None] == people.identities[None, :]
    query, candidate = np.nonzero(same)
    linkages = Linkages(len(people), query, candidate, np.ones(len(query), dtype=np.float32))
    assert score(people.identities, linkages.clusters(0.5)).bcubed_f == 1
