"""Of someone's own faces the files say enough; and what cannot be learnt from is refused before it takes time."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from facetd_train import data
from facetd_train.data import Faces, Lists
from facetd_train.validation import Validation


def test_the_dimension_comes_from_the_file(people: Faces, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data.write(people, tmp_path / "p")
    np.save(tmp_path / "p.npy", people.features)
    assert data.read(tmp_path / "p.npy", tmp_path / "p.meta").dimension == 16
    assert not capsys.readouterr().err
    assert data.read(tmp_path / "p.bin", tmp_path / "p.meta").dimension == 16
    assert "p.bin: 16 numbers a face" in capsys.readouterr().err


@pytest.mark.parametrize("labels", ["", "1\n2\n" * 199])
def test_labels_that_do_not_divide_a_bin_are_refused(people: Faces, tmp_path: Path, labels: str) -> None:
    data.write(people, tmp_path / "p")
    (tmp_path / "p.meta").write_text(labels)
    with pytest.raises(SystemExit, match=r"p\.bin holds 25600 bytes, not .* each of the \d+ labels .* --dimension"):
        data.read(tmp_path / "p.bin", tmp_path / "p.meta")


def test_too_few_faces_or_identities_are_refused(people: Faces) -> None:
    data.enough(people, 399, "p.bin")
    with pytest.raises(SystemExit, match=r"p\.bin has 400 faces; 400 neighbours need 401 at least"):
        data.enough(people, 400, "p.bin")
    with pytest.raises(SystemExit, match=r"p\.bin has 1 identity"):
        data.enough(people.of(np.array([5])), 2, "p.bin")
    with pytest.raises(SystemExit, match=r"p\.bin has 0 identities"):
        data.enough(people.rows(np.arange(0)), 2, "p.bin")


def test_lists_follow_their_faces(people: Faces) -> None:
    """Whatever part is taken, and in whatever order, a list names the same faces, less those that are gone."""
    everyone = with_lists(people, 30)
    chosen = np.random.default_rng(1).permutation(400)[:150]
    part = everyone.rows(chosen)
    for row, face in enumerate(chosen.tolist()):
        there = part.near.rows[row] >= 0
        np.testing.assert_array_equal(there, np.isin(everyone.near.rows[face], chosen))
        np.testing.assert_array_equal(chosen[part.near.rows[row][there]], everyone.near.rows[face][there])
    again = everyone.rows(np.isin(np.arange(400), chosen)).rows(np.arange(10)).near
    np.testing.assert_array_equal(again.rows, everyone.rows(np.sort(chosen)[:10]).near.rows)


def with_lists(faces: Faces, count: int) -> Faces:
    cosine: NDArray[np.float32] = faces.features @ faces.features.T
    np.fill_diagonal(cosine, -2)
    rows = np.argsort(-cosine, axis=1)[:, :count]
    return Faces(faces.features, faces.identities, Lists(rows, np.take_along_axis(cosine, rows, 1)))


def test_at_most_takes_whole_identities(people: Faces) -> None:
    assert data.at_most(people, 400, 0) is people
    some = data.at_most(people, 101, 0)
    assert len(some) == 100
    assert all((people.identities == identity).sum() == 4 for identity in np.unique(some.identities))
    assert set(some.identities) != set(data.at_most(people, 101, 1).identities)


def test_validation_of_many_faces_scores_a_part(people: Faces, monkeypatch: pytest.MonkeyPatch) -> None:
    held_out, train = people.of(np.arange(30)), people.of(np.arange(30, 100))
    monkeypatch.setattr("facetd_train.validation.SCORED", 60)
    monkeypatch.setattr("facetd_train.validation.CROWD", 100)
    validation = Validation(held_out, train, 0)
    assert len(validation.faces) == len(validation.populations["1.0"][0].faces) == 60
    assert validation.crowd.scored.sum() == 60
    assert len(validation.crowd.faces) == 100
