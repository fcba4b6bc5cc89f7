"""The judge of EdgePredictor, trained on linkages of people that neither RE nor the agreement has seen.

To train it on the agreement of people both were trained on would teach it to believe what is learnt by heart. So the
identities are dealt into parts; for each part a model is trained on the others, and its answers on this part's faces,
among all faces, are what the judge learns from. These models are then dropped: the judge goes with the one trained on
everyone, which knows strangers about as well.

A growing collection has people with many times more faces than a list has places, and whoever is trained on has few
such. Two faces of so large a person share few neighbours, and stand in each other's lists seldom: what among small
people tells strangers. So the lists of each population are cut to a length drawn for it: what a person of forty faces
is to lists of four, one of two hundred and forty is to lists of twenty-four.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from facetd_train import data, device
from facetd_train.data import Faces
from facetd_train.edge_predictor import Judge
from facetd_train.edges import Structure
from facetd_train.keeping import NOTHING, Keep
from facetd_train.model import FaceTransformer
from facetd_train.neighbours import nearest, within
from facetd_train.training import Plan, decayed, learn, population, rate, report

DEAL = 99  # seeds the shuffle that deals identities, another than the splits use


@dataclass(frozen=True)
class Examples:
    """`opinion [E, hop1, 2]`, `mask [E, hop1]`, `edges [E, hop1, e]` or none, and whether they are `same [E, hop1]`."""

    opinion: Tensor
    mask: Tensor
    edges: Tensor
    same: Tensor

    @staticmethod
    def all_of(parts: "list[Examples]") -> "Examples":
        columns = ("opinion", "mask", "edges", "same")
        return Examples(*(torch.cat([getattr(part, column) for part in parts]) for column in columns))


def cross_fit(model: FaceTransformer, faces: Faces, plan: Plan, steps_share: float, keep: Keep = NOTHING) -> None:
    """Trains `model.lp.judge`; `steps_share` of the plan's steps is what the rest of the model was trained for.

    Parts that were finished before an interruption are not trained again.
    """
    where = device.of(model)
    order = data.shuffled(np.unique(faces.identities), DEAL)
    long, _ = nearest(faces, plan.neighbours, where)
    parts = []
    for place in range(plan.parts):
        name = f"part-{place + 1}"
        if kept := keep.load(name):
            parts.append(Examples(**{column: values.to(where) for column, values in kept.items()}))
            continue
        part = np.isin(faces.identities, order[place :: plan.parts])
        torch.manual_seed(plan.seed + place)
        stranger = FaceTransformer(model.architecture).to(where)
        loss = learn(stranger, faces.rows(~part), plan, steps_share)
        report(f"part {place + 1}/{plan.parts}: {int(part.sum())} faces kept from it  loss {loss:.4f}")
        parts.append(examples(stranger.eval(), faces, torch.from_numpy(part), long, plan))
        keep.save(name, vars(parts[-1]))
    torch.manual_seed(plan.seed)
    loss = learn_to_judge(model.lp.judge.train(), Examples.all_of(parts), plan)
    report(f"judge: {sum(len(part.mask) for part in parts)} examples  loss {loss:.4f}")


@torch.inference_mode()
def examples(model: FaceTransformer, faces: Faces, asked: Tensor, long: Tensor, plan: Plan) -> Examples:
    """What the judge hears of the faces `asked [N]`, in populations drawn from all of them, with lists cut short.

    The first is everyone with whole lists.
    """
    generator, where = torch.Generator().manual_seed(plan.seed), device.of(model)
    features, identities = torch.from_numpy(faces.features).to(where), torch.from_numpy(faces.identities).to(where)
    asked = asked.to(where)
    names, hop1, found = model.edges, model.hop1, []
    shortest = max(1, round(plan.shortest * hop1))
    for draw in range(plan.populations):
        here, length = torch.ones_like(asked), hop1
        if draw:
            here = population(len(faces), plan, generator).to(where)
            length = int(torch.randint(shortest, hop1 + 1, (1,), generator=generator))
        members = here.nonzero().squeeze(1)
        queries = asked[members].nonzero().squeeze(1)
        queries = queries[torch.randperm(len(queries), generator=generator)[: plan.asked]]
        if len(members) < 2 or not len(queries):
            continue
        near = within(long[members], here, hop1).cut(length)
        place = members.new_zeros(len(faces))
        place[members] = torch.arange(len(members), device=where)
        enhanced = model.enhance_all(features, members, near.first(model.hop2))
        structure = Structure.of(features, members, near, length)
        for query in queries.split(512):
            candidate, mask = place[near.rows[query]], near.mask[query]
            opinion = model.lp.opinion(enhanced[query], enhanced[candidate], mask)
            edges = structure.edges(names, query, candidate) if names else opinion.new_zeros(*mask.shape, 0)
            same = identities[near.rows[query]] == identities[members[query]].unsqueeze(1)
            found.append(Examples(opinion, mask, edges, same.float()))
    return Examples.all_of(found)


def learn_to_judge(judge: Judge, examples: Examples, plan: Plan) -> float:
    """Returns the mean loss of the last tenth of the steps."""
    generator = torch.Generator().manual_seed(plan.seed)
    optimiser = torch.optim.AdamW(decayed(judge, plan.weight_decay), lr=plan.judge_rate)
    steps = plan.judge_steps
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: rate(step, steps // 5, steps))
    losses = []
    for _ in range(steps):
        chosen = torch.randint(0, len(examples.mask), (256,), generator=generator)
        mask, same = examples.mask[chosen], examples.same[chosen]
        logits = judge(examples.opinion[chosen], mask, examples.edges[chosen])
        loss = F.binary_cross_entropy_with_logits(logits[mask], same[mask])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        losses.append(loss.item())
    judge.eval()
    return float(np.mean(losses[-max(1, steps // 10) :]))
