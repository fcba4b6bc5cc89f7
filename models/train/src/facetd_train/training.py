"""Training of both modules together, on neighbourhoods such as a stream shows them.

A stream starts empty. So each step draws a population, a random part of the faces, and searches all neighbourhoods
within it: the model sees dense and sparse ones, faces without a neighbour, and neighbourhoods that hold nothing but
strangers. All queries of a step share one population, so each enhanced embedding they need is computed once.

What is drawn is drawn on the CPU, so that a seed means the same populations wherever the model runs.
"""

import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from facetd_train import device
from facetd_train.data import Faces
from facetd_train.model import FaceTransformer
from facetd_train.neighbours import Neighbourhoods, nearest, within


@dataclass(frozen=True)
class Plan:
    """How to train. The optimiser, the decay, the warm-up and the cosine are the paper's (section 4.1)."""

    epochs: int = 60  # 0: nothing but a judge is trained
    queries: int = 32  # faces a step
    learning_rate: float = 0.002
    weight_decay: float = 0.0005
    warm_up: int = 500  # steps
    neighbours: int = 256  # length of the long lists populations are taken from
    sparsest: float = 0.05  # smallest share of the faces in a population
    shorten: float = 0.3  # share of neighbourhoods cut to a random length
    validation: float = 0.2  # share of the identities held out
    checks: int = 10  # checkpoints compared on the held-out identities
    patience: int = 3  # checks without a better one before training stops
    seed: int = 0
    odds: float = 0.0  # no threshold is below this share of the evidence of two lone faces that are surely one person
    # Of an EdgePredictor's judge (cross_fitting.py):
    parts: int = 3  # the identities are dealt into
    populations: int = 28  # drawn for each part
    shortest: float = 1 / 6  # share of hop1 that the lists of a population are cut to, at the least
    asked: int = 2500  # queries of each population, at most
    judge_rate: float = 0.005
    judge_steps: int = 3000

    def steps(self, faces: int) -> int:
        return self.epochs * self.steps_an_epoch(faces)

    def steps_an_epoch(self, faces: int) -> int:
        return max(1, faces // self.queries)


class Training:
    """A model under way: everything its next step depends on.

    It runs the plan's steps, or the first `share` of them; whoever wants to stop it sooner lowers `last`.
    """

    def __init__(self, model: FaceTransformer, faces: Faces, plan: Plan, share: float = 1.0) -> None:
        self.model, self.plan, self.device = model, plan, device.of(model)
        self.features = torch.from_numpy(faces.features).to(self.device)
        self.identities = torch.from_numpy(faces.identities).to(self.device)
        self.long, cosines = nearest(faces, plan.neighbours, self.device)
        first = self.long[:, : model.hop1]
        self.similarity = cosines[:, : model.hop1][first >= 0]  # of candidates
        self.generator = torch.Generator().manual_seed(plan.seed)
        self.optimiser = torch.optim.AdamW(decayed(model, plan.weight_decay), lr=plan.learning_rate)
        self.steps = plan.steps(len(faces))
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimiser, lambda step: rate(step, plan.warm_up, self.steps)
        )
        self.step, self.last = 0, round(share * self.steps)

    def checks(self) -> Iterator[float]:
        """Stops at each of the plan's checkpoints, and at the end, for the mean loss since the one before."""
        check_every = math.ceil(self.steps / self.plan.checks)
        losses: list[float] = []
        with tqdm(total=self.last, initial=self.step, unit="step", disable=not sys.stderr.isatty()) as bar:
            while self.step < self.last:
                losses.append(self._advance())
                bar.update()
                if self.step % check_every == 0 or self.step == self.last:
                    yield sum(losses) / len(losses)
                    losses.clear()

    def _advance(self) -> float:
        self.model.train()
        with device.precision(self.device):
            loss = step_loss(self.model, self.features, self.identities, self.long, self.plan, self.generator)
        self.optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimiser.step()
        self.schedule.step()
        self.step += 1
        return loss.item()

    def state(self) -> dict[str, Any]:
        """To be taken at a checkpoint."""
        parts = {name: getattr(self, name).state_dict() for name in ("model", "optimiser", "schedule")}
        drawn = {"generator": self.generator.get_state(), "cpu": torch.get_rng_state()}  # the CPU's: of dropout
        if self.device.type == "cuda":
            drawn["cuda"] = torch.cuda.get_rng_state(self.device)
        return parts | drawn | {"step": self.step, "last": self.last}

    def restore(self, state: dict[str, Any]) -> None:
        for name in ("model", "optimiser", "schedule"):
            getattr(self, name).load_state_dict(state[name])
        self.generator.set_state(state["generator"])
        torch.set_rng_state(state["cpu"])
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(state["cuda"], self.device)
        self.step, self.last = state["step"], state["last"]


def learn(model: FaceTransformer, faces: Faces, plan: Plan, share: float = 1.0) -> float:
    """Runs the plan's steps, or the first `share` of them, without a check; returns the last mean loss."""
    if not round(share * plan.steps(len(faces))):
        return 0.0
    losses = [0.0, *Training(model, faces, plan, share).checks()]
    return losses[-1]


def step_loss(
    model: FaceTransformer, features: Tensor, identities: Tensor, long: Tensor, plan: Plan, generator: torch.Generator
) -> Tensor:
    """Cross-entropy of the linkages of one step's queries."""
    sizes = model.architecture
    while True:
        here = population(len(features), plan, generator).to(features.device)
        members = here.nonzero().squeeze(1)
        queries = members[torch.randperm(len(members), generator=generator)[: plan.queries]]
        hop1 = shortened(within(long[queries], here, sizes.hop1), plan.shorten, generator)
        if hop1.mask.any():  # of few faces a population may hold none or one, and there is nothing to link
            break

    faces, place = torch.cat([queries, hop1.rows[hop1.mask]]).unique(return_inverse=True)
    hop2 = shortened(within(long[faces], here, sizes.hop2), plan.shorten, generator)
    enhanced = model.enhance(features, faces, hop2)

    candidate = torch.zeros_like(hop1.rows)
    candidate[hop1.mask] = place[len(queries) :]
    logits = model.lp.logits(enhanced[place[: len(queries)]], enhanced[candidate], hop1.mask)
    same = (identities[hop1.rows] == identities[queries].unsqueeze(1)).float()
    return F.binary_cross_entropy_with_logits(logits[hop1.mask].float(), same[hop1.mask])


def population(count: int, plan: Plan, generator: torch.Generator) -> Tensor:
    """Which of the faces have arrived `[count]` (bool): a random share of them."""
    share = plan.sparsest + (1 - plan.sparsest) * torch.rand(1, generator=generator)
    return torch.rand(count, generator=generator) < share


def shortened(neighbourhoods: Neighbourhoods, share: float, generator: torch.Generator) -> Neighbourhoods:
    """A share of the neighbourhoods cut to a random length, from nothing to everything."""
    count, width = neighbourhoods.mask.shape
    length = torch.randint(0, width + 1, (count, 1), generator=generator)
    length[torch.rand(count, generator=generator) >= share] = width
    mask = neighbourhoods.mask & (torch.arange(width) < length).to(neighbourhoods.mask.device)
    return Neighbourhoods(neighbourhoods.rows, mask)


def rate(step: int, warm_up: int, steps: int) -> float:
    """Share of the learning rate: linear up to step `warm_up`, then half a cosine down to 0 at the last step."""
    if step < warm_up:
        return (step + 1) / warm_up
    return 0.5 * (1 + math.cos(math.pi * (step - warm_up) / max(1, steps - warm_up)))


def decayed(model: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Matrices decay; biases, norms and PReLU slopes do not, for 0 is not a meaningful place for them."""
    matrices = [p for p in model.parameters() if p.dim() > 1]
    others = [p for p in model.parameters() if p.dim() <= 1]
    return [{"params": matrices, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]


def report(line: str) -> None:
    tqdm.write(line, file=sys.stderr)
