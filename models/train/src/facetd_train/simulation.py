"""Linkages of a set of faces as the daemon would score them: all at once, or while they arrive."""

from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from facetd_train.data import Floats
from facetd_train.merging import Linkages
from facetd_train.neighbours import Neighbourhoods, search

# Linkages below are not kept: no threshold is chosen so low.
FLOOR = 0.05


class Scorer(Protocol):
    """What runs both modules: FaceTransformer while training, Artefact afterwards."""

    @property
    def hop1(self) -> int: ...

    @property
    def hop2(self) -> int: ...

    def enhance_all(self, features: Tensor, faces: Tensor, hop2: Neighbourhoods) -> Tensor: ...

    def link_all(self, enhanced: Tensor, faces: Tensor, hop1: Neighbourhoods) -> Tensor: ...


def batch(model: Scorer, features: Floats) -> Linkages:
    """The paper's pipeline: every face scored once, in its neighbourhood among all of them."""
    if len(features) < 2:
        return collect(len(features), [])
    values, everyone = torch.from_numpy(features), torch.arange(len(features))
    rows, _ = search(features, model.hop1)
    hop1 = Neighbourhoods(rows, torch.ones_like(rows, dtype=torch.bool))
    enhanced = model.enhance_all(values, everyone, hop1.first(model.hop2))
    return collect(len(features), [pairs(everyone, hop1, model.link_all(enhanced, everyone, hop1))])


def stream(model: Scorer, features: Floats, arrivals: int) -> Linkages:
    """Faces arrive in row order, `arrivals` at a time, and a link once made stays.

    After each arrival every stale face is scored again: those with a new face in their neighbourhood, and those with an
    enhanced embedding there, or of their own, that changed. This is the hardest way to run: each face is scored many
    times, in sparse neighbourhoods at first, and one false link in any of them joins two people for good.
    """
    values, total = torch.from_numpy(features), len(features)
    width, hop2 = model.hop1, model.hop2
    rows = torch.zeros(total, width, dtype=torch.int64)
    similarity = torch.full((total, width), -torch.inf)
    enhanced = torch.zeros_like(values)
    scored = []
    for start in range(0, total, arrivals):
        end = min(start + arrivals, total)
        arrived = torch.arange(start, end)
        before = rows[:end].clone(), similarity[:end] > -torch.inf

        cosine = values[:end] @ values[start:end].T
        cosine[arrived, arrived - start] = -torch.inf
        everyone = torch.cat([rows[:end], arrived.expand(end, -1)], dim=1), torch.cat([similarity[:end], cosine], dim=1)
        met = torch.arange(start).expand(end - start, -1), values[start:end] @ values[:start].T
        rows[:end], similarity[:end] = nearest(everyone[0], everyone[1], width)
        if start:
            among = torch.cat([rows[start:end], met[0]], dim=1), torch.cat([similarity[start:end], met[1]], dim=1)
            rows[start:end], similarity[start:end] = nearest(among[0], among[1], width)

        hop1 = Neighbourhoods(rows[:end], similarity[:end] > -torch.inf)
        differs = (hop1.rows != before[0]) | (hop1.mask != before[1])
        moved = differs[:, :hop2].any(1)
        moved[start:] = True
        again = moved.nonzero().squeeze(1)
        enhanced[again] = model.enhance_all(values, again, hop1[again].first(hop2))
        stale = moved | differs.any(1) | (moved[hop1.rows] & hop1.mask).any(1)
        again = stale.nonzero().squeeze(1)
        scored.append(pairs(again, hop1[again], model.link_all(enhanced, again, hop1[again])))
    return collect(total, scored)


def nearest(rows: Tensor, similarity: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The `count` most similar of each line, as rows and similarities."""
    best = similarity.topk(count, dim=1)
    return rows.gather(1, best.indices), best.values


def pairs(faces: Tensor, hop1: Neighbourhoods, linkage: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    line, place = (hop1.mask & (linkage > FLOOR)).nonzero(as_tuple=True)
    return faces[line], hop1.rows[line, place], linkage[line, place]


def collect(faces: int, scored: list[tuple[Tensor, Tensor, Tensor]]) -> Linkages:
    if not scored:
        return Linkages(faces, np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32))
    query, candidate, linkage = (torch.cat(column).numpy() for column in zip(*scored, strict=True))
    return Linkages(faces, query, candidate, linkage)
