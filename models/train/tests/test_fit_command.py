"""`fit` on someone's own files: what it says, what it refuses, and how it goes on."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from facetd_train import __main__ as program
from facetd_train import command_line as command
from facetd_train import data, presets
from facetd_train.data import Faces
from facetd_train.model import FACETD, Architecture
from facetd_train.presets import PRESETS, Preset, suited
from facetd_train.release import Release
from facetd_train.stage import Stage
from facetd_train.training import Plan
from facetd_train.validation import Validation
from test_fit_data import with_lists

pytestmark = pytest.mark.usefixtures("few_thresholds")


def test_enough_faces_get_the_paper_s_defaults() -> None:
    assert suited(125_000, 256) == (Preset(Architecture(), Plan(), halved=False), [])
    other, changes = suited(125_000, 512)
    assert other.architecture == replace(Architecture(), dimension=512)
    assert changes == ["dimension 512, not 256: that of the features"]


def test_fewer_get_what_suits_them_and_are_told_why(people: Faces, capsys: pytest.CaptureFixture[str]) -> None:
    chosen, proven = command.suited(people), PRESETS["real-edges"]
    assert chosen == Preset(replace(proven.architecture, dimension=16), proven.plan, halved=False)
    first, *lines = capsys.readouterr().err.splitlines()
    assert first == "400 faces: the paper's defaults, but for"
    assert "  epochs 6, not 60: with more, the people are learnt by heart" in lines
    assert "  edges 7 features, not none: how neighbourhoods lie means the same for strangers" in "\n".join(lines)
    assert {line.split()[0] for line in lines} == set(presets.WHY)


class Command:
    """`fit` of the files in a folder, with some of the arguments `changed`."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.monkeypatch = folder, monkeypatch

    def __call__(self, **changed: object) -> None:
        arguments = {"features": "p.npy", "labels": "p.meta", "out": "model", "keep": "keep", "device": "cpu"} | changed
        line = ["facetd_train", "--threads", "1", "fit"]
        for name, value in arguments.items():
            line += [f"--{name}", str(self.folder / str(value)) if "." in str(value) or name in FOLDERS else str(value)]
        self.monkeypatch.setattr(sys, "argv", line)
        program.main()


FOLDERS = ("out", "keep")


@pytest.fixture
def fit(people: Faces, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    data.write(people, tmp_path / "p")
    np.save(tmp_path / "p.npy", people.features)
    lists = with_lists(people, 100).near
    table = np.stack([np.c_[np.arange(400), lists.rows], np.c_[np.zeros(400), 1 - lists.cosines]], axis=1)
    np.savez(tmp_path / "knn.npz", data=table)
    return Command(tmp_path, monkeypatch)


def test_an_interruption_is_made_good(
    fit: Command, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = replace(PRESETS["real-edges"].plan, populations=3, judge_steps=20)
    monkeypatch.setitem(PRESETS, "real-edges", replace(PRESETS["real-edges"], plan=plan))

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    asked = {"preset": "real-edges", "neighbours": "knn.npz"}
    with monkeypatch.context() as patch, pytest.raises(SystemExit) as stopped:
        patch.setattr(Validation, "thorough", interrupted)
        fit(**asked)
    assert stopped.value.code == 130
    said = capsys.readouterr().err
    assert "device: cpu" in said
    assert f"interrupted: the same command goes on from the last checkpoint in {fit.folder / 'keep'}" in said
    with pytest.raises(SystemExit, match=r"of another fit: --neighbours was .*; seed was 0, now 1"):
        fit(preset="real-edges", seed=1)
    capsys.readouterr()
    fit(**asked)
    assert "going on from epoch 6.0/6" in capsys.readouterr().err
    assert [file.name for file in (fit.folder / "keep").iterdir()] == ["checkpoint.pt"]
    kept = Release.read(fit.folder / "keep" / "checkpoint.pt")
    assert list(kept.stages) == [Stage.RE_LP, Stage.NAIVE] and kept.stages[Stage.RE_LP].architecture.kind == FACETD
    charts = {f"{name}.svg" for name in ("loss", "roc", "precision_recall", "f_over_threshold")}
    assert {file.name for file in (fit.folder / "model").iterdir()} == {
        *("re.onnx", "lp.onnx", "model.toml", "README.md", *charts)
    }
    again = ["export", "--checkpoint", str(fit.folder / "keep" / "checkpoint.pt"), "--out", str(fit.folder / "again")]
    arguments = command.parser().parse_args(again)
    arguments.command(arguments)
    for file in (fit.folder / "model").iterdir():
        assert (fit.folder / "again" / file.name).read_bytes() == file.read_bytes()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"features": "none.npy"}, r"none\.npy: No such file"),
        (
            {"preset": "paper", "features": "few.bin", "labels": "few.meta"},
            r"to train on has \d+ faces; 150 neighbours need 151 at least",
        ),
        ({"labels": "short.meta"}, r"p\.npy has 400 rows of 16, but .*short\.meta has 399 labels"),
        ({"labels": "same.meta"}, r"same\.meta: every row has the label 1"),
        ({"labels": "two.meta"}, r"the part of .*p\.npy to train on has 1 identity"),
        ({"features": "spoilt.npy"}, r"spoilt\.npy: row 7 has a value that is not a finite number"),
        ({"dimension": 8}, r"p\.npy has rows of 16, not of 8"),
        ({"neighbours": "other.npz"}, r"other\.npz is not an \.npz with an array called data"),
        (
            {"neighbours": "strange.npz"},
            r"strange\.npz: row 0 gives its nearest, row \d+, the distance [\d.]+, but by .*npy",
        ),
        ({"out": "p.meta"}, r"p\.meta: File exists"),
        ({"keep": "p.meta"}, r"p\.meta: File exists"),
    ],
)
def test_a_mistake_is_said_in_a_line(people: Faces, fit: Command, changed: dict[str, object], said: str) -> None:
    spoilt = people.features.copy()
    spoilt[7, 3] = np.nan
    np.save(fit.folder / "spoilt.npy", spoilt)
    np.savez(fit.folder / "other.npz", knn=np.zeros(3))
    strangers = np.load(fit.folder / "knn.npz")["data"][:, :, ::-1]  # the furthest first, with their distances
    np.savez(fit.folder / "strange.npz", data=np.stack([strangers[:, 0], 1 - strangers[:, 1]], axis=1))
    data.write(people.rows(np.arange(200)), fit.folder / "few")
    for name, labels in {"short": range(399), "same": [1] * 400, "two": [0, 1] * 200}.items():
        (fit.folder / f"{name}.meta").write_text("".join(f"{label}\n" for label in labels))
    with pytest.raises(SystemExit, match=said):
        fit(**changed)


def test_a_number_below_one_is_no_dimension(fit: Command, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        fit(dimension=0)
    assert "invalid positive value: '0'" in capsys.readouterr().err
