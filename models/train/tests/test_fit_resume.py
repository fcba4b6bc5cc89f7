"""A fit that was cut off goes on to the very model it would have become; and one that gains nothing stops."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest
import torch

from facetd_train import cross_fitting, data, fitting
from facetd_train.data import Faces
from facetd_train.edges import NAMES
from facetd_train.fitting import Trained, fit
from facetd_train.fixtures import TINY
from facetd_train.keeping import NOTHING, Keep
from facetd_train.model import FACETD
from facetd_train.training import Plan
from facetd_train.validation import Choice, Validation

SIZES = replace(TINY, kind=FACETD, edges=NAMES, dropout=0.2)  # dropout draws from torch's own generator
PLAN = Plan(
    **{"epochs": 4, "queries": 64, "learning_rate": 0.003, "warm_up": 3, "neighbours": 64, "validation": 0.3},
    **{"checks": 4, "seed": 5, "populations": 3, "judge_steps": 20},
)


pytestmark = pytest.mark.usefixtures("few_thresholds")


def run(people: Faces, keep: Keep = NOTHING, plan: Plan = PLAN) -> Trained:
    train, held_out = data.hold_out(people, plan.validation, 0)
    return fit(train, held_out, SIZES, plan, keep=keep)


@pytest.fixture(scope="module")
def uninterrupted(people: Faces, few_thresholds: None) -> Trained:
    return run(people)


def cut_off(monkeypatch: pytest.MonkeyPatch, where: object, name: str, at: int) -> None:
    """The call of that number is interrupted, before it does anything."""
    calls, original = count(1), getattr(where, name)

    def interrupted(*arguments: object, **named: object) -> object:
        if next(calls) == at:
            raise KeyboardInterrupt
        return original(*arguments, **named)

    monkeypatch.setattr(where, name, interrupted)


@pytest.mark.parametrize(
    ("where", "name", "at"),
    [
        (Validation, "quick", 1),  # before anything was kept
        (Validation, "quick", 4),  # at the third check of four
        (cross_fitting, "examples", 2),  # in the second part
        (Validation, "thorough", 1),
    ],
)
def test_what_was_cut_off_goes_on(
    people: Faces,
    uninterrupted: Trained,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    where: object,
    name: str,
    at: int,
) -> None:
    keep = Keep(tmp_path, {})
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        cut_off(patch, where, name, at)
        run(people, keep)
    torch.manual_seed(99)  # another process begins elsewhere
    trained = run(people, keep)
    for one, other in zip(trained.model.parameters(), uninterrupted.model.parameters(), strict=True):
        assert torch.equal(one, other)
    assert trained.history == uninterrupted.history
    assert trained.choices == uninterrupted.choices
    assert trained.epochs == uninterrupted.epochs


def test_finished_steps_and_parts_are_not_done_again(
    people: Faces, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep = Keep(tmp_path, {})
    run(people, keep)
    monkeypatch.setattr("facetd_train.training.step_loss", None)  # whoever takes a step fails
    run(people, keep)
    keep.clear()
    assert not list(tmp_path.iterdir())


def test_another_fit_does_not_go_on(tmp_path: Path) -> None:
    Keep(tmp_path, {"epochs": 6, "seed": 0}).save("training", {"step": 1})
    assert Keep(tmp_path, {"seed": 0, "epochs": 6}).load("training") == {"step": 1}
    with pytest.raises(SystemExit, match=r"training\.unfinished is of another fit: epochs was 6, now 8\. "):
        Keep(tmp_path, {"epochs": 8, "seed": 0}).load("training")


def test_a_damaged_state_is_said(tmp_path: Path) -> None:
    keep = Keep(tmp_path, {})
    keep.save("training", {"step": 1})
    file = next(tmp_path.iterdir())
    for content in (b"", b"no", file.read_bytes()[:100]):
        file.write_bytes(content)
        with pytest.raises(SystemExit, match=r"training\.unfinished is damaged: remove it"):
            keep.load("training")


def test_a_write_that_is_cut_off_leaves_the_state_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keep = Keep(tmp_path, {})
    keep.save("training", {"step": 1})

    def half(_: object, file: Path) -> None:
        file.write_bytes(b"half")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(torch, "save", half)
        keep.save("training", {"step": 2})
    assert keep.load("training") == {"step": 1}


def judged(*goodness: float) -> Callable[[Validation, object], Choice]:
    """A validation that says these one after the other, then the last for ever."""
    said: Iterator[float] = iter(goodness)
    quick = Validation.quick

    def judge(self: Validation, model: object) -> Choice:
        return replace(quick(self, model), goodness=next(said, goodness[-1]))

    return judge


def test_training_stops_when_validation_no_longer_improves(
    people: Faces, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(fitting.Validation, "quick", judged(0.5, 0.6, 0.4, 0.55))
    keep, plan = Keep(tmp_path, {}), replace(PLAN, patience=2, epochs=8, checks=8)
    trained = run(people, keep, plan)
    assert "stopped: no better for 2 checks than at epoch 1.0" in capsys.readouterr().err
    assert [each.goodness for each in trained.history] == [0.6, 0.4, 0.55]
    assert trained.epochs == 1
    assert run(people, keep, plan).history == trained.history  # going on does not start it again


def test_history_has_each_check(uninterrupted: Trained) -> None:
    steps = [each.step for each in uninterrupted.history]
    assert steps == [4, 8, 12, 16]
    assert [each.epoch for each in uninterrupted.history] == [1, 2, 3, 4]
    assert uninterrupted.history[-1].loss < uninterrupted.history[0].loss
