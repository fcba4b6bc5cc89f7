"""Training learns, repeats itself, and shows the model what a stream would."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from facetd_train import data, fitting, pipeline
from facetd_train.data import Faces
from facetd_train.fitting import fit, quantiles
from facetd_train.fixtures import TINY
from facetd_train.model import FaceTransformer
from facetd_train.neighbours import Neighbourhoods, search
from facetd_train.scores import score
from facetd_train.training import Plan, rate, shortened, step_loss

PLAN = Plan(epochs=8, queries=64, learning_rate=0.003, warm_up=5, neighbours=64, validation=0.3, checks=2, seed=5)


def test_the_rate_warms_up_and_follows_a_cosine() -> None:
    assert rate(0, 500, 2500) == pytest.approx(1 / 500)
    assert rate(249, 500, 2500) == pytest.approx(0.5)
    assert rate(499, 500, 2500) == rate(500, 500, 2500) == 1
    assert rate(1000, 500, 2500) == pytest.approx(0.5 * (1 + 0.5**0.5))
    assert rate(1500, 500, 2500) == pytest.approx(0.5)
    assert rate(2500, 500, 2500) == pytest.approx(0)
    assert rate(0, 0, 0) == 1


def test_shortened_cuts_from_the_end_and_only_a_share() -> None:
    generator = torch.Generator().manual_seed(1)
    whole = Neighbourhoods(torch.zeros(4000, 6, dtype=torch.int64), torch.arange(6).expand(4000, 6) < 5)
    cut = shortened(whole, 0.5, generator).mask
    lengths = cut.sum(1)
    assert (cut == (torch.arange(6) < lengths.unsqueeze(1))).all()
    # Half stay at 5; of the others lengths 0 to 6 are equally likely, and 5 and 6 leave 5.
    assert (lengths == 5).float().mean() == pytest.approx(0.5 + 0.5 * 2 / 7, abs=0.03)
    assert (lengths == 0).float().mean() == pytest.approx(0.5 / 7, abs=0.02)
    assert (shortened(whole, 0.0, generator).mask == whole.mask).all()


def test_a_step_s_loss_is_the_cross_entropy_of_its_linkages(people: Faces) -> None:
    """With everyone present and nothing cut, one step over all queries equals the batch pipeline's cross-entropy."""
    model = FaceTransformer(replace(TINY, hop1=6)).eval()
    plan = replace(PLAN, sparsest=1.0, shorten=0.0, queries=len(people))
    features, identities = torch.from_numpy(people.features), torch.from_numpy(people.identities)
    long, _ = search(people.features, 20)
    loss = step_loss(model, features, identities, long, plan, torch.Generator().manual_seed(0))

    everyone, mask = torch.arange(len(people)), torch.ones(len(people), 6, dtype=torch.bool)
    hop1 = Neighbourhoods(long[:, :6], mask)
    linkage = model.link_all(model.enhance_all(features, everyone, hop1.first(3)), everyone, hop1)
    same = (identities[hop1.rows] == identities.unsqueeze(1)).float()
    assert 0 < same.mean() < 1
    assert loss.item() == pytest.approx(torch.nn.functional.binary_cross_entropy(linkage, same).item(), rel=1e-4)


def test_the_sparsest_populations_have_a_finite_loss(people: Faces) -> None:
    few = people.rows(np.arange(25))
    features, identities = torch.from_numpy(few.features), torch.from_numpy(few.identities)
    long, _ = search(few.features, 24)
    plan, generator = replace(PLAN, sparsest=0.0, shorten=1.0), torch.Generator().manual_seed(0)
    model = FaceTransformer(TINY)
    assert all(step_loss(model, features, identities, long, plan, generator).isfinite() for _ in range(50))


def test_too_few_faces_are_refused(people: Faces) -> None:
    with pytest.raises(SystemExit, match="at least 20"):
        fit(people, people.rows(np.arange(19)), TINY, PLAN)


def test_fit_learns(people: Faces) -> None:
    train, held_out = data.hold_out(people, 0.3, 0)
    trained = fit(train, held_out, TINY, PLAN)
    linkages = pipeline.link(trained.model, held_out.features)
    for choice in trained.choices:
        assert score(held_out.identities, linkages.clusters(choice.merging)).bcubed_f > 0.75
        assert set(choice.bcubed) == {"1.0", "0.3", "0.1", "crowd", "grown"}
    assert {choice.merging.rule.name for choice in trained.choices} == {"single", "evidence"}
    assert trained.identities == 70


def test_fit_repeats_itself(people: Faces) -> None:
    train, held_out = data.hold_out(people, 0.3, 0)
    once, again = (fit(train, held_out, TINY, replace(PLAN, epochs=2)) for _ in range(2))
    assert again.choices == once.choices
    for one, other in zip(once.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(one, other)


def test_the_best_checkpoint_is_kept(people: Faces, monkeypatch: pytest.MonkeyPatch) -> None:
    """When every later check is worse than the start, the start is what fit returns."""
    goodness = iter(range(100, 0, -1))
    quick = fitting.Validation.quick
    monkeypatch.setattr(
        fitting.Validation, "quick", lambda self, model: replace(quick(self, model), goodness=next(goodness))
    )
    torch.manual_seed(PLAN.seed)
    start = FaceTransformer(TINY)
    train, held_out = data.hold_out(people, 0.3, 0)
    trained = fit(train, held_out, TINY, replace(PLAN, epochs=1))
    assert trained.epochs == 0
    for one, other in zip(trained.model.parameters(), start.parameters(), strict=True):
        assert torch.equal(one, other)


def test_quantiles() -> None:
    got = quantiles(torch.linspace(0, 1, 101)[torch.randperm(101)])
    assert got == pytest.approx({"q01": 0.01, "q10": 0.1, "q50": 0.5, "q90": 0.9, "q99": 0.99})
