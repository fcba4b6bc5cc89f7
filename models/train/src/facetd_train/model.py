"""The Face Transformer: both modules, their sizes, and how they run over neighbourhoods."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from facetd_train.edge_predictor import EdgePredictor
from facetd_train.linkage_predictor import LinkagePredictor
from facetd_train.neighbours import Neighbourhoods
from facetd_train.relation_encoder import RelationEncoder
from facetd_train.stage import Closeness, Stage, Untouched

PAPER = "paper"  # equations 1 to 9 and nothing else
FACETD = "facetd"  # the same RE; LP with what edge_predictor.py adds


@dataclass(frozen=True)
class Architecture:
    """Kind and sizes of both modules; the defaults are the paper's (section 4.1)."""

    dimension: int = 256
    hop1: int = 150
    hop2: int = 5
    depth: int = 2
    heads: int = 4
    head_dimension: int = 64
    dropout: float = 0.4
    feed_forward: int = 0
    kind: str = PAPER
    edges: tuple[str, ...] = ()  # features LP is fed, by name; none in the paper's
    stage: Stage = Stage.RE_LP


class FaceTransformer(nn.Module):
    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        a = architecture
        sizes = (a.dimension, a.depth, a.heads, a.head_dimension, a.dropout, a.feed_forward)
        self.architecture = a
        self.re = RelationEncoder(*sizes) if a.stage.has_re else Untouched()
        if a.stage.has_re and a.kind == FACETD:
            self.re.start_as_mean()
        if not a.stage.has_lp:
            self.lp = Closeness()
        elif a.kind == FACETD:
            self.lp = EdgePredictor(*sizes, edges=len(a.edges))
        else:
            self.lp = LinkagePredictor(*sizes)

    @property
    def hop1(self) -> int:
        return self.architecture.hop1

    @property
    def hop2(self) -> int:
        return self.architecture.hop2

    @property
    def edges(self) -> tuple[str, ...]:
        return self.architecture.edges if self.architecture.stage.has_lp else ()

    def enhance(self, features: Tensor, faces: Tensor, hop2: Neighbourhoods) -> Tensor:
        """g of the rows `faces [B]` of `features [N, d]`."""
        return self.re(features[faces], features[hop2.rows], hop2.mask)

    @torch.inference_mode()
    def enhance_all(self, features: Tensor, faces: Tensor, hop2: Neighbourhoods, batch: int = 1024) -> Tensor:
        parts = zip(faces.split(batch), hop2.rows.split(batch), hop2.mask.split(batch), strict=True)
        return torch.cat([self.enhance(features, face, Neighbourhoods(rows, mask)) for face, rows, mask in parts])

    @torch.inference_mode()
    def link_all(
        self, enhanced: Tensor, faces: Tensor, hop1: Neighbourhoods, edges: Tensor | None = None, batch: int = 512
    ) -> Tensor:
        """The linkage of each candidate `[B, hop1]` of the rows `faces [B]` of `enhanced [N, d]`."""
        linkages = []
        for part in torch.arange(len(faces)).split(batch):
            told = () if edges is None else (edges[part],)
            linkages.append(self.lp(enhanced[faces[part]], enhanced[hop1.rows[part]], hop1.mask[part], *told))
        return torch.cat(linkages)
