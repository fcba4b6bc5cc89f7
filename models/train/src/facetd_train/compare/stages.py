"""The Face Transformer's own rows: naive, each module alone, both with each merging rule, and facetd itself.

A model folder is the one `fit` writes. What its training did not make, it cannot run; that row says so.
"""

import subprocess
import tempfile
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from pathlib import Path

import numpy as np
import torch

from facetd_train import data, pipeline
from facetd_train.artefact import Artefact
from facetd_train.compare.collection import Collection
from facetd_train.compare.method import Kind, Method, Setting, grid
from facetd_train.data import Integers
from facetd_train.merging import SINGLE, Linkages, Merges, Merging, Rule
from facetd_train.neighbours import Neighbourhoods
from facetd_train.validation import CAP, EVIDENCE, THRESHOLDS


class Stage(StrEnum):
    """The paper's ablation (table 5). A stage is a way from embeddings to linkages; merging comes after."""

    NAIVE = "naive"
    ONLY_RE = "only RE"
    ONLY_LP = "only LP"
    RE_LP = "RE+LP"


def naive(collection: Collection) -> Linkages:
    rows, cosines = collection.nearest
    return linkages(rows, cosines.clip(0))


def only_re(model: Artefact, collection: Collection) -> Linkages:
    """Equations 11 and 12: a linkage is 1 - ||N(g) - N(g')||² / 4, which is (1 + cosine) / 2."""
    values, everyone = torch.from_numpy(collection.features), torch.arange(len(collection))
    rows = torch.from_numpy(collection.nearest[0])
    hop2 = Neighbourhoods(rows, torch.ones_like(rows, dtype=torch.bool)).first(model.hop2)
    enhanced = data.normalise(model.enhance_all(values, everyone, hop2).numpy())
    cosines = np.einsum("fd,fkd->fk", enhanced, enhanced[rows.numpy()])
    return linkages(rows.numpy(), (1 + cosines) / 2)


def re_lp(model: Artefact, collection: Collection) -> Linkages:
    return pipeline.link(model, collection.features)


def linkages(rows: Integers, values: data.Floats) -> Linkages:
    query = np.repeat(np.arange(len(rows)), rows.shape[1])
    return Linkages(len(rows), query, rows.ravel(), values.ravel().clip(0, 1).astype(np.float32))


# ONLY_LP is missing: it takes an LP that was trained on raw embeddings, and that of a model with both was not.
STAGES: dict[Stage, Callable[[Artefact, Collection], Linkages]] = {
    Stage.NAIVE: lambda _, collection: naive(collection),
    Stage.ONLY_RE: only_re,
    Stage.RE_LP: re_lp,
}


@dataclass(frozen=True)
class Linked:
    """Linkages, and the merges of each rule that was asked for: one run gives the clusters of every threshold."""

    linkages: Linkages
    merges: dict[Rule, Merges] = field(default_factory=dict)

    def clusters(self, setting: Setting) -> Integers:
        per_face = int(setting.get("per_face", 0))
        rule = Rule("evidence", per_face, int(setting.get("cap", CAP))) if per_face else SINGLE
        threshold = float(setting["threshold"])
        if rule not in self.merges:
            self.merges[rule] = self.linkages.merges(rule, min(threshold, float(THRESHOLDS[0])))
        return self.merges[rule].clusters(threshold)


def linked(stage: Stage, folder: Path | None, collection: Collection) -> Linked:
    return Linked(STAGES[stage](Artefact(folder) if folder else None, collection))


def cut(linked: Linked, setting: Setting) -> Integers:
    return linked.clusters(setting)


SINGLE_SETTINGS = grid(threshold=THRESHOLDS.tolist())
EVIDENCE_SETTINGS = grid(per_face=[rule.per_face for rule in EVIDENCE], threshold=THRESHOLDS.tolist())


def methods(folder: Path | None, stream: Path | None) -> list[Method]:
    def of(name: str, stage: Stage, settings: list[Setting], **about: str) -> Method:
        missing = about.pop("missing", "")
        if folder is None and stage != Stage.NAIVE:
            missing = missing or "no --model"
        kind = Kind.PEER if stage == Stage.NAIVE else Kind.OURS
        prepare = partial(linked, stage, folder)
        return Method(name, prepare, cut, settings, kind=kind, missing=missing, **about)

    return [
        of("naive", Stage.NAIVE, SINGLE_SETTINGS, note="cosine threshold, union-find"),
        of("only RE", Stage.ONLY_RE, SINGLE_SETTINGS, note="of the model with both; cosine of g, union-find"),
        of("only LP", Stage.ONLY_LP, SINGLE_SETTINGS, missing="takes a model whose LP was trained on raw embeddings"),
        of("RE+LP single", Stage.RE_LP, SINGLE_SETTINGS),
        of("RE+LP evidence", Stage.RE_LP, EVIDENCE_SETTINGS),
        of(
            "RE+LP as shipped",
            Stage.RE_LP,
            [as_setting(Artefact(folder).merging)] if folder else [{}],
            note="the merging of model.toml",
        ),
        streamed(folder, stream),
    ]


def as_setting(merging: Merging) -> Setting:
    rule = {} if merging.rule == SINGLE else {"per_face": merging.rule.per_face, "cap": merging.rule.cap}
    return rule | {"threshold": merging.threshold}


def streamed(folder: Path | None, stream: Path | None) -> Method:
    """facetd on the test half: from labels it left there, or by running the program.

    The program has no command yet that gives the labels of a stream. It clusters a file as one batch through the
    daemon's engine, and a settled stream has the clusters of the batch (DESIGN.md, convergence).
    """
    if stream is None:
        return Method("stream", without, cut, kind=Kind.OURS, missing="no --stream")
    if not is_program(stream):
        note = f"facetd's engine, labels of {stream.name}"
        return Method("stream", without, partial(from_file, stream), kind=Kind.OURS, note=note)
    if folder is None:
        return Method("facetd in one batch", without, cut, kind=Kind.OURS, missing="no --model")
    run = partial(from_program, stream, folder)
    return Method("facetd in one batch", without, run, kind=Kind.OURS, note="the program's own engine and index")


def is_program(stream: Path) -> bool:
    return stream.is_file() and stream.stat().st_mode & 0o100 != 0


def without(collection: Collection) -> Collection:
    return collection


def from_file(labels: Path, collection: Collection, _: Setting) -> Integers:
    predicted = data.read_labels(labels)
    if len(predicted) != len(collection):
        raise SystemExit(
            f"{labels} has {len(predicted)} labels, the test half {len(collection)} faces: cluster the test.bin that "
            "`run split` writes"
        )
    return predicted


def from_program(program: Path, model: Path, collection: Collection, _: Setting) -> Integers:
    with tempfile.TemporaryDirectory() as folder:
        features, labels = Path(folder) / "features.npy", Path(folder) / "labels"
        np.save(features, collection.features)
        command = [program.resolve(), "cluster", "--features", features, "--model", model, "--labels", labels]
        ran = subprocess.run(command, capture_output=True, text=True)
        if ran.returncode:
            raise SystemExit(f"{program}: {ran.stderr.strip()}")
        return data.read_labels(labels)


def trained_identities(folder: Path) -> int:
    return tomllib.loads((folder / "model.toml").read_text())["training"]["identities"]
