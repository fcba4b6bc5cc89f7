"""Structural edge features: what the neighbourhoods of a face and of its candidate say about the two (EDGES.md).

A small training set teaches an MLP on raw coordinates little about strangers; ranks and shared neighbours mean the same
for everyone. Nothing here but embeddings and neighbourhoods, so the engine has the same numbers while faces arrive.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from facetd_train.neighbours import Neighbourhoods

NAMES = (
    "cosine",
    "rank",
    "reverse_rank",
    "weighted_shared_5",
    "weighted_shared_hop1",
    "density_query",
    "density_candidate",
)
NEAREST = 5  # of weighted_shared_5
DENSE = 10  # neighbours whose mean cosine is a face's density
CHUNK = 64  # queries: each has a table of all faces for a while


@dataclass(frozen=True)
class Structure:
    """Some faces with their neighbourhoods, and all their candidates among them.

    `faces [F]` are rows of a table of `total` faces, `near` the neighbourhood of each, `cosine [F, k]` how like each of
    its neighbours it is (0 where masked). `hop1` is the model's, which scales ranks; of few faces `k` is less.
    """

    total: int
    faces: Tensor
    near: Neighbourhoods
    cosine: Tensor
    hop1: int

    @staticmethod
    def of(features: Tensor, faces: Tensor, near: Neighbourhoods, hop1: int) -> "Structure":
        parts = zip(faces.split(CHUNK), near.rows.split(CHUNK), strict=True)
        cosine = torch.cat([(features[rows] @ features[part].unsqueeze(2)).squeeze(2) for part, rows in parts])
        return Structure(len(features), faces, near, cosine * near.mask, hop1)

    def edges(self, names: Sequence[str], query: Tensor, candidate: Tensor) -> Tensor:
        """`[Q, k, len(names)]` of the faces at places `query [Q]`, whose candidates stand at `candidate [Q, k]`.

        0 where masked; the places there may be anything.
        """
        parts = zip(query.split(CHUNK), candidate.split(CHUNK), strict=True)
        return torch.cat([self._edges(names, q, c) for q, c in parts])

    def _edges(self, names: Sequence[str], query: Tensor, candidate: Tensor) -> Tensor:
        longest, scale = candidate.shape[1], math.log1p(self.hop1)
        mask, cosine = self.near.mask[query], self.cosine[query]
        members, weights = self._circle(query)  # [Q, 1 + k]
        ranks = torch.arange(longest + 1, device=query.device)
        other, other_weights = self._circle(candidate)  # [Q, k, 1 + k]

        # Where each face stands in the query's circle, looked up for everyone in the candidate's.
        nowhere = longest + 1
        place = members.new_full((len(query), self.total + 1), nowhere)
        place.scatter_(1, members, ranks.expand_as(members))
        place[:, self.total] = nowhere  # where those that are absent were put
        met = place.gather(1, other.flatten(1)).view_as(other)
        met_weights = torch.cat([weights, weights.new_zeros(len(query), 1)], dim=1).gather(1, met.flatten(1))
        products = met_weights.view_as(other) * other_weights

        def weighted_shared(first: int) -> Tensor:
            within = (met <= first) & (ranks <= first)
            lengths = [w[..., : first + 1].square().sum(-1).sqrt() for w in (weights, other_weights)]
            return (products * within).sum(2) / (lengths[0].unsqueeze(1) * lengths[1])

        def reverse_rank() -> Tensor:
            found = other[:, :, 1:] == self.faces[query].view(-1, 1, 1)
            rank = found.float().argmax(2).float().log1p() / scale
            return rank.where(found.any(2), 1.0)

        compute = {
            "cosine": lambda: cosine,
            "rank": lambda: (ranks[:-1].float().log1p() / scale).expand_as(cosine),
            "reverse_rank": reverse_rank,
            "weighted_shared_5": lambda: weighted_shared(NEAREST),
            "weighted_shared_hop1": lambda: weighted_shared(self.hop1),
            "density_query": lambda: cosine - self._density()[query].unsqueeze(1),
            "density_candidate": lambda: cosine - self._density()[candidate],
        }
        return torch.stack([compute[name]() for name in names], dim=2) * mask.unsqueeze(2)

    def _circle(self, faces: Tensor) -> tuple[Tensor, Tensor]:
        """Rows and weights of the faces themselves and their neighbours, `[…, 1 + k]`; absent ones are row `total`."""
        own = self.faces[faces].unsqueeze(-1)
        rows = self.near.rows[faces].where(self.near.mask[faces], self.total)
        weights = self.cosine[faces].clamp(min=0)
        return torch.cat([own, rows], dim=-1), torch.cat([torch.ones_like(own, dtype=weights.dtype), weights], dim=-1)

    def _density(self) -> Tensor:
        first = self.near.mask[:, :DENSE]
        return self.cosine[:, :DENSE].sum(1) / first.sum(1).clamp(min=1)
