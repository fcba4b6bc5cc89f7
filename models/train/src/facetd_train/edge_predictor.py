"""LP that learns from little: what the two g say (`agreement`), weighed with how their neighbourhoods lie (`judge`).

Agreement is the paper's LP with the query's g as one more token of the self-attention, so that candidates are compared
with it and not only with each other, and with products of the two, element by element, in place of raw coordinates,
by which the paper's MLP learns a few thousand people by heart.

It still knows the people it was trained on too well. So the judge, which learns how far to believe it beside the
structural edge features (EDGES.md), is trained on people it does not know (cross_fitting.py).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from facetd_train.activation import PReLU
from facetd_train.attention import SelfAttentionLayer

PRODUCTS = 16  # weighted sums of the products that the MLP sees
WIDTH = 64  # of that MLP
STEEPNESS = 12.0  # logits per unit of cosine, at the start
HALFWAY = 0.6  # the cosine of a linkage of one half, at the start


class EdgePredictor(nn.Module):
    """face `[B, d]`, neighbours `[B, hop1, d]`, mask `[B, hop1]`, edges `[B, hop1, e]` → linkage `[B, hop1]` in 0..1.

    0 where masked. Without edge features there is no fourth input.
    """

    def __init__(
        self,
        dimension: int,
        depth: int,
        heads: int,
        head_dimension: int,
        dropout: float,
        feed_forward: int = 0,
        edges: int = 0,
    ) -> None:
        super().__init__()
        self.agreement = Agreement(dimension, depth, heads, head_dimension, dropout, feed_forward)
        self.judge = Judge(edges)

    def logits(self, face: Tensor, neighbours: Tensor, mask: Tensor) -> Tensor:
        """What the two g alone say: what is trained first."""
        return self.agreement(face, neighbours, mask)

    def opinion(self, face: Tensor, neighbours: Tensor, mask: Tensor) -> Tensor:
        """What the judge hears beside the edges `[B, hop1, 2]`: the agreement, and the cosine of the two g."""
        logits = self.agreement(face, neighbours, mask)
        return torch.stack([logits, products(face.unsqueeze(1), neighbours).sum(2)], dim=2)

    def forward(self, face: Tensor, neighbours: Tensor, mask: Tensor, edges: Tensor | None = None) -> Tensor:
        return self.judge(self.opinion(face, neighbours, mask), mask, edges).sigmoid() * mask


class Agreement(nn.Module):
    """face `[B, d]`, neighbours `[B, hop1, d]`, mask `[B, hop1]` → logit `[B, hop1]`.

    Begins as the cosine of the two g, for the reason the paper's form begins as their distance.
    """

    def __init__(
        self, dimension: int, depth: int, heads: int, head_dimension: int, dropout: float, feed_forward: int
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            SelfAttentionLayer(dimension, heads, head_dimension, dropout, feed_forward) for _ in range(depth)
        )
        self.query_mark = nn.Parameter(torch.zeros(dimension))
        self.products = nn.Linear(dimension, PRODUCTS, bias=False)
        self.dropout = dropout
        self.mlp = nn.Sequential(
            nn.Linear(2 + PRODUCTS, WIDTH), PReLU(WIDTH), nn.Linear(WIDTH, WIDTH), PReLU(WIDTH), nn.Linear(WIDTH, 1)
        )
        nn.init.zeros_(self.mlp[-1].weight)
        nn.init.constant_(self.mlp[-1].bias, -STEEPNESS * HALFWAY)

    def forward(self, face: Tensor, neighbours: Tensor, mask: Tensor) -> Tensor:
        query = face.unsqueeze(1)
        tokens = torch.cat([query + self.query_mark, neighbours], dim=1)
        present = torch.cat([torch.ones_like(mask[:, :1]), mask], dim=1)
        for layer in self.layers:
            tokens = layer(tokens, present)
        agreement = products(tokens[:, :1], tokens[:, 1:])
        cosines = [products(query, neighbours).sum(2, keepdim=True), agreement.sum(2, keepdim=True)]
        # Times their number, so that a product is near 1 however many there are.
        weighted = F.dropout(self.products(agreement * agreement.shape[2]), self.dropout, self.training)
        return (self.mlp(torch.cat([*cosines, weighted], dim=2)) + STEEPNESS * cosines[1]).squeeze(2)


class Judge(nn.Module):
    """opinion `[B, hop1, 2]`, mask `[B, hop1]`, edges `[B, hop1, e]` → logit `[B, hop1]`, at the start the agreement's.

    Its self-attention compares the candidates by these few numbers, in which everyone's neighbourhoods look alike.
    """

    WIDTH, HEADS = 48, 4
    LOUDEST = 12.0  # logits beyond it are no surer
    SCALE = 6.0  # logits that count as 1

    def __init__(self, edges: int) -> None:
        super().__init__()
        self.edges = edges
        self.inputs = nn.Sequential(nn.Linear(2 + edges, self.WIDTH), PReLU(self.WIDTH))
        self.layer = SelfAttentionLayer(self.WIDTH, self.HEADS, self.WIDTH // self.HEADS, dropout=0.0)
        self.output = nn.Sequential(nn.Linear(self.WIDTH, self.WIDTH), PReLU(self.WIDTH), nn.Linear(self.WIDTH, 1))
        nn.init.zeros_(self.output[-1].weight)
        nn.init.zeros_(self.output[-1].bias)

    def forward(self, opinion: Tensor, mask: Tensor, edges: Tensor | None = None) -> Tensor:
        logits, cosine = opinion[:, :, :1].clamp(-self.LOUDEST, self.LOUDEST), opinion[:, :, 1:]
        told = [edges] if self.edges and edges is not None else []
        inputs = self.inputs(torch.cat([*told, logits / self.SCALE, cosine], dim=2))
        return (self.output(self.layer(inputs, mask)) + logits).squeeze(2)


def products(one: Tensor, other: Tensor) -> Tensor:
    """Element by element, of unit vectors: their sum is the cosine."""
    return F.normalize(one, dim=2) * F.normalize(other, dim=2)
