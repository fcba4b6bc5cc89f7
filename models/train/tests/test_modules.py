"""The modules are the paper's equations, and masked entries do not exist for them."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from facetd_train.activation import PReLU
from facetd_train.attention import MultiHeadAttention, SelfAttentionLayer
from facetd_train.linkage_predictor import LinkagePredictor
from facetd_train.model import FaceTransformer
from facetd_train.relation_encoder import RelationEncoder

DIMENSION, HEADS, HEAD = 16, 2, 8


def attention() -> MultiHeadAttention:
    made = MultiHeadAttention(DIMENSION, HEADS, HEAD)
    nn.init.normal_(made.output.weight)
    return made


def by_hand(a: MultiHeadAttention, query: Tensor, context: Tensor) -> Tensor:
    """Equations 2 and 3 head by head, for one batch item without a mask."""
    outputs = []
    for head in range(HEADS):
        rows = slice(head * HEAD, (head + 1) * HEAD)
        q = query @ a.query.weight[rows].T
        k = context @ a.key.weight[rows].T
        v = context @ a.value.weight[rows].T
        outputs.append(torch.softmax(q @ k.T / math.sqrt(HEAD), dim=1) @ v)
    return torch.cat(outputs, dim=1) @ a.output.weight.T


def test_attention_is_equations_2_and_3() -> None:
    a, query, context = attention(), torch.randn(3, 4, DIMENSION), torch.randn(3, 5, DIMENSION)
    got = a(query, context, torch.ones(3, 5, dtype=torch.bool))
    for item in range(3):
        torch.testing.assert_close(got[item], by_hand(a, query[item], context[item]))


def test_masked_attention_is_torch_s_own() -> None:
    a, query, context = attention(), torch.randn(3, 4, DIMENSION), torch.randn(3, 5, DIMENSION)
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [0, 1, 0, 1, 0]], dtype=torch.bool)

    def heads(x: Tensor) -> Tensor:
        return x.view(3, -1, HEADS, HEAD).transpose(1, 2)

    expected = F.scaled_dot_product_attention(
        heads(a.query(query)), heads(a.key(context)), heads(a.value(context)), attn_mask=mask[:, None, None, :]
    )
    torch.testing.assert_close(a(query, context, mask), a.output(expected.transpose(1, 2).reshape(3, 4, -1)))


def test_self_attention_layer_is_equation_4() -> None:
    layer = SelfAttentionLayer(DIMENSION, HEADS, HEAD, dropout=0.4).eval()
    nn.init.normal_(layer.attention.output.weight)
    x = torch.randn(1, 5, DIMENSION)
    expected = F.layer_norm(by_hand(layer.attention, x[0], x[0]) + x[0], (DIMENSION,))
    torch.testing.assert_close(layer(x, torch.ones(1, 5, dtype=torch.bool))[0], expected)


def test_dropout_is_on_the_sub_layer_s_output_only() -> None:
    layer = SelfAttentionLayer(DIMENSION, HEADS, HEAD, dropout=1.0).train()
    nn.init.normal_(layer.attention.output.weight)
    x = torch.randn(2, 5, DIMENSION)
    torch.testing.assert_close(layer(x, torch.ones(2, 5, dtype=torch.bool)), F.layer_norm(x, (DIMENSION,)))


def test_re_is_equations_4_to_6(model: FaceTransformer) -> None:
    re, face, neighbours = model.re, torch.randn(1, DIMENSION), torch.randn(1, 3, DIMENSION)
    mask = torch.ones(1, 3, dtype=torch.bool)
    x = neighbours
    for layer in re.layers:
        x = layer(x, mask)
    context = by_hand(re.attention, face, x[0])
    expected = F.layer_norm(context + face, (DIMENSION,), re.norm.weight, re.norm.bias)
    torch.testing.assert_close(re(face, neighbours, mask), expected)
    assert len(re.layers) == 2


def test_lp_is_equations_7_to_9(model: FaceTransformer) -> None:
    lp, face, neighbours = model.lp, torch.randn(1, DIMENSION), torch.randn(1, 6, DIMENSION)
    mask = torch.ones(1, 6, dtype=torch.bool)
    x = neighbours
    for layer in lp.layers:
        x = layer(x, mask)
    edges = torch.cat([face.expand(6, -1), x[0]], dim=1)
    hidden = edges @ lp.hidden.weight.T + lp.hidden.bias
    hidden = torch.where(hidden > 0, hidden, lp.activation.slope * hidden)
    expected = torch.sigmoid(hidden @ lp.logit.weight.T + lp.logit.bias)
    torch.testing.assert_close(lp(face, neighbours, mask)[0], expected[:, 0])


def test_prelu_is_torch_s_own() -> None:
    x = torch.randn(7, DIMENSION)
    slopes = torch.randn(DIMENSION)
    made = PReLU(DIMENSION)
    made.slope.data = slopes
    torch.testing.assert_close(made(x), F.prelu(x, slopes))


def test_a_new_model_links_the_alike() -> None:
    re = RelationEncoder(DIMENSION, 2, HEADS, HEAD, 0.4).eval()
    lp = LinkagePredictor(DIMENSION, 2, HEADS, HEAD, 0.4).eval()
    face = F.normalize(torch.randn(200, DIMENSION), dim=1)
    candidates = torch.stack([face, F.normalize(face + 0.1 * torch.randn_like(face), dim=1), face.roll(1, 0)], dim=1)
    none = torch.zeros(600, 3, dtype=torch.bool)
    g = re(candidates.flatten(0, 1), torch.zeros(600, 3, DIMENSION), none).view(200, 3, DIMENSION)
    linkage = lp(g[:, 0], g, torch.ones(200, 3, dtype=torch.bool)).mean(0)
    assert linkage[0] > 0.99
    assert linkage[0] > linkage[1] > 0.9
    assert linkage[2] < 0.2


def test_lp_does_not_care_in_which_order_candidates_come(model: FaceTransformer) -> None:
    face, neighbours = torch.randn(4, DIMENSION), torch.randn(4, 6, DIMENSION)
    mask = torch.rand(4, 6) > 0.3
    order = torch.randperm(6)
    got = model.lp(face, neighbours[:, order], mask[:, order])
    torch.testing.assert_close(got, model.lp(face, neighbours, mask)[:, order])


@pytest.mark.parametrize("module", ["re", "lp"])
def test_masked_entries_influence_nothing(model: FaceTransformer, module: str) -> None:
    run = getattr(model, module)
    face, neighbours = torch.randn(5, DIMENSION), torch.randn(5, 6, DIMENSION)
    mask = torch.arange(6) < torch.tensor([[0], [1], [3], [5], [6]])
    other = torch.where(mask.unsqueeze(2), neighbours, 100 * torch.randn(5, 6, DIMENSION))
    torch.testing.assert_close(run(face, other, mask), run(face, neighbours, mask))
    # Nor does it matter that they are there at all.
    alone = run(face[2:3], neighbours[2:3, :3], mask[2:3, :3])
    whole = run(face, neighbours, mask)[2:3]
    torch.testing.assert_close(alone, whole if module == "re" else whole[:, :3])
    # While an unmasked one does matter.
    assert not torch.allclose(run(face, neighbours.flip(2), mask)[4], run(face, neighbours, mask)[4], atol=1e-3)


def test_a_face_without_neighbours(model: FaceTransformer) -> None:
    face, none = torch.randn(2, DIMENSION), torch.zeros(2, 6, dtype=torch.bool)
    neighbours = torch.randn(2, 6, DIMENSION)
    torch.testing.assert_close(model.re(face, neighbours, none), model.re.norm(face))
    torch.testing.assert_close(model.lp(face, neighbours, none), torch.zeros(2, 6))


def test_a_fully_masked_row_has_finite_gradients(model: FaceTransformer) -> None:
    face, neighbours = torch.randn(2, DIMENSION), torch.randn(2, 6, DIMENSION)
    mask = torch.tensor([[False] * 6, [True] * 6])
    model.lp(model.re(face, neighbours, mask), neighbours, mask).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_feed_forward_is_optional() -> None:
    plain = RelationEncoder(DIMENSION, 1, HEADS, HEAD, 0.0)
    wide = RelationEncoder(DIMENSION, 1, HEADS, HEAD, 0.0, feed_forward=32)
    count = [sum(p.numel() for p in module.parameters()) for module in (plain, wide)]
    assert count[1] > count[0] + 2 * 16 * 32
    assert (
        wide(torch.randn(2, DIMENSION), torch.randn(2, 3, DIMENSION), torch.ones(2, 3, dtype=torch.bool))
        .isfinite()
        .all()
    )
