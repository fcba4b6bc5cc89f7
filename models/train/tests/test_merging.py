"""Scores have known values, and clusters are the components of links."""

import numpy as np
import pytest

from facetd_train.merging import Linkages, score

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


def test_clusters_are_components_of_links_above_the_threshold() -> None:
    linkages = Linkages(
        faces=6,
        query=np.array([0, 2, 3, 4, 1]),
        candidate=np.array([1, 1, 4, 3, 5]),
        linkage=np.array([0.9, 0.7, 0.4, 0.8, 0.5], dtype=np.float32),
    )
    labels = linkages.clusters(0.5)
    assert labels[0] == labels[1] == labels[2]  # through 1, in either direction
    assert labels[3] == labels[4]  # the larger of both directions
    assert len({labels[0], labels[3], labels[5]}) == 3  # 0.5 is not above 0.5
    assert len(set(linkages.clusters(0.95))) == 6
