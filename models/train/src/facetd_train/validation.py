"""How good a model is on identities it never saw, and which merging suits it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from facetd_train import pipeline
from facetd_train.data import Faces, at_most
from facetd_train.merging import SINGLE, Linkages, Merging, Rule
from facetd_train.neighbours import CHUNK
from facetd_train.pipeline import Scorer
from facetd_train.scores import score
from facetd_train.stage import Stage

THRESHOLDS = np.round(np.arange(0.05, 0.991, 0.005), 3)
SCORED = 6_000  # faces at most that are scored; of more, a part of the identities says as much
CROWD = 12_000  # faces at most in the crowd, the nearest: the merges of more take minutes for each rule
FEW = 30  # people held out: with fewer, what is chosen by them is luck
CAUTION = 0.05  # of what BCubed F lacks: so much more is given away for a higher threshold
CAP = 64  # 16 gave the same within noise, and asks less of two large clusters, whose merge is the costliest mistake
EVIDENCE = tuple(Rule("evidence", per_face, CAP) for per_face in (1, 2, 3, 4))
QUICK = (EVIDENCE[0], EVIDENCE[2])  # where most people have many faces the first does better, where few have, the other
GROWN = 0.25  # share of hop1 that neighbourhoods have where people are as if they had grown
NOISE = 0.002  # of BCubed F: two trainings of one plan differ by as much
# The daemon recomputes components of pairs above threshold_off, and these grow steeply as it falls: of 20,000 synthetic
# faces (per_face 2, threshold 0.165) the largest holds 143 at 0.9 of the threshold, 5,502 at 0.73. So hysteresis is
# narrow: it has to outlast the small changes of a refresh, not a change of mind.
HYSTERESIS = 0.9


@dataclass(frozen=True)
class Choice:
    """A merging and what speaks for it: the BCubed F of each kind of population there."""

    merging: Merging
    goodness: float  # the best mean BCubed F at any threshold: what checkpoints and rules are compared by
    bcubed: dict[str, float]

    def __str__(self) -> str:
        each = "  ".join(f"{name} {100 * value:.1f}" for name, value in self.bcubed.items())
        chosen = f"{self.merging.rule}  threshold {self.merging.threshold:.3f} (off {self.merging.threshold_off:.3f})"
        return f"{chosen}  best BCubed F {100 * self.goodness:.2f}  here {each}"


@dataclass(frozen=True)
class Population:
    """Some faces, which of them are scored, and the share of hop1 that neighbourhoods have among them."""

    faces: Faces
    scored: NDArray[np.bool_]
    lists: float = 1.0

    @staticmethod
    def all_of(faces: Faces, lists: float = 1.0) -> "Population":
        return Population(faces, np.ones(len(faces), dtype=bool), lists)

    def curve(self, linkages: Linkages, rule: Rule) -> NDArray[np.float64]:
        """BCubed F at each of THRESHOLDS."""
        merges = linkages.merges(rule, float(THRESHOLDS[0]))
        truth = self.faces.identities[self.scored]
        return np.array([score(truth, merges.clusters(t)[self.scored]).bcubed_f for t in THRESHOLDS.tolist()])


class Validation:
    """Faces of validation identities as full, sparse and crowded populations: a collection grows through all sizes.

    One sparse population says little, so several are drawn of each share; their scores are averaged by share. In the
    crowd the faces trained on stand between those that are scored: the threshold must do for collections larger than
    the validation set, where more strangers come near. And people grow: where neighbourhoods are shorter, everyone is
    as if they had so many times more faces, and what holds a small person together may break up a large one.
    """

    def __init__(
        self, faces: Faces, strangers: Faces, seed: int, stage: Stage = Stage.RE_LP, odds: float = 0.0
    ) -> None:
        self.odds = odds
        # Where linkages are no probabilities their mean is no evidence.
        self.floor = 0.0 if stage.has_lp else 0.5  # half of 1 + the cosine
        self.rules, self.quick_rules = ((SINGLE, *EVIDENCE), QUICK) if stage.has_lp else ((SINGLE,), (SINGLE,))
        self.faces = faces = dense_part(faces, SCORED, seed)
        strangers = nearest_people(strangers, faces, CROWD - len(faces))
        generator = np.random.default_rng(seed)
        self.populations: dict[str, list[Population]] = {"1.0": [Population.all_of(faces)]}
        for share, draws in ((0.3, 3), (0.1, 6)):
            size = max(2, round(share * len(faces)))
            chosen = [np.sort(generator.choice(len(faces), size, replace=False)) for _ in range(draws)]
            self.populations[str(share)] = [Population.all_of(faces.rows(rows)) for rows in chosen]
        scored = np.arange(len(faces) + len(strangers)) < len(faces)
        self.crowd = Population(faces.and_those_of(strangers), scored)

    def quick(self, model: Scorer) -> Choice:
        """Under few rules, without the crowd, and with people as they are: cheap enough to compare checkpoints by."""
        found = curves(model, self.populations, self.quick_rules)
        choices = [choose(rule, found[rule], self.floor, self.odds) for rule in self.quick_rules]
        return max(choices, key=lambda choice: choice.goodness)

    def thorough(self, model: Scorer) -> list[Choice]:
        """The best of each rule, that to be shipped first: `evidence` unless `single` is better by more than noise.

        With odds given it is `evidence`: under `single` one false link joins two people, and the larger a collection
        the likelier there is one.

        Of evidence the fewest pairs a face that are not worse by more than noise: their threshold is the highest, and
        so are its components of links the smallest.
        """
        grown = Population.all_of(self.faces, GROWN)
        populations = self.populations | {"crowd": [self.crowd], "grown": [grown]}
        each = [
            choose(rule, found, self.floor, self.odds) for rule, found in curves(model, populations, self.rules).items()
        ]
        single, *evidence = each
        if not evidence:
            return [single]
        highest = max(choice.goodness for choice in evidence)
        best = next(choice for choice in evidence if choice.goodness >= highest - NOISE)  # by per_face ascending
        return [best, single] if self.odds or single.goodness <= best.goodness + NOISE else [single, best]


def dense_part(faces: Faces, count: int, seed: int) -> Faces:
    """All of the faces, or those of a few people, by the seed, and of the people nearest to them.

    A part of the people drawn evenly would be a sparser collection, in which everything is told apart more easily.
    """
    if len(faces) <= count:
        return faces
    few = at_most(faces, count // 10, seed)
    others = faces.rows(~np.isin(faces.identities, few.identities))
    return few.and_those_of(nearest_people(others, few, count - len(few)))


def nearest_people(strangers: Faces, faces: Faces, count: int) -> Faces:
    """All of the strangers, or whole people, the nearest to `faces` first, as long as theirs are no more than `count`.

    It is these that come between: with them a crowd is as dense as all the strangers would make it.
    """
    if len(strangers) <= count:
        return strangers
    near = np.concatenate(
        [(strangers.features[at : at + CHUNK] @ faces.features.T).max(1) for at in range(0, len(strangers), CHUNK)]
    )
    names, person, sizes = np.unique(strangers.identities, return_inverse=True, return_counts=True)
    nearness = np.full(len(names), -1.0, dtype=np.float32)
    np.maximum.at(nearness, person, near)
    taken, total = [], 0
    for name in np.argsort(-nearness, kind="stable").tolist():
        if total + sizes[name] <= count:
            taken.append(names[name])
            total += sizes[name]
    return strangers.of(np.array(taken, dtype=np.int64))


Curves = dict[str, NDArray[np.float64]]  # by kind of population


def curves(model: Scorer, populations: dict[str, list[Population]], rules: tuple[Rule, ...]) -> dict[Rule, Curves]:
    found: dict[Rule, Curves] = {rule: {} for rule in rules}
    for name, drawn in populations.items():
        linked = [(part, pipeline.link(model, part.faces.features, part.lists)) for part in drawn]
        for rule in rules:
            found[rule][name] = np.mean([part.curve(linkages, rule) for part, linkages in linked], axis=0)
    return found


def choose(rule: Rule, curves: Curves, floor: float = 0.0, odds: float = 0.0) -> Choice:
    """The highest threshold whose mean over the kinds of population is within CAUTION of the best.

    Why not the best itself: collections grow beyond any validation set, more strangers come near, and the best
    threshold rises with them; and a merge too many joins two people, while one too few is often made up for later.
    The mean is smoothed over the neighbouring thresholds, for a narrow peak on validation is luck.

    `floor` is where the linkages of strangers lie, from which hysteresis counts. With `odds` given the threshold is the
    best, but none below that share of the evidence of two lone faces that are surely one person: of collections of many
    kinds, what is caution for one tears the people of another apart.
    """
    mean = np.mean(list(curves.values()), axis=0)
    padded = np.pad(mean, 2, mode="edge")
    smooth = np.convolve(padded, np.ones(5) / 5, mode="valid")
    best = int(smooth.argmax())
    cautious = int(np.flatnonzero(smooth >= smooth[best] - CAUTION * (1 - smooth[best])).max())
    least = int(np.searchsorted(THRESHOLDS, odds / max(1, rule.per_face)))
    chosen = max(best, least) if odds else cautious
    threshold = float(THRESHOLDS[chosen])
    return Choice(
        merging=Merging(rule, threshold, threshold_off=round(floor + HYSTERESIS * (threshold - floor), 3)),
        goodness=float(smooth[best]),
        bcubed={name: float(values[chosen]) for name, values in curves.items()},
    )
