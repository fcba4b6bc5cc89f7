"""A fit from the first step to the choice of merging: what `fit` of the command line does with labelled faces."""

import copy
import time
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor

from facetd_train import pipeline
from facetd_train.cross_fitting import cross_fit
from facetd_train.data import Faces, Integers
from facetd_train.device import CPU
from facetd_train.edge_predictor import EdgePredictor
from facetd_train.keeping import NOTHING, Keep
from facetd_train.merging import Linkages, Merging
from facetd_train.model import Architecture, FaceTransformer
from facetd_train.neighbours import search
from facetd_train.scores import Scores, score
from facetd_train.stage import Stage
from facetd_train.training import Plan, Training, report
from facetd_train.validation import FEW, Choice, Validation

FEWEST = 20  # faces; fewer say nothing about anyone else
STAGES = (Stage.ONLY_RE, Stage.ONLY_LP)  # that are fitted beside RE+LP when the ablation is asked for


@dataclass(frozen=True)
class Checkpoint:
    step: int
    epoch: float
    loss: float  # the mean since the last one
    goodness: float  # on validation (Choice)


@dataclass(frozen=True)
class Trained:
    model: FaceTransformer
    choices: list[Choice]  # the one to ship first, then the other rule's best
    scores: Scores  # of the first, on the validation identities
    linkages: Linkages  # of their faces
    identity: Integers  # of each of these
    identities: int
    faces: int
    largest: int  # faces of the person who has most
    epochs: float  # at the checkpoint that was kept
    neighbour_similarity: dict[str, float]
    history: list[Checkpoint]

    @property
    def merging(self) -> Merging:
        """The one to ship."""
        return self.choices[0].merging


@dataclass
class Best:
    """The checkpoint that is the best so far; at step 0 nothing is trained yet."""

    goodness: float
    step: int
    weights: dict[str, Tensor]


def fit(
    train: Faces,
    held_out: Faces,
    architecture: Architecture,
    plan: Plan,
    device: torch.device = CPU,
    keep: Keep = NOTHING,
) -> Trained:
    """Goes on from what `keep` holds, if anything: on one thread with the result it would have had anyway."""
    if min(len(train), len(held_out)) < FEWEST:
        raise SystemExit(f"{len(train)} faces to train on and {len(held_out)} to validate: at least {FEWEST} of each")
    people, sizes = np.unique(train.identities, return_counts=True)
    if sizes.max() < 2:
        raise SystemExit(
            f"none of the {len(people)} people to train on has two faces: are the labels those of people? "
            "If so, take a shipped model"
        )
    if (judges := len(np.unique(held_out.identities))) < FEW:
        report(
            f"warning: {judges} people are held out to choose thresholds by; with fewer than {FEW} they say little: "
            "a shipped model may do better"
        )
    kept = keep.load("training")  # or refuses, before anything takes long
    torch.manual_seed(plan.seed)
    validation = Validation(held_out, train, plan.seed, architecture.stage, plan.odds)
    model = FaceTransformer(architecture).to(device)
    if architecture.stage == Stage.NAIVE:
        _, similarity = search(train.features, model.hop1, device)
        return judged(model, validation, train, similarity.flatten(), epochs=0, history=[])
    training = Training(model, train, plan)
    warn_of_short_lists(train, training.long, plan)
    steps_an_epoch, started = plan.steps_an_epoch(len(train)), time.monotonic()
    history: list[Checkpoint] = []
    if kept:
        training.restore(kept["training"])
        best, history = Best(**kept["best"]), [Checkpoint(**checkpoint) for checkpoint in kept["history"]]
        report(f"going on from epoch {training.step / steps_an_epoch:.1f}/{plan.epochs}")
    else:
        choice = validation.quick(model.eval())
        best = Best(choice.goodness, 0, copy.deepcopy(model.state_dict()))
        report(f"before training: {choice}")

    for loss in training.checks():
        choice, epoch = validation.quick(model.eval()), training.step / steps_an_epoch
        history.append(Checkpoint(training.step, epoch, loss, choice.goodness))
        report(f"epoch {epoch:.1f}/{plan.epochs}  loss {loss:.4f}  {time.monotonic() - started:.0f} s  {choice}")
        if choice.goodness > best.goodness:
            best = Best(choice.goodness, training.step, copy.deepcopy(model.state_dict()))
        in_vain = sum(checkpoint.step > best.step for checkpoint in history)
        if in_vain >= plan.patience and training.step < training.last:
            training.last = training.step
            report(f"stopped: no better for {in_vain} checks than at epoch {best.step / steps_an_epoch:.1f}")
        progress = {"training": training.state(), "best": vars(best), "history": [asdict(each) for each in history]}
        keep.save("training", progress)

    model.load_state_dict(best.weights)
    if isinstance(model.lp, EdgePredictor):
        cross_fit(model, train, plan, best.step / max(1, plan.steps(len(train))), keep)
    return judged(model, validation, train, training.similarity, round(best.step / steps_an_epoch, 1), history)


def judged(
    model: FaceTransformer,
    validation: Validation,
    train: Faces,
    similarity: Tensor,
    epochs: float,
    history: list[Checkpoint],
) -> Trained:
    """With its merging chosen, and how it does on those it was not trained on."""
    model.eval()
    choices = validation.thorough(model)
    for place, choice in zip(("chosen", "instead of"), choices, strict=False):
        report(f"{place}: {choice}")
    linkages = pipeline.link(model, validation.faces.features)
    return Trained(
        model=model.cpu(),
        choices=choices,
        scores=score(validation.faces.identities, linkages.clusters(choices[0].merging)),
        linkages=linkages,
        identity=validation.faces.identities,
        identities=len(set(train.identities.tolist())),
        faces=len(train),
        largest=int(np.unique(train.identities, return_counts=True)[1].max()),
        epochs=epochs,
        neighbour_similarity=quantiles(similarity.cpu()),
        history=history,
    )


def warn_of_short_lists(train: Faces, long: Tensor, plan: Plan) -> None:
    found, wanted = float((long >= 0).sum(1).float().mean()), min(plan.neighbours, len(train) - 1)
    if train.near is not None and found < wanted:
        report(
            f"warning: of the neighbours in the file {found:.0f} a face are trained on, fewer than the {wanted} that "
            "populations are drawn from: where few faces have arrived, neighbourhoods will be too short"
        )


def quantiles(similarity: Tensor) -> dict[str, float]:
    ordered = similarity.sort().values  # not torch.quantile, which refuses more than 16 million numbers
    return {f"q{q:02d}": float(ordered[round(q / 100 * (len(ordered) - 1))]) for q in (1, 10, 50, 90, 99)}
