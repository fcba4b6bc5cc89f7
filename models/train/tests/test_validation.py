"""The merging is chosen on all kinds of populations, with care, and between the rules."""

from dataclasses import replace

import numpy as np
import pytest

from facetd_train import validation
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


@pytest.mark.parametrize(("lead", "shipped"), [(0.0, "evidence"), (0.9 * NOISE, "evidence"), (1.1 * NOISE, "single")])
def test_single_ships_only_when_it_is_better_by_more_than_noise(
    lead: float, shipped: str, model: FaceTransformer, people: Faces, monkeypatch: pytest.MonkeyPatch
) -> None:
    def judged(rule: object, *_: object) -> Choice:
        # Of the evidence rules the last is best, but not by more than noise than the second.
        goodness = {SINGLE: 0.8 + lead, EVIDENCE[1]: 0.8, EVIDENCE[2]: 0.8 + NOISE / 2}.get(rule, 0.7)
        return Choice(replace(MERGING, rule=rule), goodness, {})

    monkeypatch.setattr(validation, "choose", judged)
    choices = Validation(people.of(np.arange(30)), people.of(np.arange(30, 50)), 0).thorough(model)
    assert choices[0].merging.rule.name == shipped
    assert {choice.merging.rule for choice in choices} == {SINGLE, EVIDENCE[1]}


MERGING = choose(SINGLE, {"a": np.ones(len(THRESHOLDS))}).merging
