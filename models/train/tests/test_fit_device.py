"""The loss is one that bf16 can be trained with. There is no CUDA in tests: the CPU's autocast stands in for it."""

from dataclasses import replace

import pytest
import torch

from facetd_train import device
from facetd_train.data import Faces
from facetd_train.edges import NAMES
from facetd_train.fixtures import TINY
from facetd_train.model import FACETD, Architecture, FaceTransformer
from facetd_train.neighbours import search
from facetd_train.training import Plan, step_loss

FORMS = [TINY, replace(TINY, kind=FACETD, edges=NAMES)]


@pytest.mark.parametrize("sizes", FORMS, ids=lambda sizes: sizes.kind)
def test_a_step_in_bf16_goes_the_same_way(people: Faces, sizes: Architecture) -> None:
    features, identities = torch.from_numpy(people.features), torch.from_numpy(people.identities)
    long, _ = search(people.features, 64)

    def gradient(bf16: bool) -> tuple[float, torch.Tensor]:
        torch.manual_seed(0)
        model = FaceTransformer(sizes)
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            generator = torch.Generator().manual_seed(0)
            loss = step_loss(model, features, identities, long, Plan(queries=64), generator)
        assert loss.dtype == torch.float32
        loss.backward()
        parts = [parameter.grad.flatten() for parameter in model.parameters() if parameter.grad is not None]
        return loss.item(), torch.cat(parts)

    (loss, exact), (rounded_loss, rounded) = gradient(False), gradient(True)
    assert rounded_loss != loss  # it was in bf16
    assert rounded_loss == pytest.approx(loss, rel=0.03)
    assert torch.nn.functional.cosine_similarity(exact, rounded, dim=0) > 0.95


def test_the_cpu_stays_exact() -> None:
    with device.precision(device.CPU):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32
    assert device.of(FaceTransformer(TINY)) == device.of(object()) == device.CPU


def test_cuda_is_taken_only_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device.choose("auto") == device.choose("cpu") == device.CPU
    with pytest.raises(SystemExit, match="no CUDA"):
        device.choose("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert device.choose("auto").type == device.choose("cuda").type == "cuda"
    assert device.choose("cpu") == device.CPU
