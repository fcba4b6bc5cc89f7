"""Neighbourhoods: brute-force search, and those of a random part of the faces.

A long list of neighbours is searched once, or comes out of a file. Whoever asks for the neighbourhoods of a
*population* (some of the faces, as if only they had arrived yet) takes from each long list the first ones that belong
to it.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from facetd_train.data import Faces, Floats
from facetd_train.device import CPU

CHUNK = 1024  # faces whose cosines with everyone are in memory at once
TABLE = 1 << 28  # such cosines at most: 1 GiB


def nearest(faces: Faces, count: int, device: torch.device = CPU) -> tuple[Tensor, Tensor]:
    """The `count` nearest other faces as `search` gives them, or of the file's lists: row -1 where these end early."""
    if faces.near is None:
        return search(faces.features, count, device)
    rows, cosines = torch.from_numpy(faces.near.rows), torch.from_numpy(faces.near.cosines)
    order = (rows < 0).int().argsort(dim=1, stable=True)[:, : min(count, len(faces) - 1)]  # those that are there first
    return rows.gather(1, order).to(device), cosines.gather(1, order).to(device)


def search(features: Floats, count: int, device: torch.device = CPU) -> tuple[Tensor, Tensor]:
    """The `count` nearest other faces of every face by cosine: rows `[N, count]`, similarities `[N, count]`."""
    faces = torch.from_numpy(features).to(device)
    count, chunk = min(count, len(faces) - 1), max(1, min(CHUNK, TABLE // max(1, len(faces))))
    rows, similarities = [], []
    for start in range(0, len(faces), chunk):
        cosine = faces[start : start + chunk] @ faces.T
        own = torch.arange(start, start + len(cosine), device=device)
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

    def cut(self, count: int) -> "Neighbourhoods":
        """As many columns as before, of which only the first `count` hold anyone."""
        place = torch.arange(self.mask.shape[1], device=self.mask.device)
        return Neighbourhoods(self.rows, self.mask & (place < count))


def within(long: Tensor, population: Tensor, count: int) -> Neighbourhoods:
    """From the long lists `[Q, L]` (-1: nobody) the first `count` that belong to `population [N]` (bool)."""
    belongs = population[long] & (long >= 0)
    place = belongs.cumsum(1)  # 1 for the first that belongs, 2 for the second, …
    chosen = belongs & (place <= count)
    rows = long.new_zeros(len(long), count)
    mask = belongs.new_zeros(len(long), count)
    face, position = chosen.nonzero(as_tuple=True)
    slot = place[face, position] - 1
    rows[face, slot] = long[face, position]
    mask[face, slot] = True
    return Neighbourhoods(rows, mask)
