"""Training of both modules together, on neighbourhoods such as a stream shows them.

A stream starts empty. So each step draws a population, a random part of the faces, and searches all neighbourhoods
within it: the model sees dense and sparse ones, faces without a neighbour, and neighbourhoods that hold nothing but
strangers. All queries of a step share one population, so each enhanced embedding they need is computed once.
"""

import copy
import math
import sys
import time
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from facetd_train.data import Faces
from facetd_train.model import Architecture, FaceTransformer
from facetd_train.neighbours import Neighbourhoods, search, within
from facetd_train.validation import Choice, Validation

FEWEST = 20  # faces; fewer say nothing about anyone else


@dataclass(frozen=True)
class Plan:
    """How to train. The optimiser, the decay, the warm-up and the cosine are the paper's (section 4.1)."""

    epochs: int = 60
    queries: int = 32  # faces a step
    learning_rate: float = 0.002
    weight_decay: float = 0.0005
    warm_up: int = 500  # steps
    neighbours: int = 256  # length of the long lists populations are taken from
    sparsest: float = 0.05  # smallest share of the faces in a population
    shorten: float = 0.3  # share of neighbourhoods cut to a random length
    validation: float = 0.2  # share of the identities held out
    checks: int = 10  # checkpoints compared on the held-out identities
    seed: int = 0


@dataclass(frozen=True)
class Trained:
    model: FaceTransformer
    choices: list[Choice]  # the one to ship first, then the other rule's best
    identities: int
    faces: int
    epochs: int  # at the checkpoint that was kept
    neighbour_similarity: dict[str, float]


def fit(train: Faces, held_out: Faces, architecture: Architecture, plan: Plan) -> Trained:
    if min(len(train), len(held_out)) < FEWEST:
        raise SystemExit(f"{len(train)} faces to train on and {len(held_out)} to validate: at least {FEWEST} of each")
    torch.manual_seed(plan.seed)
    generator = torch.Generator().manual_seed(plan.seed)
    features, identities = torch.from_numpy(train.features), torch.from_numpy(train.identities)
    long, similarity = search(train.features, plan.neighbours)
    validation = Validation(held_out, train, plan.seed)

    model = FaceTransformer(architecture)
    optimiser = torch.optim.AdamW(decayed(model, plan.weight_decay), lr=plan.learning_rate)
    steps_an_epoch = max(1, len(train) // plan.queries)
    steps = plan.epochs * steps_an_epoch
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: rate(step, plan.warm_up, steps))
    check_every = math.ceil(steps / plan.checks)

    best = validation.quick(model.eval())
    kept, kept_at = copy.deepcopy(model.state_dict()), 0
    report(f"before training: {best}")
    losses: list[float] = []  # since the last check
    started = time.monotonic()
    terminal = sys.stderr.isatty()
    for step in tqdm(range(1, steps + 1), unit="step", disable=not terminal):
        model.train()
        loss = step_loss(model, features, identities, long, plan, generator)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        losses.append(loss.item())
        if step % check_every == 0 or step == steps:
            model.eval()
            choice = validation.quick(model)
            if choice.goodness > best.goodness:
                best, kept, kept_at = choice, copy.deepcopy(model.state_dict()), step
            report(
                f"epoch {step / steps_an_epoch:.1f}/{plan.epochs}  loss {sum(losses) / len(losses):.4f}  "
                f"{time.monotonic() - started:.0f} s  {choice}"
            )
            losses.clear()

    model.load_state_dict(kept)
    model.eval()
    choices = validation.thorough(model)
    for place, choice in zip(("chosen", "instead of"), choices, strict=True):
        report(f"{place}: {choice}")
    nearest = similarity[:, : architecture.hop1].flatten()
    return Trained(
        model=model,
        choices=choices,
        identities=len(identities.unique()),
        faces=len(train),
        epochs=round(kept_at / steps_an_epoch),
        neighbour_similarity=quantiles(nearest),
    )


def step_loss(
    model: FaceTransformer, features: Tensor, identities: Tensor, long: Tensor, plan: Plan, generator: torch.Generator
) -> Tensor:
    """Cross-entropy of the linkages of one step's queries."""
    sizes = model.architecture
    while True:
        share = plan.sparsest + (1 - plan.sparsest) * torch.rand(1, generator=generator)
        population = torch.rand(len(features), generator=generator) < share
        members = population.nonzero().squeeze(1)
        queries = members[torch.randperm(len(members), generator=generator)[: plan.queries]]
        hop1 = shortened(within(long[queries], population, sizes.hop1), plan.shorten, generator)
        if hop1.mask.any():  # of few faces a population may hold none or one, and there is nothing to link
            break

    faces, place = torch.cat([queries, hop1.rows[hop1.mask]]).unique(return_inverse=True)
    hop2 = shortened(within(long[faces], population, sizes.hop2), plan.shorten, generator)
    enhanced = model.enhance(features, faces, hop2)

    candidate = torch.zeros_like(hop1.rows)
    candidate[hop1.mask] = place[len(queries) :]
    logits = model.lp.logits(enhanced[place[: len(queries)]], enhanced[candidate], hop1.mask)
    same = (identities[hop1.rows] == identities[queries].unsqueeze(1)).float()
    return F.binary_cross_entropy_with_logits(logits[hop1.mask], same[hop1.mask])


def shortened(neighbourhoods: Neighbourhoods, share: float, generator: torch.Generator) -> Neighbourhoods:
    """A share of the neighbourhoods cut to a random length, from nothing to everything."""
    count, width = neighbourhoods.mask.shape
    length = torch.randint(0, width + 1, (count, 1), generator=generator)
    length[torch.rand(count, generator=generator) >= share] = width
    mask = neighbourhoods.mask & (torch.arange(width) < length)
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


def quantiles(similarity: Tensor) -> dict[str, float]:
    ordered = similarity.sort().values  # not torch.quantile, which refuses more than 16 million numbers
    return {f"q{q:02d}": float(ordered[round(q / 100 * (len(ordered) - 1))]) for q in (1, 10, 50, 90, 99)}


def report(line: str) -> None:
    tqdm.write(line, file=sys.stderr)
