"""From what was fitted to a model's folder: graphs, `model.toml`, the card and its curves; kept as one checkpoint."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from facetd_train import artefact
from facetd_train.card import About, card
from facetd_train.curves import charts
from facetd_train.export import export
from facetd_train.fitting import Trained
from facetd_train.keeping import plain
from facetd_train.merging import Merging, Rule
from facetd_train.model import Architecture, FaceTransformer
from facetd_train.scores import Scores
from facetd_train.stage import Stage

MODEL_CARD = "README.md"  # where people look first


@dataclass(frozen=True)
class Fitted:
    """A stage, as it was fitted."""

    architecture: Architecture
    weights: Mapping[str, Tensor]
    merging: Merging

    @property
    def model(self) -> FaceTransformer:
        made = FaceTransformer(self.architecture)
        made.load_state_dict(self.weights)
        return made.eval()


@dataclass(frozen=True)
class Release:
    """All there is to a model's folder. The stages have RE+LP among them."""

    stages: Mapping[Stage, Fitted]
    about: About
    charts: Mapping[str, str]  # SVG by name

    def write(self, folder: Path) -> None:
        for fitted in self.stages.values():
            export(fitted.model, folder)
        architecture = self.stages[Stage.RE_LP].architecture
        mergings = {stage: fitted.merging for stage, fitted in self.stages.items()}
        artefact.describe(folder, architecture, self.about, mergings)
        for name, chart in self.charts.items():
            (folder / f"{name}.svg").write_text(chart)
        (folder / MODEL_CARD).write_text(card(self.about, architecture, mergings, self.charts))

    def keep(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.save(plain(asdict(self)), file)

    @staticmethod
    def of(name: str, data: str, seed: int, stages: Mapping[Stage, Trained]) -> "Release":
        """What `fitting.fit` gave for each stage; RE+LP must be among them."""
        whole = stages[Stage.RE_LP]
        about = About(
            name=name,
            data=data,
            identities=whole.identities,
            faces=whole.faces,
            largest=whole.largest,
            seed=seed,
            epochs=whole.epochs,
            neighbour_similarity=whole.neighbour_similarity,
            scores={stage: stages[stage].scores for stage in Stage if stage in stages},
            validation_faces=len(whole.identity),
            validation_people=len(set(whole.identity.tolist())),
        )
        fitted = {
            stage: Fitted(trained.model.architecture, trained.model.state_dict(), trained.merging)
            for stage, trained in stages.items()
        }
        return Release(fitted, about, charts(stages))

    @staticmethod
    def read(file: Path) -> "Release":
        kept = torch.load(file, weights_only=True)
        about = kept["about"] | {"scores": {Stage(s): Scores(**found) for s, found in kept["about"]["scores"].items()}}
        return Release(
            {Stage(stage): fitted(**found) for stage, found in kept["stages"].items()}, About(**about), kept["charts"]
        )


def fitted(architecture: dict, weights: Mapping[str, Tensor], merging: dict) -> Fitted:
    stage, rule = Stage(architecture["stage"]), Rule(**merging["rule"])
    return Fitted(Architecture(**architecture | {"stage": stage}), weights, Merging(**merging | {"rule": rule}))
