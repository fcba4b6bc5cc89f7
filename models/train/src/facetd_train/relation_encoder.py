"""RE, the relation encoder (section 3.3, equations 4 to 6): a face and its hop2 neighbours give g, its enhancement."""

import torch.nn.functional as F
from torch import Tensor, nn

from facetd_train.attention import MultiHeadAttention, SelfAttentionLayer


class RelationEncoder(nn.Module):
    """face `[B, d]`, neighbours `[B, hop2, d]`, mask `[B, hop2]` → enhanced `[B, d]`."""

    def __init__(
        self, dimension: int, depth: int, heads: int, head_dimension: int, dropout: float, feed_forward: int = 0
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            SelfAttentionLayer(dimension, heads, head_dimension, dropout, feed_forward) for _ in range(depth)
        )
        self.attention = MultiHeadAttention(dimension, heads, head_dimension)
        self.norm = nn.LayerNorm(dimension)
        self.dropout = dropout

    def forward(self, face: Tensor, neighbours: Tensor, mask: Tensor) -> Tensor:
        for layer in self.layers:  # equation 4
            neighbours = layer(neighbours, mask)
        context = self.attention(face.unsqueeze(1), neighbours, mask)[:, 0]  # equation 5
        return self.norm(F.dropout(context, self.dropout, self.training) + face)  # equation 6
