"""The merging is chosen on all kinds of populations, with care, and between the rules."""

from dataclasses import replace

import numpy as np
import pytest

from facetd_train import data, validation
from facetd_train.data import Faces
from facetd_train.merging import SINGLE
from facetd_train.model import FaceTransformer
from facetd_train.validation import EVIDENCE, NOISE, THRESHOLDS, Choice, Validation, choose


def test_the_threshold_is_the_highest_that_is_nearly_best_on_the_mean() -> None:
    choice = choose(SINGLE, {"a": 1 - (THRESHOLDS - 0.4) ** 2, "b": 0.9 - (THRESHOLDS - 0.6) ** 2})
    # The mean is 0.94 - (t - 0.5)²: 0.5 is best, and 0.055 above it costs 0.003, a twentieth of 0.06.
    assert choice.merging.threshold == pytest.approx(0.55)
    assert choice.merging.threshold_off == pytest.approx(0.495)
    assert choice.goodness == pytest.approx(0.94, abs=1e-3)
    assert choice.bcubed["a"] == pytest.approx(1 - 0.15**2)


def test_no_threshold_is_below_the_odds() -> None:
    low = {"a": 1 - (THRESHOLDS - 0.1) ** 2}
    assert choose(SINGLE, low, odds=0.5).merging.threshold == pytest.approx(0.5)
    assert choose(EVIDENCE[1], low, odds=0.5).merging.threshold == pytest.approx(0.25)
    high = {"a": 1 - (THRESHOLDS - 0.8) ** 2}
    assert choose(SINGLE, high, odds=0.5).merging.threshold == pytest.approx(0.8, abs=0.01), "nor above the best"


def test_a_plateau_wins_over_a_spike() -> None:
    plateau = np.where(np.abs(THRESHOLDS - 0.3) < 0.041, 0.8, 0.5)
    spike = np.where(np.abs(THRESHOLDS - 0.8) < 0.001, 0.46, 0.0)
    assert choose(SINGLE, {"a": plateau + spike}).merging.threshold == pytest.approx(0.33)


def test_hysteresis_counts_from_where_strangers_are() -> None:
    merging = choose(SINGLE, {"a": 1 - (THRESHOLDS - 0.8) ** 2}, floor=0.5).merging
    assert merging.threshold == pytest.approx(0.8, abs=0.01)
    assert merging.threshold_off == pytest.approx(0.5 + 0.9 * (merging.threshold - 0.5), abs=1e-3)


def test_strangers_stand_in_the_crowd_and_are_not_scored(people: Faces) -> None:
    held_out, train = people.of(np.arange(30)), people.of(np.arange(30, 100))
    crowd = Validation(held_out, train, 0).crowd
    assert len(crowd.faces) == len(people)
    assert set(crowd.faces.identities[crowd.scored]) == set(range(30))
    assert set(crowd.faces.identities[~crowd.scored]) == set(range(30, 100))


def test_of_many_strangers_the_nearest_people_stand_there_whole(people: Faces) -> None:
    held_out, strangers = people.of(np.arange(30)), people.of(np.arange(30, 100))
    assert validation.nearest_people(strangers, held_out, 280) is strangers
    few = validation.nearest_people(strangers, held_out, 101)
    assert len(few) == 100
    near = {name: (strangers.of(np.array([name])).features @ held_out.features.T).max() for name in range(30, 100)}
    assert set(few.identities) == set(sorted(near, key=near.__getitem__, reverse=True)[:25])


def test_a_part_of_many_people_is_as_dense_as_all_of_them(people: Faces) -> None:
    assert validation.dense_part(people, 400, 0) is people
    part = validation.dense_part(people, 100, 0)
    assert len(part) == 100
    assert all((people.identities == name).sum() == 4 for name in np.unique(part.identities))
    nearest = lambda faces: np.sort(faces.features @ faces.features.T, axis=1)[:, -5].mean()  # noqa: E731
    assert nearest(part) > nearest(data.at_most(people, 100, 0))


@pytest.mark.parametrize(
    ("lead", "odds", "shipped"),
    [
        (0.0, 0.0, "evidence"),
        (0.9 * NOISE, 0.0, "evidence"),
        (1.1 * NOISE, 0.0, "single"),
        (1.1 * NOISE, 0.4, "evidence"),
    ],
)
def test_single_ships_only_without_odds_and_when_it_is_better_by_more_than_noise(
    lead: float, odds: float, shipped: str, model: FaceTransformer, people: Faces, monkeypatch: pytest.MonkeyPatch
) -> None:
    def judged(rule: object, *_: object) -> Choice:
        # Of the evidence rules the last is best, but not by more than noise than the second.
        goodness = {SINGLE: 0.8 + lead, EVIDENCE[1]: 0.8, EVIDENCE[2]: 0.8 + NOISE / 2}.get(rule, 0.7)
        return Choice(replace(MERGING, rule=rule), goodness, {})

    monkeypatch.setattr(validation, "choose", judged)
    held_out, others = people.of(np.arange(30)), people.of(np.arange(30, 50))
    choices = Validation(held_out, others, 0, odds=odds).thorough(model)
    assert choices[0].merging.rule.name == shipped
    assert {choice.merging.rule for choice in choices} == {SINGLE, EVIDENCE[1]}


MERGING = choose(SINGLE, {"a": np.ones(len(THRESHOLDS))}).merging
