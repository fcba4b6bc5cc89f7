"""Merging is the rules of DESIGN.md, and one run down to a low threshold holds the clusters of all above it."""

import numpy as np
import pytest

from brute_force import Case, partition, random_case
from facetd_train.merging import SINGLE, Linkages, Merging, Rule, fixed_threshold

EVIDENCE = Rule("evidence", per_face=2, cap=16)


def linkages(faces: int, scored: dict[tuple[int, int], float]) -> Linkages:
    ends = np.array(list(scored), dtype=np.int64).reshape(-1, 2)
    return Linkages(faces, ends[:, 0], ends[:, 1], np.array(list(scored.values()), dtype=np.float32))


def rule_of(case: Case) -> Rule:
    return SINGLE if case.rule == "single" else Rule("evidence", case.per_face, case.cap)


def test_single_makes_the_components_of_links() -> None:
    scored = {(0, 1): 0.9, (2, 1): 0.7, (3, 4): 0.4, (4, 3): 0.8, (1, 5): 0.5}
    labels = linkages(6, scored).clusters(Merging(SINGLE, 0.5, 0.5))
    assert labels[0] == labels[1] == labels[2]  # through 1, in either direction
    assert labels[3] == labels[4]  # the larger of both directions
    assert len({labels[0], labels[3], labels[5]}) == 3  # 0.5 is not above 0.5
    assert len(set(linkages(6, scored).clusters(Merging(SINGLE, 0.95, 0.95)))) == 6


def test_one_link_does_not_join_two_crowds_under_evidence() -> None:
    friends = {(a, b): 0.9 for crowd in (range(4), range(4, 8)) for a in crowd for b in crowd if a != b}
    scored = friends | {(3, 4): 0.75, (4, 3): 0.75}
    assert len(set(linkages(8, scored).clusters(Merging(SINGLE, 0.3, 0.3)))) == 1
    assert linkages(8, scored).clusters(Merging(EVIDENCE, 0.3, 0.3)).tolist() == [0] * 4 + [4] * 4
    # The only pair between them, of 4 faces each: 0.75 / min(16, 2 * 4).
    assert len(set(linkages(8, scored).clusters(Merging(EVIDENCE, 0.093, 0.093)))) == 1
    assert len(set(linkages(8, scored).clusters(Merging(EVIDENCE, 0.09375, 0.09375)))) == 2


def test_a_direction_that_was_not_scored_counts_nothing() -> None:
    assert linkages(2, {(1, 0): 0.5}).pairs(EVIDENCE).weight.tolist() == [2**30]
    assert linkages(2, {(1, 0): 0.5, (0, 1): 0.25}).pairs(EVIDENCE).weight.tolist() == [3 * 2**29]
    assert linkages(2, {(1, 0): 0.5, (0, 1): 0.25}).pairs(SINGLE).weight.tolist() == [2**31]


def test_halves_are_rounded_up() -> None:
    weights = [linkages(2, {(0, 1): units / 2**31}).pairs(EVIDENCE).weight[0] for units in (0.49, 0.5, 1.5, 2.5)]
    assert weights == [0, 1, 2, 3]
    assert fixed_threshold(0.1) == 429496736  # of the f32 nearest to 0.1, which is above it


@pytest.mark.parametrize("seed", range(100))
def test_merging_is_brute_force(seed: int) -> None:
    case = random_case(seed, constrained=False)
    labels = linkages(case.faces, case.linkages).clusters(Merging(rule_of(case), case.threshold, case.threshold))
    assert partition(labels.tolist()) == case.merge()


@pytest.mark.parametrize("seed", range(0, 200, 10))
def test_the_order_of_linkages_does_not_matter(seed: int) -> None:
    case = random_case(seed, constrained=False)
    ends = list(case.linkages)
    shuffled = {ends[place]: case.linkages[ends[place]] for place in np.random.default_rng(seed).permutation(len(ends))}
    merging = Merging(rule_of(case), case.threshold, case.threshold)
    once, again = (linkages(case.faces, scored).clusters(merging) for scored in (case.linkages, shuffled))
    assert (once == again).all()


@pytest.mark.parametrize("seed", range(0, 200, 5))
def test_a_run_to_a_low_threshold_holds_the_clusters_of_every_higher_one(seed: int) -> None:
    case = random_case(seed, constrained=False)
    found = linkages(case.faces, case.linkages)
    low = found.merges(rule_of(case), 0.01)
    for threshold in (0.01, 0.05, 0.1, 0.125, 0.2, 0.25, 0.5, 0.75, 1.0):
        assert (low.clusters(threshold) == found.merges(rule_of(case), threshold).clusters(threshold)).all()


def test_faces_without_linkages_stay_alone() -> None:
    for rule in (SINGLE, EVIDENCE):
        assert linkages(3, {}).clusters(Merging(rule, 0.1, 0.1)).tolist() == [0, 1, 2]
        assert linkages(0, {}).clusters(Merging(rule, 0.1, 0.1)).tolist() == []
