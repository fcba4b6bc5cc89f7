"""Neighbourhoods: brute-force search, and those of a random part of the faces.

A long list of neighbours is searched once. Whoever asks for the neighbourhoods of a *population* (some of the faces, as
if only they had arrived yet) takes from each long list the first ones that belong to it.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from facetd_train.data import Floats

CHUNK = 1024


def search(features: Floats, count: int) -> tuple[Tensor, Tensor]:
    """The `count` nearest other faces of every face by cosine: rows `[N, count]`, similarities `[N, count]`."""
    faces = torch.from_numpy(features)
    count = min(count, len(faces) - 1)
    rows, similarities = [], []
    for start in range(0, len(faces), CHUNK):
        cosine = faces[start : start + CHUNK] @ faces.T
        own = torch.arange(start, start + len(cosine))
        cosine[own - start, own] = -2  # below any cosine: nobody is their own neighbour
        nearest = cosine.topk(count)
        rows.append(nearest.indices)
        similarities.append(nearest.values)
    return torch.cat(rows), torch.cat(similarities)


@dataclass(frozen=True)
class Neighbourhoods:
    """`rows [Q, k]` of the neighbours, nearest first, and `mask [Q, k]`: true where there is one (else row 0)."""

    rows: Tensor
    mask: Tensor

    def __getitem__(self, faces: Tensor) -> "Neighbourhoods":
        return Neighbourhoods(self.rows[faces], self.mask[faces])

    def first(self, count: int) -> "Neighbourhoods":
        return Neighbourhoods(self.rows[:, :count], self.mask[:, :count])


def within(long: Tensor, population: Tensor, count: int) -> Neighbourhoods:
    """From the long lists `[Q, L]` the first `count` that belong to `population [N]` (bool)."""
    belongs = population[long]
    place = belongs.cumsum(1)  # 1 for the first that belongs, 2 for the second, …
    chosen = belongs & (place <= count)
    rows = long.new_zeros(len(long), count)
    mask = torch.zeros(len(long), count, dtype=torch.bool)
    face, position = chosen.nonzero(as_tuple=True)
    slot = place[face, position] - 1
    rows[face, slot] = long[face, position]
    mask[face, slot] = True
    return Neighbourhoods(rows, mask)
