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

    def start_as_mean(self) -> None:
        """g begins as f with a share of its nearest neighbours' mean, which alone sets people apart better than f.

        Equations and their freedom are the same; but what a small data set would have to teach is there already.
        """
        dimension = self.norm.normalized_shape[0]
        # Layers leave neighbours at length sqrt(dimension), beside a face of length 1.
        self.attention.start_as_mean(SHARE / dimension**0.5, SHARPNESS / dimension**0.5)

    def forward(self, face: Tensor, neighbours: Tensor, mask: Tensor) -> Tensor:
        for layer in self.layers:  # equation 4
            neighbours = layer(neighbours, mask)
        context = self.attention(face.unsqueeze(1), neighbours, mask)[:, 0]  # equation 5
        return self.norm(F.dropout(context, self.dropout, self.training) + face)  # equation 6


SHARE = 0.6  # of the neighbours' mean, beside 1 of the face
SHARPNESS = 5.0  # what a cosine is multiplied by before it is a neighbour's weight
