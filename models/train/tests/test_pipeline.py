"""The pipeline scores what the definition of a neighbourhood says."""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from facetd_train import pipeline
from facetd_train.data import Faces
from facetd_train.edges import NAMES
from facetd_train.fixtures import TINY, disturb
from facetd_train.merging import SINGLE, Linkages, Merging
from facetd_train.model import FACETD, FaceTransformer
from facetd_train.scores import score
from test_edges import Definition


def by_pair(linkages: Linkages) -> dict[tuple[int, int], float]:
    columns = (linkages.query.tolist(), linkages.candidate.tolist(), linkages.linkage.tolist())
    return {(query, candidate): linkage for query, candidate, linkage in zip(*columns, strict=True)}


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
            linkage = model.lp(
                g[[face]], g[order[face]][None], alone(order.shape[1]), *edges(model, features, order, face)
            )
            found |= {(face, c): p for c, p in zip(order[face].tolist(), linkage[0].tolist(), strict=True)}
    return found


def edges(model: FaceTransformer, features: np.ndarray, order: Tensor, face: int) -> list[Tensor]:
    if not model.edges:
        return []
    definition = Definition(features, order.tolist(), model.hop1)
    pairs = [definition.of(face, candidate) for candidate in order[face].tolist()]
    return [torch.tensor([[[pair[name] for name in model.edges] for pair in pairs]], dtype=torch.float32)]


def assert_same(got: dict[tuple[int, int], float], expected: dict[tuple[int, int], float]) -> None:
    assert got.keys() == expected.keys()
    np.testing.assert_allclose([got[pair] for pair in expected], list(expected.values()), atol=1e-5)


def test_every_candidate_is_scored(model: FaceTransformer, people: Faces) -> None:
    features = people.features[:60]
    got = pipeline.link(model, features)
    assert len(got.linkage) == 60 * model.hop1  # the weakest too: they speak against a merge
    assert_same(by_pair(got), by_hand(model, features))


def test_edges_are_fed_where_the_model_names_them(people: Faces) -> None:
    model = FaceTransformer(replace(TINY, kind=FACETD, edges=NAMES[::-2])).eval()
    disturb(model)
    for count in (2, 4, 40):
        features = people.features[:count]
        assert_same(by_pair(pipeline.link(model, features)), by_hand(model, features))


def test_a_share_of_the_lists_is_what_a_model_of_so_short_lists_has(people: Faces) -> None:
    sizes = replace(TINY, kind=FACETD, edges=NAMES)
    model, short = FaceTransformer(sizes).eval(), FaceTransformer(replace(sizes, hop1=sizes.hop1 // 2)).eval()
    disturb(model)
    short.load_state_dict(model.state_dict())
    features = people.features[:60]
    assert_same(by_pair(pipeline.link(model, features, 0.5)), by_hand(short, features))
    assert len(pipeline.link(model, features, 0.01).linkage) == 60


def test_few_faces_have_short_neighbourhoods(model: FaceTransformer, people: Faces) -> None:
    assert len(pipeline.link(model, people.features[:1]).linkage) == 0
    for few in (2, 4):
        features = people.features[:few]
        assert_same(by_pair(pipeline.link(model, features)), by_hand(model, features))


def test_scores_of_perfect_linkages(people: Faces) -> None:
    same = people.identities[:, None] == people.identities[None, :]
    query, candidate = np.nonzero(np.triu(same, 1))
    linkages = Linkages(len(people), query, candidate, np.ones(len(query), dtype=np.float32))
    assert score(people.identities, linkages.clusters(Merging(SINGLE, 0.5, 0.5))).bcubed_f == 1
