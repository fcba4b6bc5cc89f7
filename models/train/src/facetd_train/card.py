"""The model card: what a model was trained on, how well it does there, and what it is not for."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from facetd_train.merging import Merging
from facetd_train.model import Architecture
from facetd_train.scores import Scores
from facetd_train.stage import Stage
from facetd_train.validation import FEW

UNTRAINED = "RE and what LP makes of the two g are as they begin, a mean and a cosine: only LP's judge was trained."
CURVES = {"loss": "loss", "roc": "ROC", "precision_recall": "precision and recall", "f_over_threshold": "F over τ"}
LARGE = 100_000  # faces to train on; with fewer, the paper's sizes are more than can be learnt


@dataclass(frozen=True)
class About:
    """What of a fit is worth telling, in model.toml and in the card."""

    name: str
    data: str  # the name of the labelled faces
    identities: int  # trained on, as are the faces
    faces: int
    seed: int
    epochs: float  # at the checkpoint that was kept
    neighbour_similarity: Mapping[str, float]
    scores: Mapping[Stage, Scores]  # on validation identities, each under its merging
    validation_faces: int
    validation_people: int
    largest: int = 0  # faces of the person trained on who has most; 0 where a checkpoint of before does not know


def card(about: About, architecture: Architecture, mergings: Mapping[Stage, Merging], charts: Collection[str]) -> str:
    a = architecture
    rows = [
        f"| {stage.title} | {mergings[stage].rule}, {mergings[stage].threshold:.3f} | {100 * scores.pairwise_f:.1f} "
        f"| {100 * scores.bcubed_f:.1f} | {100 * scores.nmi:.1f} |"
        for stage, scores in about.scores.items()
    ]
    epochs = "1 epoch" if about.epochs == 1 else f"{about.epochs:g} epochs"
    trained = f"Of its checkpoints that after {epochs} was the best." if about.epochs else UNTRAINED
    links = ", ".join(f"[{words}]({file}.svg)" for file, words in CURVES.items() if file in charts)
    similarity = ", ".join(f"{value:.2f} ({quantile})" for quantile, value in about.neighbour_similarity.items())
    edges = f"the edge features {', '.join(a.edges)}" if a.edges else "no edge features"
    small = (
        f"It saw {about.faces:,} faces, far fewer than the paper's 584,000, with neighbourhoods of {a.hop1} instead of "
        "150: expect less of it than the paper reports.\n"
        if about.faces < LARGE or a.hop1 < 150
        else ""
    )
    many = (
        f"Nobody it saw had more than {about.largest:,} faces. People with many more may come out in parts, which a "
        "lower `threshold` in model.toml joins: try it with `facetd cluster` and `facetd evaluate`.\n"
        if about.largest
        else ""
    )
    luck = f"{about.validation_people} people are too few to tell: another few may give quite other figures.\n\n"
    return f"""\
# {about.name}

A Face Transformer (Ye, Peng et al. 2021) for embeddings of {a.dimension} values, to be run by facetd.

- **Trained on**: {about.data}; {about.faces:,} faces of {about.identities:,} people, seed {about.seed}.
  {trained}
- **Form**: `{a.kind}`, hop1 {a.hop1}, hop2 {a.hop2}, depth {a.depth}, {a.heads} heads of {a.head_dimension}, {edges}.
- **Neighbours' cosines there**: {similarity}. `facetd check --sample FILE` says how far your own are from that.
- **To run it**: `model.dir` in facetd's configuration, or FACETD_MODEL__DIR, names this folder.

Of {about.validation_faces:,} faces of {about.validation_people:,} people it was not trained on, in percent. Its
thresholds were chosen by them, which flatters:

| stage | merging and threshold τ | pairwise F | BCubed F | NMI |
| --- | --- | ---: | ---: | ---: |
{chr(10).join(rows)}

{luck if about.validation_people < FEW else ""}Curves: {links}.

## What to expect
{small}{many}\
A model knows the network whose embeddings it was trained on, and the people and pictures that were in the data.
Another network, other cameras or other people shift every number above. For best results train on labelled faces of
your own (README, "Your own faces"), and look at what it does to people who are rare among those before you trust it:
errors of face recognition are not spread evenly over people.

It says which pictures show one person among those it is given. It does not say who that is, and is no ground for a
decision about anybody.
"""
