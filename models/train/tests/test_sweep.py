"""A sweep alters one thing at a time and does nothing twice."""

from dataclasses import fields, replace
from pathlib import Path

import pytest

from facetd_train import data
from facetd_train.data import Faces
from facetd_train.fitting import Trained, fit
from facetd_train.fixtures import TINY
from facetd_train.model import Architecture
from facetd_train.stage import Stage
from facetd_train.sweep import architectures, sweep
from facetd_train.training import Plan

PLAN = Plan(epochs=1, queries=128, learning_rate=0.003, warm_up=2, neighbours=64, validation=0.3, checks=1, seed=5)

ASKED = {"seed": 5}


def test_around_the_paper_s_sizes_it_has_the_rows_of_table_6() -> None:
    names = [f"{altered} {value}" for altered, value in architectures(Architecture())]
    assert names[:4] == [" ", "stage naive", "stage only RE", "stage only LP"]
    sizes = "d_e 1, d_e 4, n_h 2, n_h 8, d_h 32, d_h 128, dr 0.2, dr 0.6, hop2 10, hop2 20, hop1 120, hop1 180"
    assert ", ".join(names[4:]) == sizes


def test_a_row_differs_in_one_thing() -> None:
    default = replace(TINY, hop1=24)
    for (altered, _), architecture in architectures(default).items():
        different = [f.name for f in fields(default) if getattr(default, f.name) != getattr(architecture, f.name)]
        assert len(different) == (altered != "")


def test_an_interrupted_sweep_goes_on(people: Faces, tmp_path: Path) -> None:
    train, held_out = data.hold_out(people, 0.3, 0)
    fitted: list[Architecture] = []

    def one(architecture: Architecture) -> Trained:
        if len(fitted) == 3:
            raise KeyboardInterrupt
        fitted.append(architecture)
        return fit(train, held_out, replace(architecture, heads=2, head_dimension=8, depth=1), PLAN)

    with pytest.raises(KeyboardInterrupt):
        sweep(TINY, one, held_out, tmp_path, ASKED)
    lines = (tmp_path / "sweep.md").read_text().splitlines()
    assert [line.split(" | ")[0] for line in lines[2:]] == ["| default", "| stage", "| stage"]
    assert [architecture.stage for architecture in fitted] == [Stage.RE_LP, Stage.NAIVE, Stage.ONLY_RE]
    fitted.clear()
    with pytest.raises(KeyboardInterrupt):
        sweep(TINY, one, held_out, tmp_path, ASKED)
    assert fitted[0].stage == Stage.ONLY_LP
    with pytest.raises(SystemExit, match="another sweep"):
        sweep(replace(TINY, depth=3), one, held_out, tmp_path, ASKED)
    with pytest.raises(SystemExit, match="another sweep"):
        sweep(TINY, one, held_out, tmp_path, {"seed": 6})
