"""Each stage of the ablation is what the paper says, learns, and runs from its folder as it was trained."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from facetd_train import artefact, data, fixtures, pipeline
from facetd_train.artefact import Artefact
from facetd_train.data import Faces
from facetd_train.edges import NAMES
from facetd_train.export import export
from facetd_train.merging import SINGLE, Merging
from facetd_train.model import FACETD, FaceTransformer
from facetd_train.neighbours import search
from facetd_train.stage import Stage
from facetd_train.training import Plan, learn, step_loss

KINDS = (fixtures.TINY, replace(fixtures.TINY, kind=FACETD, edges=NAMES))


def test_without_lp_a_linkage_is_that_of_equations_11_and_12(people: Faces) -> None:
    naive = FaceTransformer(replace(fixtures.TINY, stage=Stage.NAIVE)).eval()
    got = pipeline.link(naive, people.features)
    rows, _ = search(people.features, fixtures.TINY.hop1)
    assert got.candidate.tolist() == rows.flatten().tolist()
    apart = people.features[got.query] - people.features[got.candidate]
    np.testing.assert_allclose(got.linkage, 1 - 0.25 * (apart**2).sum(1), atol=1e-5)


@pytest.mark.parametrize("architecture", KINDS, ids=["paper", "facetd"])
@pytest.mark.parametrize("stage", Stage)
def test_a_stage_runs_from_its_folder_as_it_was_trained(
    architecture: fixtures.Architecture, stage: Stage, people: Faces, tmp_path: Path
) -> None:
    architecture = replace(architecture, dimension=15, dropout=0.3)  # the root is no whole number, the dropout not off
    features = data.normalise(people.features[:90, :15])
    whole = FaceTransformer(architecture)
    made = FaceTransformer(replace(architecture, stage=stage)).eval()
    fixtures.disturb(made)
    mergings = {Stage.RE_LP: fixtures.MERGING, stage: Merging(SINGLE, threshold=0.7, threshold_off=0.6)}
    for model in (whole, made):
        export(model, tmp_path)
    artefact.describe(tmp_path, architecture, fixtures.about(architecture), mergings)
    run = Artefact(tmp_path, stage)
    assert run.merging == mergings[stage]
    assert (run.re is not None, run.lp is not None) == (stage.has_re, stage.has_lp)
    expected, got = pipeline.link(made, features), pipeline.link(run, features)
    np.testing.assert_array_equal(got.candidate, expected.candidate)
    np.testing.assert_allclose(got.linkage, expected.linkage, atol=1e-5)
    if stage != Stage.RE_LP:
        assert len(list(tmp_path.glob("*.onnx"))) == 2 + stage.has_re + stage.has_lp


def test_a_stage_that_was_not_trained_is_refused(artefact_folder: Path) -> None:
    with pytest.raises(SystemExit, match=r"model\.toml has no stage only_lp: train it with `fit --stages`"):
        Artefact(artefact_folder, Stage.ONLY_LP)


@pytest.mark.parametrize("stage", [Stage.ONLY_RE, Stage.ONLY_LP])
@pytest.mark.parametrize("architecture", KINDS, ids=["paper", "facetd"])
def test_a_stage_learns(architecture: fixtures.Architecture, stage: Stage, people: Faces) -> None:
    train, _ = data.hold_out(people, 0.3, 0)
    plan = Plan(epochs=12, queries=64, learning_rate=0.003, warm_up=5, neighbours=64, checks=4, seed=5)
    model = FaceTransformer(replace(architecture, stage=stage))
    features, identities = torch.from_numpy(train.features), torch.from_numpy(train.identities)
    long, _ = search(train.features, plan.neighbours)

    @torch.inference_mode()
    def loss() -> float:
        """Of the same neighbourhoods each time."""
        generator = torch.Generator().manual_seed(2)
        steps = [step_loss(model.eval(), features, identities, long, plan, generator) for _ in range(8)]
        return float(torch.stack(steps).mean())

    before = loss()
    learn(model, train, plan)
    assert loss() < before
