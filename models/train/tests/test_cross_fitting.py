"""The judge learns from the answers of models that never saw the people asked about."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from facetd_train import cross_fitting, data, pipeline
from facetd_train.cross_fitting import cross_fit, examples, learn_to_judge
from facetd_train.data import Faces
from facetd_train.edges import NAMES
from facetd_train.fitting import fit
from facetd_train.fixtures import TINY
from facetd_train.model import FACETD, FaceTransformer
from facetd_train.neighbours import search
from facetd_train.scores import score
from facetd_train.training import Plan

SIZES = replace(TINY, kind=FACETD, edges=NAMES)
PLAN = Plan(
    **{"epochs": 2, "queries": 64, "learning_rate": 0.003, "warm_up": 5, "neighbours": 64, "validation": 0.3},
    **{"checks": 2, "seed": 5, "populations": 4, "judge_steps": 60},
)


def test_each_part_is_answered_by_a_model_without_it(people: Faces, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Faces] = []
    asked: list[np.ndarray] = []
    learn, ask = cross_fitting.learn, cross_fitting.examples

    def noted(model: FaceTransformer, faces: Faces, plan: Plan, share: float) -> float:
        seen.append(faces)
        return learn(model, faces, plan, share)

    def noted_too(
        model: FaceTransformer, faces: Faces, who: torch.Tensor, long: torch.Tensor, plan: Plan
    ) -> cross_fitting.Examples:
        asked.append(who.numpy())
        return ask(model, faces, who, long, plan)

    monkeypatch.setattr(cross_fitting, "learn", noted)
    monkeypatch.setattr(cross_fitting, "examples", noted_too)
    model = FaceTransformer(SIZES)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    cross_fit(model, people, PLAN, 0.5)
    assert len(seen) == len(asked) == 3
    assert (np.sum(asked, axis=0) == 1).all()
    for known, who in zip(seen, asked, strict=True):
        assert not set(known.identities) & set(people.identities[who])
        assert set(known.identities) | set(people.identities[who]) == set(people.identities)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]) != name.startswith("lp.judge"), name


def test_examples_are_what_the_pipeline_feeds_the_judge(people: Faces) -> None:
    few = people.rows(np.arange(80))
    model = FaceTransformer(SIZES).eval()
    long, _ = search(few.features, PLAN.neighbours)
    made = examples(model, few, torch.ones(80, dtype=torch.bool), long, replace(PLAN, populations=1))
    with torch.inference_mode():
        linkage = model.lp.judge(made.opinion, made.mask, made.edges).sigmoid()
    expected = pipeline.link(model, few.features)
    np.testing.assert_allclose(np.sort(linkage.flatten().numpy()), np.sort(expected.linkage), atol=1e-5)
    same = few.identities[expected.query] == few.identities[expected.candidate]
    assert made.same.sum() == same.sum()


def test_lists_are_cut_to_a_length_of_each_population(people: Faces) -> None:
    model = FaceTransformer(SIZES).eval()
    long, _ = search(people.features, PLAN.neighbours)
    plan = replace(PLAN, populations=30, shortest=0.5, sparsest=0.9)
    made = examples(model, people, torch.ones(len(people), dtype=torch.bool), long, plan)
    lengths = made.mask.sum(1)
    assert set(lengths.tolist()) == set(range(SIZES.hop1 // 2, SIZES.hop1 + 1))
    assert (lengths[: len(people)] == SIZES.hop1).all()
    rank = made.edges[:, :, SIZES.edges.index("rank")]
    assert (rank[:, 0] == 0).all()
    for length in range(SIZES.hop1 // 2, SIZES.hop1 + 1):  # ranks count to the end of the list, however short
        last = rank[lengths == length, length - 1]
        np.testing.assert_allclose(last, np.log(length) / np.log1p(length), atol=1e-6)


def test_the_judge_learns_whom_to_believe() -> None:
    """Of an agreement that is noise and an edge feature that knows, it comes to follow the feature."""
    generator = torch.Generator().manual_seed(0)
    same = (torch.rand(400, 6, generator=generator) < 0.3).float()
    edges = torch.rand(400, 6, len(NAMES), generator=generator)
    edges[:, :, 3] = 0.8 * same + 0.2 * edges[:, :, 3]
    opinion = 3 * torch.randn(400, 6, 2, generator=generator)
    mask = torch.rand(400, 6, generator=generator) < 0.9
    judge = FaceTransformer(SIZES).lp.judge
    loss = learn_to_judge(judge, cross_fitting.Examples(opinion, mask, edges, same), PLAN)
    assert loss < 0.1


def test_without_an_epoch_nothing_but_the_judge_is_trained(people: Faces) -> None:
    train, held_out = data.hold_out(people, 0.4, 1)
    trained = fit(train, held_out, SIZES, replace(PLAN, epochs=0)).model
    torch.manual_seed(PLAN.seed)
    start = FaceTransformer(SIZES).state_dict()
    changed = {name for name, value in trained.state_dict().items() if not torch.equal(value, start[name])}
    assert changed and all(name.startswith("lp.judge.") for name in changed)


def test_fit_learns_and_repeats_itself(people: Faces) -> None:
    train, held_out = data.hold_out(people, 0.3, 0)
    once, again = (fit(train, held_out, SIZES, PLAN) for _ in range(2))
    linkages = pipeline.link(once.model, held_out.features)
    assert score(held_out.identities, linkages.clusters(once.choices[0].merging)).bcubed_f > 0.8
    assert again.choices == once.choices
    for one, other in zip(once.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(one, other)
