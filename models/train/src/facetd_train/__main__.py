"""Command line: `fit`, `export`, `split`, `evaluate`, `compare`, `fixtures`."""

import argparse
import time
from dataclasses import asdict, replace
from pathlib import Path

import torch

from facetd_train import artefact, data, fixtures, pipeline
from facetd_train.artefact import Artefact
from facetd_train.compare import command as compare
from facetd_train.export import export
from facetd_train.fitting import fit
from facetd_train.merging import Merging, Rule
from facetd_train.model import Architecture, FaceTransformer
from facetd_train.presets import PRESETS
from facetd_train.scores import Scores, score


def main() -> None:
    arguments = parser().parse_args()
    torch.set_num_threads(arguments.threads)
    arguments.command(arguments)


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="facetd_train", description=__doc__)
    top.add_argument("--threads", type=int, default=2, help="CPU threads (default 2)")
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: object, text: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=text, description=text)
        made.set_defaults(command=run)
        return made

    def labelled(made: argparse.ArgumentParser) -> None:
        made.add_argument("--features", type=Path, required=True, help="learn-to-cluster .bin (headless f32)")
        made.add_argument("--labels", type=Path, required=True, help="one integer a line")
        made.add_argument("--dimension", type=int, default=128)

    made = command("fit", run_fit, "Train a model and write its artefact.")
    labelled(made)
    made.add_argument("--preset", choices=PRESETS, required=True)
    made.add_argument("--out", type=Path, required=True, help="folder of the artefact")
    made.add_argument("--name", help="the model's name (default: the folder's)")
    made.add_argument("--data", help="the data's name in model.toml (default: the features file's)")
    made.add_argument("--epochs", type=int, help="instead of the preset's")
    made.add_argument("--seed", type=int, default=0, help="of training; the halves are always split with seed 0")

    made = command("export", run_export, "Write the artefact of a fitted model again, from its checkpoint.")
    made.add_argument("--checkpoint", type=Path, required=True, help="checkpoint.pt, which fit writes with --keep")
    made.add_argument("--out", type=Path, required=True)
    commands.choices["fit"].add_argument("--keep", type=Path, help="folder to keep checkpoint.pt in, for export")

    made = command("split", run_split, "Write the training and the test half: train.bin/.meta and test.bin/.meta.")
    labelled(made)
    made.add_argument("--out", type=Path, required=True)
    made.add_argument("--seed", type=int, default=SPLIT_SEED)

    made = command("evaluate", run_evaluate, "Score an artefact on labelled faces.")
    labelled(made)
    made.add_argument("--model", type=Path, required=True, help="folder of the artefact")

    made = command("compare", compare.run, "The table of other methods and the model's stages, tuned alike.")
    labelled(made)
    compare.options(made)

    made = command("fixtures", run_fixtures, "Write the tiny model and the recorded cases the Rust tests use.")
    made.add_argument("--out", type=Path, required=True)
    return top


SPLIT_SEED = 0


def run_fit(arguments: argparse.Namespace) -> None:
    started = time.monotonic()
    preset = PRESETS[arguments.preset]
    architecture = replace(preset.architecture, dimension=arguments.dimension)
    plan = replace(preset.plan, seed=arguments.seed, epochs=arguments.epochs or preset.plan.epochs)
    faces = data.read(arguments.features, arguments.labels, arguments.dimension)
    if preset.halved:
        faces, _ = data.split(faces, SPLIT_SEED)
    train, held_out = data.hold_out(faces, plan.validation, plan.seed)
    trained = fit(train, held_out, architecture, plan)
    merging = trained.choices[0].merging
    linkages = pipeline.link(trained.model, held_out.features)
    checkpoint = {
        "architecture": asdict(architecture),
        "weights": trained.model.state_dict(),
        "about": {
            "name": arguments.name or arguments.out.resolve().name,
            "merging": asdict(merging),
            "scores": asdict(score(held_out.identities, linkages.clusters(merging))),
            "neighbour_similarity": trained.neighbour_similarity,
            "data": arguments.data or arguments.features.stem,
            "identities": trained.identities,
            "faces": trained.faces,
            "seed": plan.seed,
            "epochs": trained.epochs,
        },
    }
    if arguments.keep:
        arguments.keep.mkdir(parents=True, exist_ok=True)
        torch.save(checkpoint, arguments.keep / "checkpoint.pt")
    write_artefact(checkpoint, arguments.out)
    print(f"wrote {arguments.out} after {time.monotonic() - started:.0f} s")


def run_export(arguments: argparse.Namespace) -> None:
    write_artefact(torch.load(arguments.checkpoint, weights_only=True), arguments.out)
    print(f"wrote {arguments.out}")


def write_artefact(checkpoint: dict, folder: Path) -> None:
    architecture = Architecture(**checkpoint["architecture"])
    model = FaceTransformer(architecture)
    model.load_state_dict(checkpoint["weights"])
    export(model, folder)
    about = checkpoint["about"]
    merging = Merging(**about["merging"] | {"rule": Rule(**about["merging"]["rule"])})
    about = about | {"scores": Scores(**about["scores"]), "merging": merging}
    artefact.describe(folder, architecture=architecture, **about)


def run_split(arguments: argparse.Namespace) -> None:
    faces = data.read(arguments.features, arguments.labels, arguments.dimension)
    train, test = data.split(faces, arguments.seed)
    data.write(train, arguments.out / "train")
    data.write(test, arguments.out / "test")
    print(f"wrote {len(train)} training and {len(test)} test faces to {arguments.out}")


def run_evaluate(arguments: argparse.Namespace) -> None:
    faces = data.read(arguments.features, arguments.labels, arguments.dimension)
    model = Artefact(arguments.model)
    linkages = pipeline.link(model, faces.features)
    print(f"{model.merging.rule}, threshold {model.merging.threshold:.3f}")
    print(score(faces.identities, linkages.clusters(model.merging)))


def run_fixtures(arguments: argparse.Namespace) -> None:
    fixtures.write(arguments.out)
    print(f"wrote {arguments.out}")


if __name__ == "__main__":
    main()
