"""How good a model is on identities it never saw, and which threshold suits it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from facetd_train import simulation
from facetd_train.data import Faces, Integers
from facetd_train.merging import Linkages, score
from facetd_train.simulation import Scorer

THRESHOLDS = np.round(np.arange(0.10, 0.991, 0.01), 2)
CAUTION = 0.005  # BCubed F given away for a higher threshold


@dataclass(frozen=True)
class Choice:
    """A threshold and what speaks for it: the BCubed F of each kind of population there."""

    threshold: float
    goodness: float  # the best mean BCubed F at any threshold: what checkpoints are compared by
    bcubed: dict[str, float]

    def __str__(self) -> str:
        each = "  ".join(f"{name} {100 * value:.1f}" for name, value in self.bcubed.items())
        return f"threshold {self.threshold:.2f}  best BCubed F {100 * self.goodness:.2f}  here {each}"


class Validation:
    """Faces of validation identities, as full and thinned populations: a stream passes through all sizes on its way.

    One thin population says little, so several are drawn of each share; their scores are averaged by share.
    """

    def __init__(self, faces: Faces, seed: int) -> None:
        self.faces = faces
        generator = np.random.default_rng(seed)
        self.populations: dict[str, list[Integers]] = {"1.0": [np.arange(len(faces))]}
        for share, draws in ((0.3, 3), (0.1, 6)):
            size = max(2, round(share * len(faces)))
            self.populations[str(share)] = [
                np.sort(generator.choice(len(faces), size, replace=False)) for _ in range(draws)
            ]

    def quick(self, model: Scorer) -> Choice:
        """The choice on populations scored at once: cheap enough to compare checkpoints by."""
        return choose({name: self._batch(model, rows) for name, rows in self.populations.items()})

    def thorough(self, model: Scorer, arrivals: int) -> Choice:
        """The choice with a simulated stream among the populations; it decides the threshold that is shipped."""
        curves = {name: self._batch(model, rows) for name, rows in self.populations.items()}
        curves["stream"] = curve(simulation.stream(model, self.faces.features, arrivals), self.faces.identities)
        return choose(curves)

    def _batch(self, model: Scorer, populations: list[Integers]) -> NDArray[np.float64]:
        drawn = [self.faces.rows(rows) for rows in populations]
        return np.mean([curve(simulation.batch(model, part.features), part.identities) for part in drawn], axis=0)


def curve(linkages: Linkages, identities: Integers) -> NDArray[np.float64]:
    """BCubed F at each of THRESHOLDS."""
    return np.array([score(identities, linkages.clusters(threshold)).bcubed_f for threshold in THRESHOLDS])


def choose(curves: dict[str, NDArray[np.float64]]) -> Choice:
    """The highest threshold whose mean over the kinds of population is within CAUTION of the best.

    Why not the best itself: collections grow beyond any validation set, more strangers come near, and the best
    threshold rises with them; and a link too many joins two people, while one too few usually has another beside it.
    The mean is smoothed over the neighbouring thresholds, for a narrow peak on validation is luck.
    """
    mean = np.mean(list(curves.values()), axis=0)
    padded = np.pad(mean, 2, mode="edge")
    smooth = np.convolve(padded, np.ones(5) / 5, mode="valid")
    chosen = int(np.flatnonzero(smooth >= smooth.max() - CAUTION).max())
    return Choice(
        threshold=float(THRESHOLDS[chosen]),
        goodness=float(smooth.max()),
        bcubed={name: float(values[chosen]) for name, values in curves.items()},
    )
