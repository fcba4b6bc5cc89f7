"""A file of neighbours that holds enough trains the very model that a search does."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from facetd_train import data
from facetd_train.data import Faces
from facetd_train.edges import NAMES
from facetd_train.fitting import Trained, fit
from facetd_train.fixtures import TINY
from facetd_train.model import FACETD
from facetd_train.neighbours import nearest, within
from facetd_train.training import Plan
from test_fit_data import with_lists

SIZES = replace(TINY, kind=FACETD, edges=NAMES)
PLAN = Plan(
    **{"epochs": 1, "queries": 64, "warm_up": 2, "neighbours": 64, "validation": 0.3, "checks": 1, "populations": 3},
    judge_steps=20,
)


pytestmark = pytest.mark.usefixtures("few_thresholds")


def trained_on(faces: Faces) -> Trained:
    train, held_out = data.hold_out(faces, PLAN.validation, 0)
    return fit(train, held_out, SIZES, PLAN)


def test_lists_of_everyone_train_what_a_search_does(people: Faces, capsys: pytest.CaptureFixture[str]) -> None:
    searched, listed = trained_on(people), trained_on(with_lists(people, 399))
    assert "warning" not in capsys.readouterr().err
    for one, other in zip(searched.model.parameters(), listed.model.parameters(), strict=True):
        assert torch.equal(one, other)
    assert listed.choices == searched.choices
    assert listed.neighbour_similarity == pytest.approx(searched.neighbour_similarity)


def test_short_lists_train_with_a_warning(people: Faces, capsys: pytest.CaptureFixture[str]) -> None:
    assert trained_on(with_lists(people, 40)).history
    assert "warning: of the neighbours in the file 28 a face" in capsys.readouterr().err


def test_lists_end_where_the_file_does(people: Faces) -> None:
    part = with_lists(people, 10).rows(np.arange(0, 400, 2))
    long, cosines = nearest(part, 64)
    assert long.shape == cosines.shape == (200, 10)
    there = long >= 0
    assert (there[:, :-1] >= there[:, 1:]).all()  # nobody only after the last
    torch.testing.assert_close(
        cosines[there],
        (torch.from_numpy(part.features) @ torch.from_numpy(part.features).T).gather(1, long * there)[there],
    )
    near = within(long, torch.ones(200, dtype=torch.bool), 5)
    assert (near.mask.sum(1) == there.sum(1).clamp(max=5)).all()
