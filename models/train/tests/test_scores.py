"""Scores have known values."""

import numpy as np
import pytest

from facetd_train.scores import score

TRUTH = np.array([0, 0, 0, 0, 1, 1, 1, 2, 2, 3, 4, 4, 4, 4, 4, 5])
PREDICTED = np.array([7, 7, 7, 2, 2, 2, 2, 5, 6, 8, 9, 9, 9, 7, 1, 1])


def test_golden_scores() -> None:
    got = score(TRUTH, PREDICTED)
    assert got.pairwise_precision == pytest.approx(0.5625)
    assert got.pairwise_recall == pytest.approx(0.45)
    assert got.pairwise_f == pytest.approx(0.5)
    assert got.bcubed_precision == pytest.approx(0.75)
    assert got.bcubed_recall == pytest.approx(0.66875)
    assert got.bcubed_f == pytest.approx(0.707048458150)
    assert got.nmi == pytest.approx(0.739746315520)


def test_names_of_clusters_do_not_matter() -> None:
    assert score(TRUTH, TRUTH * 31 - 5).bcubed_f == pytest.approx(1)
    assert score(TRUTH, TRUTH * 31 - 5).nmi == pytest.approx(1)


def test_extremes_stay_finite() -> None:
    everyone_apart, everyone_together = np.arange(16), np.zeros(16, dtype=np.int64)
    assert score(TRUTH, everyone_apart).pairwise_recall == 0
    assert score(TRUTH, everyone_together).nmi == 1.0
    assert score(TRUTH, everyone_together).bcubed_recall == pytest.approx(1)
