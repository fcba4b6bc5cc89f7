"""The card says what its figures do not hold for."""

from dataclasses import replace

from facetd_train.card import card
from facetd_train.fixtures import MERGING, about
from facetd_train.model import Architecture
from facetd_train.stage import Stage


def written(**known: int) -> str:
    architecture = Architecture(dimension=16)
    return card(replace(about(architecture), **known), architecture, {Stage.RE_LP: MERGING}, ())


def test_how_large_a_person_it_knows_is_said() -> None:
    assert "Nobody it saw had more than 1,234 faces." in written(largest=1234)
    assert "Nobody it saw" not in written()  # a checkpoint of before does not know


def test_what_few_people_chose_is_called_luck() -> None:
    assert "29 people are too few to tell" in written(validation_people=29)
    assert "too few to tell" not in written(validation_people=30)
