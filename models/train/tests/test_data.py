"""Files are read as they are, and the halves share no identity and never change."""

from pathlib import Path

import numpy as np
import pytest

from facetd_train import data
from facetd_train.data import Faces


def test_what_is_written_is_read(people: Faces, tmp_path: Path) -> None:
    data.write(people, tmp_path / "deep" / "people")
    back = data.read(tmp_path / "deep" / "people.bin", tmp_path / "deep" / "people.meta", 16)
    np.testing.assert_allclose(back.features, people.features, atol=1e-6)
    np.testing.assert_array_equal(back.identities, people.identities)


def test_rows_are_normalised(tmp_path: Path) -> None:
    np.array([[3, 4], [0, 2]], dtype="<f4").tofile(tmp_path / "f.bin")
    (tmp_path / "f.meta").write_text("1\n2\n")
    np.testing.assert_allclose(data.read(tmp_path / "f.bin", tmp_path / "f.meta", 2).features, [[0.6, 0.8], [0, 1]])


def test_a_wrong_dimension_is_said(people: Faces, tmp_path: Path) -> None:
    data.write(people, tmp_path / "people")
    with pytest.raises(SystemExit, match="--dimension"):
        data.read(tmp_path / "people.bin", tmp_path / "people.meta", 17)


def test_the_shuffle_is_the_documented_one() -> None:
    # printf 0:0 | sha256sum begins ac72; 0:1 ef13; 0:2 9328; 0:3 76d3; 0:4 48f0
    assert data.shuffled(range(5), 0).tolist() == [4, 3, 2, 0, 1]
    assert [half.tolist() for half in data.split_identities(np.arange(5), 0)] == [[4, 2, 1], [3, 0]]


def test_halves_share_no_identity(people: Faces) -> None:
    train, test = data.split(people, 0)
    assert not set(train.identities) & set(test.identities)
    assert len(train) + len(test) == len(people)
    assert len(np.unique(train.identities)) == len(np.unique(test.identities)) == 50


def test_the_split_depends_on_the_seed_and_not_on_the_order(people: Faces) -> None:
    halves = [set(half) for half in data.split_identities(people.identities, 0)]
    assert halves == [set(half) for half in data.split_identities(people.identities[::-1], 0)]
    assert halves != [set(half) for half in data.split_identities(people.identities, 1)]
    once, again = data.split(people, 0)[1], data.split(people, 0)[1]
    np.testing.assert_array_equal(once.features, again.features)


def test_the_split_shuffles_rows_and_keeps_faces_with_their_labels(people: Faces) -> None:
    ordered = people.rows(np.argsort(people.identities))
    _, test = data.split(ordered, 0)
    assert (np.diff(test.identities) < 0).any()
    for feature, identity in zip(test.features[:20], test.identities[:20], strict=True):
        row = np.flatnonzero((people.features == feature).all(axis=1))
        assert people.identities[row] == identity


def test_validation_is_held_out_of_the_training_half(people: Faces) -> None:
    train, held_out = data.hold_out(people, 0.2, 0)
    assert not set(train.identities) & set(held_out.identities)
    assert len(np.unique(held_out.identities)) == 20


def test_npy_is_read_as_bin_is(people: Faces, tmp_path: Path) -> None:
    data.write(people, tmp_path / "p")
    np.save(tmp_path / "p.npy", people.features.astype(np.float64))
    back = data.read(tmp_path / "p.npy", tmp_path / "p.meta", 16)
    np.testing.assert_allclose(back.features, people.features, atol=1e-6)
    with pytest.raises(SystemExit, match=r"p\.npy has rows of 16, not of 8"):
        data.read(tmp_path / "p.npy", tmp_path / "p.meta", 8)


def test_what_is_wrong_is_said_with_file_and_row(people: Faces, tmp_path: Path) -> None:
    features, labels = tmp_path / "p.bin", tmp_path / "p.meta"

    def refused(said: str) -> None:
        with pytest.raises(SystemExit, match=said):
            data.read(features, labels, 16)

    refused(r"p\.meta: No such file")
    data.write(people, tmp_path / "p")
    labels.write_text("1\n" * 399)
    refused(r"p\.bin has 400 rows of 16, but .*p\.meta has 399 labels")
    labels.write_text("1\n" * 400)
    refused(r"p\.meta: every row has the label 1")
    labels.write_text("1\n2\nthree\n4\n")
    refused(r"p\.meta: row 2 is 'three'")
    data.write(people, tmp_path / "p")
    spoilt = people.features.copy()
    spoilt[7, 3] = np.nan
    spoilt.tofile(features)
    refused(r"p\.bin: row 7 has a value that is not a finite number$")
    spoilt[9, 0] = np.inf
    spoilt.tofile(features)
    refused(r"row 7 .* as have 1 more")
    (tmp_path / "x.npy").write_text("no")
    features = tmp_path / "x.npy"
    refused(r"x\.npy is not an \.npy$")


def test_neighbours_of_learn_to_cluster(tmp_path: Path) -> None:
    file = tmp_path / "knn.npz"
    rows = [[0, 1, 2], [1, 0, 2], [0, 1, 2]]  # the last is found behind others as near
    distances = [[0, 0.1, 0.2], [0, 0.1, 0.3], [0, 0, 0]]
    table = np.array([rows, distances], dtype=np.float32).transpose(1, 0, 2)
    np.savez_compressed(file, data=table)
    found, cosines = data.read_neighbours(file, 3)
    assert found.tolist() == [[1, 2], [0, 2], [0, 1]]
    np.testing.assert_allclose(cosines, [[0.9, 0.8], [0.9, 0.7], [1, 1]])


def test_neighbours_of_another_layout_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "knn.npz"

    def refused(said: str, **arrays: np.ndarray) -> None:
        np.savez(file, **arrays)
        with pytest.raises(SystemExit, match=said):
            data.read_neighbours(file, 3)

    refused("array called data", other=np.zeros((3, 2, 4)))
    refused(r"of shape \(3, 4\)", data=np.zeros((3, 4)))
    refused("nobody but the face", data=np.zeros((3, 2, 1)))
    refused("of 5 faces, but there are 3", data=np.zeros((5, 2, 4)))
    bad = np.zeros((3, 2, 4))
    bad[1, 0, 2] = 3
    refused(r"knn\.npz: row 1 names", data=bad)
    file.write_text("no")
    with pytest.raises(SystemExit, match=r"is not an \.npz"):
        data.read_neighbours(file, 3)


def test_a_row_without_a_direction_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "f.npy", [[3.0, 4.0], [0.0, 0.0]])
    with pytest.raises(SystemExit, match=r"f\.npy: row 1 has length zero"):
        data.read_features(tmp_path / "f.npy", None)
