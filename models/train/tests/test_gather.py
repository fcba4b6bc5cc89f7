"""A folder for each person becomes what fit reads, or it is said which file does not."""

import os
from pathlib import Path

import numpy as np
import pytest

from facetd_train import data
from facetd_train.gather import gather


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for person, shapes in {"bo": [(4,), (2, 4)], "al": [(4,)], "cy": [(1, 4)]}.items():
        (tmp_path / "people" / person).mkdir(parents=True)
        for number, shape in enumerate(shapes):
            np.save(tmp_path / "people" / person / f"{number}.npy", np.random.default_rng(number).normal(size=shape))
    (tmp_path / "people" / "notes.txt").write_text("not a person")
    return tmp_path / "people"


def test_rows_labels_and_names_agree(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gather(folder, tmp_path / "out")
    faces = data.read(tmp_path / "out" / "features.npy", tmp_path / "out" / "labels.meta")
    assert faces.identities.tolist() == [0, 1, 1, 1, 2]
    assert (tmp_path / "out" / "names.txt").read_text().split() == ["al", "bo", "cy"]
    second = np.load(folder / "bo" / "1.npy")
    np.testing.assert_allclose(faces.features[2:4], data.normalise(second.astype(np.float32)), atol=1e-6)
    assert "5 faces of 3 people, 4 wide" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("spoilt", "said"),
    [
        (
            lambda folder: np.save(folder / "bo" / "2.npy", np.zeros(5)),
            r"bo/2\.npy holds .*\(1, 5\), not of \[4\] or \[n, 4\], as in .*al/0\.npy",
        ),
        (lambda folder: np.save(folder / "cy" / "1.npy", np.zeros((0, 4))), r"cy/1\.npy holds no embedding"),
        (lambda folder: np.save(folder / "bo" / "2.npy", np.zeros((1, 2, 4))), r"bo/2\.npy holds .*\(1, 2, 4\)"),
        (lambda folder: np.save(folder / "cy" / "0.npy", np.full((2, 4), np.nan)), r"cy/0\.npy: row 0 has a value"),
        (lambda folder: (folder / "cy" / "0.npy").write_text("x"), r"cy/0\.npy is not an \.npy"),
        (lambda folder: (folder / "cy" / "0.npy").write_bytes(b""), r"cy/0\.npy is empty"),
        (lambda folder: shorten(folder / "cy" / "0.npy"), r"cy/0\.npy holds less than its head says"),
        (lambda folder: np.save(folder / "cy" / "0.npy", np.array([{}, None])), r"cy/0\.npy holds objects of Python"),
        (lambda folder: np.savez((folder / "cy" / "0.npy").open("wb"), np.zeros(4)), r"cy/0\.npy is an \.npz"),
        (lambda folder: (folder / "dee").mkdir(), r"dee holds no \.npy file: give"),
        (lambda folder: in_its_own(folder / "dee", "all.npz"), r"dee holds no \.npy file, but all\.npz: give"),
        (lambda folder: in_its_own(folder / os.fsdecode(b"Zo\xeb"), "0.npy"), r"Zo\\udceb': the name is not UTF-8"),
    ],
)
def test_what_is_wrong_is_named(folder: Path, tmp_path: Path, spoilt: object, said: str) -> None:
    spoilt(folder)
    with pytest.raises(SystemExit, match=said):
        gather(folder, tmp_path / "out")


def shorten(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


def in_its_own(folder: Path, name: str) -> None:
    folder.mkdir()
    np.savez(folder / name, np.zeros(4))


def test_what_is_left_out_is_named(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "al" / "._0.npy").write_bytes(b"of a Macintosh")
    np.savez(folder / "bo" / "more.npz", np.zeros(4))
    gather(folder, tmp_path / "out")
    said = capsys.readouterr()
    assert "5 faces of 3 people" in said.out
    assert all(name in said.err for name in ("notes.txt", "al/._0.npy", "bo/more.npz"))


def test_one_person_is_nothing_to_learn_from(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="bo holds 0 folders"):
        gather(folder / "bo", tmp_path / "out")
    with pytest.raises(SystemExit, match=r"none: No such file"):
        gather(tmp_path / "none", tmp_path / "out")
