"""LP that learns from little: the query is a token, masked entries do not exist, and edges decide beside g."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from facetd_train.edge_predictor import EdgePredictor
from facetd_train.edges import NAMES
from facetd_train.fixtures import TINY, disturb
from facetd_train.model import FACETD, FaceTransformer

DIMENSION = 16


@pytest.fixture
def learnt() -> FaceTransformer:
    made = FaceTransformer(replace(TINY, kind=FACETD, edges=NAMES)).eval()
    disturb(made)
    return made


def inputs(batch: int, length: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    mask = torch.arange(length) < torch.randint(0, length + 1, (batch, 1))
    mask[0], mask[-1] = False, True
    edges = (2 * torch.rand(batch, length, len(NAMES)) - 1) * mask.unsqueeze(2)
    return torch.randn(batch, DIMENSION), torch.randn(batch, length, DIMENSION), mask, edges


def test_a_new_one_links_by_the_cosine_of_g() -> None:
    lp = EdgePredictor(DIMENSION, 2, 2, 8, 0.4, edges=len(NAMES)).eval()
    face, neighbours, mask, edges = inputs(9, 6)
    # An untrained self-attention is the LayerNorm of each layer, and that of a centred vector of that length itself.
    face, neighbours = (F.layer_norm(x, (DIMENSION,)) for x in (face, neighbours))
    cosine = F.cosine_similarity(face.unsqueeze(1), neighbours, dim=2)
    expected = torch.sigmoid((12 * cosine - 7.2).clamp(-12, 12)) * mask
    torch.testing.assert_close(lp(face, neighbours, mask, edges), expected, atol=1e-4, rtol=1e-4)


def test_masked_entries_influence_nothing(learnt: FaceTransformer) -> None:
    face, neighbours, mask, edges = inputs(8, 6)
    got = learnt.lp(face, neighbours, mask, edges)
    away = ~mask.unsqueeze(2)
    other = learnt.lp(face, neighbours + 50 * away * torch.randn(8, 6, DIMENSION), mask, edges + away * 1.0)
    torch.testing.assert_close(other, got)
    alone = learnt.lp(face[:, :], neighbours[:, :3], mask[:, :3], edges[:, :3])
    short = ~mask[:, 3:].any(1)
    torch.testing.assert_close(alone[short], got[short, :3])
    assert (got[0] == 0).all()
    assert got.isfinite().all()


def test_order_of_candidates_does_not_matter(learnt: FaceTransformer) -> None:
    face, neighbours, mask, edges = inputs(8, 6)
    order = torch.randperm(6)
    got = learnt.lp(face, neighbours[:, order], mask[:, order], edges[:, order])
    torch.testing.assert_close(got, learnt.lp(face, neighbours, mask, edges)[:, order])


def test_the_query_is_a_token(learnt: FaceTransformer) -> None:
    """What the self-attention makes of a candidate depends on the query, which the paper's does not see."""
    seen: list[Tensor] = []
    agreement = learnt.lp.agreement
    agreement.layers[-1].register_forward_hook(lambda module, given, made: seen.append(made))
    neighbours, mask = torch.randn(1, 6, DIMENSION), torch.ones(1, 6, dtype=torch.bool)
    for _ in range(2):
        agreement(torch.randn(1, DIMENSION), neighbours, mask)
    assert seen[0].shape[1] == 7
    assert not torch.allclose(seen[0][:, 1:], seen[1][:, 1:], atol=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_every_edge_feature_matters(learnt: FaceTransformer, name: str) -> None:
    face, neighbours, mask, edges = inputs(8, 6)
    other = edges.clone()
    other[:, :, NAMES.index(name)] += 0.5
    assert not torch.allclose(learnt.lp(face, neighbours, mask, other), learnt.lp(face, neighbours, mask, edges))


def test_edges_are_optional() -> None:
    lp = EdgePredictor(DIMENSION, 1, 2, 8, 0.0).eval()
    face, neighbours, mask, _ = inputs(4, 6)
    assert lp(face, neighbours, mask).shape == (4, 6)


def test_a_fully_masked_row_has_finite_gradients(learnt: FaceTransformer) -> None:
    face, neighbours, mask, edges = inputs(4, 6)
    learnt.lp(learnt.re(face, neighbours, mask), neighbours, mask, edges).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in learnt.parameters())


def test_re_begins_as_a_weighted_mean_of_the_nearest() -> None:
    """A new RE draws a face towards its neighbours, more to the nearer; the paper's leaves it where it is."""
    face = F.normalize(torch.randn(50, DIMENSION), dim=1)
    near = F.normalize(face.unsqueeze(1) + 0.3 * torch.randn(50, 3, DIMENSION), dim=2)
    mask = torch.ones(50, 3, dtype=torch.bool)
    mean = F.normalize(near.mean(1), dim=1)
    paper, ours = (FaceTransformer(replace(TINY, kind=kind)).re.eval() for kind in ("paper", FACETD))
    before, after = (F.cosine_similarity(re(face, near, mask), mean, dim=1) for re in (paper, ours))
    assert (after > before).float().mean() > 0.95
    none = torch.zeros(50, 3, dtype=torch.bool)
    torch.testing.assert_close(ours(face, near, none), paper(face, near, none))
