"""What a fit leaves to look at: the loss, the ROC of its stages (the paper's figure 5), precision and recall, F over τ.

All but the loss are of held-out people among themselves. A *prediction* is a face's linkage to one of its candidates,
each direction counted, as in figure 5.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from facetd_train import svg
from facetd_train.data import Integers
from facetd_train.fitting import Checkpoint, Trained
from facetd_train.merging import Linkages, Merging
from facetd_train.scores import score
from facetd_train.stage import Stage
from facetd_train.svg import Axis, Line
from facetd_train.validation import THRESHOLDS

POINTS = 120  # of a curve; more cannot be told apart


@dataclass(frozen=True)
class Ranked:
    """The predictions from the surest on, cut after each of at most POINTS: how many are right and wrong so far."""

    right: NDArray[np.float64]
    wrong: NDArray[np.float64]

    @staticmethod
    def of(linkages: Linkages, truth: Integers) -> "Ranked":
        same = truth[linkages.query] == truth[linkages.candidate]
        order = np.argsort(-linkages.linkage, kind="stable")
        right, wrong = np.cumsum(same[order]), np.cumsum(~same[order])
        # Evenly along both counts together, and denser at the start, where curves are read.
        cuts = np.unique((np.linspace(0, 1, POINTS) ** 2 * (len(order) - 1)).astype(int))
        return Ranked(right[cuts].astype(float), wrong[cuts].astype(float))

    def roc(self, name: str) -> Line:
        """True against false positive rate."""
        return Line(name, start(self.wrong / max(self.wrong[-1], 1), 0), start(self.right / max(self.right[-1], 1), 0))

    def precision_recall(self, name: str) -> Line:
        return Line(
            name, (self.right / max(self.right[-1], 1)).tolist(), (self.right / (self.right + self.wrong)).tolist()
        )


def start(values: NDArray[np.float64], first: float) -> list[float]:
    return [first, *values.tolist()]


def charts(stages: Mapping[Stage, Trained]) -> dict[str, str]:
    """SVG by name. The stages that were fitted, RE+LP among them; without a loss where nothing took an epoch."""
    whole = stages[Stage.RE_LP]
    ranked = {stage.title: Ranked.of(trained.linkages, trained.identity) for stage, trained in stages.items()}
    trained = {"loss": loss(whole.history)} if whole.history else {}
    return trained | {
        "roc": svg.lines(
            "Predictions of held-out people: ROC",
            Axis("false positive rate", 0, 0.2),
            Axis("true positive rate", 0, 1),
            [one.roc(name) for name, one in ranked.items()],
        ),
        "precision_recall": svg.lines(
            "Predictions of held-out people: precision and recall",
            Axis("recall", 0, 1),
            Axis("precision", 0, 1),
            [one.precision_recall(name) for name, one in ranked.items()],
        ),
        "f_over_threshold": f_over_threshold(whole.linkages, whole.merging, whole.identity),
    }


def loss(history: Sequence[Checkpoint]) -> str:
    epochs = [one.epoch for one in history]
    highest = math.ceil(max([1.0, *(one.loss for one in history)]))
    return svg.lines(
        "Training",
        Axis("epoch", 0, max([1.0, *epochs])),
        Axis("", 0, highest),
        [
            Line("cross-entropy of a step's linkages", epochs, [one.loss for one in history]),
            Line("BCubed F of held-out people", epochs, [one.goodness for one in history]),
        ],
    )


def f_over_threshold(linkages: Linkages, merging: Merging, truth: Integers) -> str:
    merges = linkages.merges(merging.rule, float(THRESHOLDS[0]))
    scores = [score(truth, merges.clusters(threshold)) for threshold in THRESHOLDS.tolist()]
    highest = float(THRESHOLDS[-1])
    if merging.rule.per_face:  # of two lone faces that are sure of each other
        highest = min(highest, 1 / min(merging.rule.per_face, merging.rule.cap))
    return svg.lines(
        f"Held-out people under {merging.rule}",
        Axis("threshold τ; dashed: the one chosen", 0, highest),
        Axis("F", 0, 1),
        [
            Line("pairwise F", THRESHOLDS.tolist(), [one.pairwise_f for one in scores]),
            Line("BCubed F", THRESHOLDS.tolist(), [one.bcubed_f for one in scores]),
        ],
        mark=merging.threshold,
    )
