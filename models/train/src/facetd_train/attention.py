"""Multi-head attention (equations 1 to 3) and the self-attention layer both modules stack (equations 4 and 7).

Written with plain matrix products and a softmax, so that it exports to a handful of ONNX operators.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from facetd_train.activation import PReLU

# Low enough that a masked score's weight is exactly 0 beside any real one, and finite, so that a row with nothing
# but masked scores does not become NaN.
MASKED = -1e30


class MultiHeadAttention(nn.Module):
    """Equations 2 and 3: `O_i = softmax(Q W_i^Q (K W_i^K)^T / sqrt(head_dimension)) V W_i^V`, `M = cat(O_1 … O_h) W^O`.

    query `[B, q, d]`, context `[B, k, d]` (keys and values), mask `[B, k]` → `[B, q, d]`; 0 where all is masked.
    """

    def __init__(self, dimension: int, heads: int, head_dimension: int) -> None:
        super().__init__()
        self.heads, self.head_dimension = heads, head_dimension
        self.query = nn.Linear(dimension, heads * head_dimension, bias=False)
        self.key = nn.Linear(dimension, heads * head_dimension, bias=False)
        self.value = nn.Linear(dimension, heads * head_dimension, bias=False)
        self.output = nn.Linear(heads * head_dimension, dimension, bias=False)
        # Residual layers that begin as the identity: the model starts from the embeddings' own similarity, which is
        # good already, and learns what to add to it.
        nn.init.zeros_(self.output.weight)

    def start_as_mean(self, share: float, sharpness: float) -> None:
        """Begins as `share` of the context's mean, weighted by the softmax of `sharpness` times the dot product.

        Each head sees a part of the coordinates, all of them together a rotation (or, fewer than there are, a part).
        """
        inner, dimension = self.query.weight.shape
        rotation = nn.init.orthogonal_(torch.empty(inner, dimension))
        # A head's part of a dot product is head_dimension / dimension of it, and equation 2 divides by the root.
        scale = math.sqrt(sharpness * dimension / math.sqrt(self.head_dimension))
        with torch.no_grad():
            self.query.weight.copy_(scale * rotation)
            self.key.weight.copy_(scale * rotation)
            self.value.weight.copy_(rotation)
            self.output.weight.copy_(share * rotation.T)

    def forward(self, query: Tensor, context: Tensor, mask: Tensor) -> Tensor:
        q, k, v = self._split(self.query(query)), self._split(self.key(context)), self._split(self.value(context))
        present = mask[:, None, None, :]
        scores = (q @ k.transpose(-2, -1)) / math.sqrt(self.head_dimension)
        weights = scores.masked_fill(~present, MASKED).softmax(dim=-1) * present
        return self.output(self._join(weights @ v))

    def _split(self, projected: Tensor) -> Tensor:
        """`[B, n, heads * head_dimension]` → `[B, heads, n, head_dimension]`."""
        return projected.reshape(projected.shape[0], -1, self.heads, self.head_dimension).transpose(1, 2)

    def _join(self, heads: Tensor) -> Tensor:
        """`[B, heads, n, head_dimension]` → `[B, n, heads * head_dimension]`."""
        return heads.transpose(1, 2).reshape(heads.shape[0], -1, self.heads * self.head_dimension)


class SelfAttentionLayer(nn.Module):
    """Equations 4 and 7: `x^l = LayerNorm(dropout(M(x^{l-1}, K, V)) + x^{l-1})`, x `[B, n, d]`, mask `[B, n]`.

    The paper's layer ends here. `feed_forward` > 0 adds a transformer's second sub-layer of that width.
    """

    def __init__(self, dimension: int, heads: int, head_dimension: int, dropout: float, feed_forward: int = 0) -> None:
        super().__init__()
        self.attention = MultiHeadAttention(dimension, heads, head_dimension)
        self.norm = nn.LayerNorm(dimension)
        self.dropout = dropout
        self.feed_forward = FeedForward(dimension, feed_forward, dropout) if feed_forward else nn.Identity()

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        attended = F.dropout(self.attention(x, x, mask), self.dropout, self.training)
        return self.feed_forward(self.norm(attended + x))


class FeedForward(nn.Module):
    """`LayerNorm(dropout(W_2 PReLU(W_1 x)) + x)`: not in the paper, off unless asked for."""

    def __init__(self, dimension: int, width: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(dimension, width), PReLU(width), nn.Linear(width, dimension))
        self.norm = nn.LayerNorm(dimension)
        self.dropout = dropout
        nn.init.zeros_(self.layers[2].weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(F.dropout(self.layers(x), self.dropout, self.training) + x)
