"""The paper's batch pipeline: linkages of a set of faces, each scored once in its neighbourhood among all of them.

That is all there is to simulate of a stream: once settled it has these linkages too, and on its way it passes through
sets of every size.
"""

from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from facetd_train import device
from facetd_train.data import Floats
from facetd_train.edges import Structure
from facetd_train.merging import Linkages
from facetd_train.neighbours import Neighbourhoods, search


class Scorer(Protocol):
    """What runs both modules: FaceTransformer while training, Artefact afterwards."""

    @property
    def hop1(self) -> int: ...

    @property
    def hop2(self) -> int: ...

    @property
    def edges(self) -> tuple[str, ...]: ...

    def enhance_all(self, features: Tensor, faces: Tensor, hop2: Neighbourhoods) -> Tensor: ...

    def link_all(
        self, enhanced: Tensor, faces: Tensor, hop1: Neighbourhoods, edges: Tensor | None = None
    ) -> Tensor: ...


def link(model: Scorer, features: Floats, lists: float = 1.0) -> Linkages:
    """`lists`: the share of hop1 that neighbourhoods have, as if each person had so many times more faces."""
    faces, length = len(features), max(1, round(lists * model.hop1))
    if faces < 2:
        return Linkages(faces, np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32))
    where = device.of(model)
    values, everyone = torch.from_numpy(features).to(where), torch.arange(faces, device=where)
    rows, _ = search(features, length, where)
    hop1 = Neighbourhoods(rows, torch.ones_like(rows, dtype=torch.bool))
    enhanced = model.enhance_all(values, everyone, hop1.first(model.hop2))
    edges = Structure.of(values, everyone, hop1, length).edges(model.edges, everyone, rows) if model.edges else None
    linkage = model.link_all(enhanced, everyone, hop1, edges)
    query = everyone.unsqueeze(1).expand_as(rows)
    return Linkages(faces, *(column.flatten().cpu().numpy() for column in (query, rows, linkage)))
