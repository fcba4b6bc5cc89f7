"""A fit from the first step to the choice of merging: what `fit` of the command line does with labelled faces."""

import copy
import time
from dataclasses import dataclass

import torch
from torch import Tensor

from facetd_train.cross_fitting import cross_fit
from facetd_train.data import Faces
from facetd_train.model import FACETD, Architecture, FaceTransformer
from facetd_train.neighbours import search
from facetd_train.training import Plan, learn, report
from facetd_train.validation import Choice, Validation

FEWEST = 20  # faces; fewer say nothing about anyone else


@dataclass(frozen=True)
class Trained:
    model: FaceTransformer
    choices: list[Choice]  # the one to ship first, then the other rule's best
    identities: int
    faces: int
    epochs: int  # at the checkpoint that was kept
    neighbour_similarity: dict[str, float]


def fit(train: Faces, held_out: Faces, architecture: Architecture, plan: Plan) -> Trained:
    if min(len(train), len(held_out)) < FEWEST:
        raise SystemExit(f"{len(train)} faces to train on and {len(held_out)} to validate: at least {FEWEST} of each")
    torch.manual_seed(plan.seed)
    validation = Validation(held_out, train, plan.seed)
    model = FaceTransformer(architecture)
    best = validation.quick(model.eval())
    kept, kept_at = copy.deepcopy(model.state_dict()), 0
    report(f"before training: {best}")
    steps_an_epoch, started = plan.steps_an_epoch(len(train)), time.monotonic()

    def check(step: int, loss: float) -> None:
        nonlocal best, kept, kept_at
        choice = validation.quick(model.eval())
        if choice.goodness > best.goodness:
            best, kept, kept_at = choice, copy.deepcopy(model.state_dict()), step
        report(
            f"epoch {step / steps_an_epoch:.1f}/{plan.epochs}  loss {loss:.4f}  "
            f"{time.monotonic() - started:.0f} s  {choice}"
        )

    learn(model, train, plan, check=check)
    model.load_state_dict(kept)
    if architecture.kind == FACETD:
        cross_fit(model, train, plan, kept_at / plan.steps(len(train)))
    model.eval()
    choices = validation.thorough(model)
    for place, choice in zip(("chosen", "instead of"), choices, strict=True):
        report(f"{place}: {choice}")
    _, similarity = search(train.features, architecture.hop1)
    return Trained(
        model=model,
        choices=choices,
        identities=len(set(train.identities.tolist())),
        faces=len(train),
        epochs=round(kept_at / steps_an_epoch),
        neighbour_similarity=quantiles(similarity.flatten()),
    )


def quantiles(similarity: Tensor) -> dict[str, float]:
    ordered = similarity.sort().values  # not torch.quantile, which refuses more than 16 million numbers
    return {f"q{q:02d}": float(ordered[round(q / 100 * (len(ordered) - 1))]) for q in (1, 10, 50, 90, 99)}
