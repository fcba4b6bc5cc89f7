"""The stages of the paper's ablation (section 4.5, table 5), and what stands where a module is left out.

Every stage is a way from embeddings to linkages, so merging, validation and the engine are the same for all.
"""

from enum import StrEnum

import torch.nn.functional as F
from torch import Tensor, nn


class Stage(StrEnum):
    NAIVE = "naive"  # neither module: the cosine of the embeddings
    ONLY_RE = "only_re"  # the cosine of g, by an RE that was trained for it (equations 11 and 12)
    ONLY_LP = "only_lp"  # LP on the embeddings themselves
    RE_LP = "re_lp"

    @property
    def has_re(self) -> bool:
        return self in (Stage.ONLY_RE, Stage.RE_LP)

    @property
    def has_lp(self) -> bool:
        return self in (Stage.ONLY_LP, Stage.RE_LP)

    @property
    def title(self) -> str:
        """As the paper's tables call it."""
        return {Stage.RE_LP: "RE+LP", Stage.ONLY_RE: "only RE", Stage.ONLY_LP: "only LP"}.get(self, "naive")


class Untouched(nn.Module):
    """In place of RE: g is the embedding, of the length RE's LayerNorm gives, for LP is made for that."""

    def forward(self, face: Tensor, neighbours: Tensor, mask: Tensor) -> Tensor:
        return face * face.shape[1] ** 0.5


class Closeness(nn.Module):
    """In place of LP: `1 - ||N(g) - N(g_k)||² / 4` (equations 11 and 12), which is half of 1 + their cosine."""

    def logits(self, face: Tensor, neighbours: Tensor, mask: Tensor) -> Tensor:
        return self._closeness(face, neighbours).logit(eps=1e-6)

    def forward(self, face: Tensor, neighbours: Tensor, mask: Tensor) -> Tensor:
        return self._closeness(face, neighbours) * mask

    @staticmethod
    def _closeness(face: Tensor, neighbours: Tensor) -> Tensor:
        cosine = (F.normalize(face, dim=1).unsqueeze(1) * F.normalize(neighbours, dim=2)).sum(2)
        return ((1 + cosine) / 2).clamp(0, 1)


class OnEmbeddings(nn.Module):
    """An LP that is trained without RE, as it is exported: on embeddings of length 1."""

    def __init__(self, lp: nn.Module, dimension: int) -> None:
        super().__init__()
        self.lp = lp
        self.length = dimension**0.5  # a constant: in a graph the root of a shape, a whole number, is one too

    def forward(self, face: Tensor, neighbours: Tensor, mask: Tensor, *edges: Tensor) -> Tensor:
        return self.lp(face * self.length, neighbours * self.length, mask, *edges)
