"""LP, the linkage predictor (section 3.4, equations 7 to 9): which of a face's hop1 candidates have its identity.

It sees enhanced embeddings only: the face's own g and its candidates' g.
"""

import torch
from torch import Tensor, nn

from facetd_train.activation import PReLU
from facetd_train.attention import SelfAttentionLayer


class LinkagePredictor(nn.Module):
    """face `[B, d]`, neighbours `[B, hop1, d]`, mask `[B, hop1]` → linkage `[B, hop1]` in 0..1, and 0 where masked."""

    def __init__(
        self, dimension: int, depth: int, heads: int, head_dimension: int, dropout: float, feed_forward: int = 0
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            SelfAttentionLayer(dimension, heads, head_dimension, dropout, feed_forward) for _ in range(depth)
        )
        self.hidden = nn.Linear(2 * dimension, dimension)
        self.activation = PReLU(dimension, slope=-1.0)
        self.logit = nn.Linear(dimension, 1)
        self._start_as_distance(dimension)

    def _start_as_distance(self, dimension: int) -> None:
        """The MLP of equation 9 begins as a distance between its two halves.

        From a random start it has to find out that linkage depends on how alike the halves are, and on a small data set
        learns the training identities by heart instead. With weights [U, -U] (U a rotation) and PReLU slopes of -1,
        hidden unit i is |u_i (g_q - g_k)|; their mean is 0 for equal faces and near 1 for strangers.
        """
        rotation = nn.init.orthogonal_(torch.empty(dimension, dimension))
        with torch.no_grad():
            self.hidden.weight.copy_(torch.cat([rotation, -rotation], dim=1))
            self.hidden.bias.zero_()
            self.logit.weight.fill_(-STEEPNESS / dimension)
            self.logit.bias.fill_(STEEPNESS * HALFWAY)

    def logits(self, face: Tensor, neighbours: Tensor, mask: Tensor) -> Tensor:
        for layer in self.layers:  # equation 7
            neighbours = layer(neighbours, mask)
        edges = torch.cat([face.unsqueeze(1).expand_as(neighbours), neighbours], dim=2)  # equation 8
        return self.logit(self.activation(self.hidden(edges))).squeeze(2)  # equation 9, before its sigmoid

    def forward(self, face: Tensor, neighbours: Tensor, mask: Tensor) -> Tensor:
        return self.logits(face, neighbours, mask).sigmoid() * mask


STEEPNESS = 20.0  # logits per unit of mean distance
HALFWAY = 0.75  # the mean distance of a linkage of one half
