"""Tiny models for the Rust tests: of the paper's form, with recorded PyTorch inputs and outputs to run its own sessions
against, and of facetd's, whose LP reads every edge feature."""

import json
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from facetd_train import artefact, edges
from facetd_train.card import About
from facetd_train.export import export
from facetd_train.merging import Merging, Rule
from facetd_train.model import FACETD, Architecture, FaceTransformer
from facetd_train.scores import Scores
from facetd_train.stage import Stage

TINY = Architecture(dimension=16, hop1=6, hop2=3, depth=2, heads=2, head_dimension=8, dropout=0.0)
TINY_WITH_EDGES = replace(TINY, kind=FACETD, edges=edges.NAMES)
SEED = 7
# Of 10 to 200 random faces, or of tight groups of them, this makes neither one cluster nor only singletons.
MERGING = Merging(Rule("evidence", per_face=2, cap=6), threshold=0.2, threshold_off=0.15)
# name, batch, whether neighbourhoods are short
CASES = (("one", 1, False), ("one_short", 1, True), ("batch", 64, False), ("batch_short", 64, True))


def write(folder: Path) -> None:
    model = write_artefact(folder, TINY)
    cases = [record(model, name, batch, short) for name, batch, short in CASES]
    (folder / "cases.json").write_text(json.dumps(cases, separators=(",", ":")) + "\n")
    write_artefact(folder.with_name(f"{folder.name}-edges"), TINY_WITH_EDGES)


def write_artefact(folder: Path, architecture: Architecture) -> FaceTransformer:
    torch.manual_seed(SEED)
    model = FaceTransformer(architecture).eval()
    disturb(model)
    export(model, folder)
    artefact.describe(folder, architecture, about(architecture), {Stage.RE_LP: MERGING})
    return model


def about(architecture: Architecture) -> About:
    return About(
        name="fixture-16-edges" if architecture.edges else "fixture-16",
        data="none: random weights",
        identities=0,
        faces=0,
        seed=SEED,
        epochs=0,
        neighbour_similarity=dict.fromkeys(("q01", "q10", "q50", "q90", "q99"), 0.0),
        scores={Stage.RE_LP: Scores(0, 0, 0, 0, 0)},
        validation_faces=0,
        validation_people=0,
    )


def disturb(model: FaceTransformer) -> None:
    """Moves every weight off its start, where attention adds nothing and a mistake in it would not show."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))


def record(model: FaceTransformer, name: str, batch: int, short: bool) -> dict[str, object]:
    face = unit(torch.randn(batch, TINY.dimension))
    near = unit(face.unsqueeze(1) + 0.3 * torch.randn(batch, TINY.hop2, TINY.dimension))
    mask = masks(batch, TINY.hop2, short)
    with torch.inference_mode():
        enhanced = rounded(model.re(face, near, mask))
        # Candidates from nearly equal to far apart, so that linkages spread over 0..1.
        spread = torch.linspace(0.05, 1, TINY.hop1).view(1, -1, 1)
        candidates = rounded(enhanced.unsqueeze(1) + spread * torch.randn(batch, TINY.hop1, TINY.dimension))
        candidate_mask = masks(batch, TINY.hop1, short)
        linkage = model.lp(enhanced, candidates, candidate_mask)
    return {
        "name": name,
        "batch": batch,
        "dimension": TINY.dimension,
        "hop1": TINY.hop1,
        "hop2": TINY.hop2,
        "re": {"face": flat(face), "neighbours": flat(near), "mask": bits(mask), "enhanced": flat(enhanced)},
        "lp": {
            "face": flat(enhanced),
            "neighbours": flat(candidates),
            "mask": bits(candidate_mask),
            "linkage": flat(linkage),
        },
    }


def masks(batch: int, length: int, short: bool) -> Tensor:
    """All true, or random lengths; of several short rows the first has no neighbour and the second all of them."""
    if not short:
        return torch.ones(batch, length, dtype=torch.bool)
    lengths = torch.randint(1, length, (batch, 1))
    if batch > 1:
        lengths[0], lengths[1] = 0, length
    return torch.arange(length) < lengths


def unit(values: Tensor) -> Tensor:
    return rounded(torch.nn.functional.normalize(values, dim=-1))


def rounded(values: Tensor) -> Tensor:
    """To the 7 digits the file holds, before a module sees them: what is recorded is what was run."""
    return torch.tensor([float(f"{value:.7g}") for value in values.flatten().tolist()]).view(values.shape)


def flat(values: Tensor) -> list[float]:
    return [float(f"{value:.7g}") for value in values.flatten().tolist()]


def bits(mask: Tensor) -> list[int]:
    return mask.int().flatten().tolist()
