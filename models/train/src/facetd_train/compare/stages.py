"""The Face Transformer's own rows: naive, each module alone, both with each merging rule, and facetd itself.

A model folder is the one `fit` writes. What its training did not make, it cannot run; that row says so.
"""

import tomllib
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np

from facetd_train import pipeline
from facetd_train.artefact import Artefact, read_section
from facetd_train.compare import stream
from facetd_train.compare.collection import Collection
from facetd_train.compare.method import Kind, Method, Setting, grid
from facetd_train.data import Integers, opened
from facetd_train.merging import SINGLE, Linkages, Merges, Merging, Rule
from facetd_train.stage import Stage
from facetd_train.validation import CAP, EVIDENCE, THRESHOLDS


def linkages_of(stage: Stage, folder: Path | None, collection: Collection) -> Linkages:
    if stage != Stage.NAIVE:
        return pipeline.link(Artefact(folder, stage), collection.features)
    # Without a model too, and with as many neighbours as the peers.
    rows, cosines = collection.nearest
    query = np.repeat(np.arange(len(rows)), rows.shape[1])
    return Linkages(len(rows), query, rows.ravel(), cosines.ravel().clip(0, 1).astype(np.float32))


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
    return Linked(linkages_of(stage, folder, collection))


def cut(linked: Linked, setting: Setting) -> Integers:
    return linked.clusters(setting)


SINGLE_SETTINGS = grid(threshold=THRESHOLDS.tolist())
EVIDENCE_SETTINGS = grid(per_face=[rule.per_face for rule in EVIDENCE], threshold=THRESHOLDS.tolist())


def methods(folder: Path | None, facetd: Path | None) -> list[Method]:
    about = described(folder) if folder else {}

    def of(name: str, stage: Stage, settings: list[Setting], note: str = "") -> Method:
        missing = ""
        if stage not in (Stage.NAIVE, Stage.RE_LP) and stage not in about.get("stages", {}):
            missing = "the model was fitted without --stages"
        if folder is None and stage != Stage.NAIVE:
            missing = "no --model"
        kind = Kind.PEER if stage == Stage.NAIVE else Kind.OURS
        return Method(name, partial(linked, stage, folder), cut, settings, kind=kind, note=note, missing=missing)

    shipped = [as_setting(read_section(about["merging"]))] if folder else [{}]
    return [
        of("naive", Stage.NAIVE, SINGLE_SETTINGS, note="cosine threshold, union-find"),
        of("only RE", Stage.ONLY_RE, SINGLE_SETTINGS, note="cosine of g, union-find"),
        of("only LP single", Stage.ONLY_LP, SINGLE_SETTINGS),
        of("only LP evidence", Stage.ONLY_LP, EVIDENCE_SETTINGS),
        of("RE+LP single", Stage.RE_LP, SINGLE_SETTINGS),
        of("RE+LP evidence", Stage.RE_LP, EVIDENCE_SETTINGS),
        of("RE+LP as shipped", Stage.RE_LP, shipped, note="the merging of model.toml"),
        stream.method(facetd, folder),
    ]


def as_setting(merging: Merging) -> Setting:
    rule = {} if merging.rule == SINGLE else {"per_face": merging.rule.per_face, "cap": merging.rule.cap}
    return rule | {"threshold": merging.threshold}


def trained_identities(folder: Path) -> int:
    return described(folder)["training"]["identities"]


def described(folder: Path) -> dict:
    return tomllib.loads(opened(folder / "model.toml").read().decode())
