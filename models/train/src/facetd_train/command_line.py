"""Command line: `gather`, `fit`, `export`, `split`, `evaluate`, `sweep`, `compare`, `fixtures`."""

import argparse
import hashlib
import time
from dataclasses import asdict, replace
from pathlib import Path

import torch

from facetd_train import data, device, fixtures, pipeline, presets
from facetd_train.artefact import Artefact
from facetd_train.compare import command as compare
from facetd_train.fitting import STAGES, Trained, fit
from facetd_train.gather import gather
from facetd_train.keeping import NOTHING, Keep
from facetd_train.model import Architecture
from facetd_train.presets import PRESETS, Preset
from facetd_train.release import Release
from facetd_train.scores import score
from facetd_train.stage import Stage
from facetd_train.sweep import sweep
from facetd_train.training import Plan, report


def main() -> None:
    arguments = parser().parse_args()
    torch.set_num_threads(arguments.threads)
    try:
        arguments.command(arguments)
    except OSError as error:  # a folder that cannot be written, a full disk
        raise SystemExit(f"{error.filename or 'error'}: {error.strerror or error}") from None


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="facetd_train", description=__doc__)
    top.add_argument("--threads", type=int, default=2, help="CPU threads (default 2)")
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: object, text: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=text, description=text)
        made.set_defaults(command=run)
        return made

    def labelled(made: argparse.ArgumentParser) -> None:
        made.add_argument("--features", type=Path, required=True, help=".npy, or learn-to-cluster's .bin")
        made.add_argument("--labels", type=Path, required=True, help="one integer a line")
        made.add_argument("--dimension", type=positive, help="of a .bin (default: its size, by the number of labels)")

    made = command("fit", run_fit, "Train a model and write its artefact.")
    labelled(made)
    made.add_argument("--preset", choices=PRESETS, help="(default: the paper's, or what suits as many faces as these)")
    made.add_argument("--neighbours", type=Path, help="learn-to-cluster's .npz: trains on these instead of a search")
    made.add_argument("--out", type=Path, required=True, help="folder of the artefact")
    made.add_argument("--stages", action="store_true", help="also RE alone and LP alone, each a fit of its own")
    made.add_argument("--name", help="the model's name (default: the folder's)")
    made.add_argument("--data", help="the data's name in model.toml (default: the features file's)")
    made.add_argument("--epochs", type=positive, help="instead of the preset's")
    made.add_argument("--seed", type=int, default=0, help="of training; the halves are always split with seed 0")
    made.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="(default: CUDA when there)")
    keep_help = "folder of what an interrupted fit goes on from, and of checkpoint.pt, for export"
    made.add_argument("--keep", type=Path, help=keep_help)

    made = command("export", run_export, "Write the artefact of a fitted model again, from its checkpoint.")
    made.add_argument("--checkpoint", type=Path, required=True, help="checkpoint.pt, which fit writes with --keep")
    made.add_argument("--out", type=Path, required=True)

    made = command("gather", run_gather, "Make features and labels of a folder for each person, with .npy files in it.")
    made.add_argument("--folder", type=Path, required=True, help="the folder that holds the folders")
    made.add_argument("--out", type=Path, required=True)

    made = command("split", run_split, "Write the training and the test half: train.bin/.meta and test.bin/.meta.")
    labelled(made)
    made.add_argument("--out", type=Path, required=True)
    made.add_argument("--seed", type=int, default=SPLIT_SEED)

    made = command("evaluate", run_evaluate, "Score an artefact on labelled faces.")
    labelled(made)
    made.add_argument("--model", type=Path, required=True, help="folder of the artefact")

    made = command("sweep", run_sweep, "The paper's tables 5 and 6: each stage alone, and one size altered at a time.")
    labelled(made)
    made.add_argument("--preset", choices=PRESETS, default="paper", help="what is altered (default: the paper's)")
    made.add_argument("--epochs", type=positive, help="instead of the preset's")
    made.add_argument("--seed", type=int, default=0, help="of training; the halves are always split with seed 0")
    made.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="(default: CUDA when there)")
    made.add_argument("--out", type=Path, required=True, help="folder of sweep.md; one that is there goes on")

    made = command("compare", compare.run, "The table of other methods and the model's stages, tuned alike.")
    labelled(made)
    compare.options(made)

    made = command("fixtures", run_fixtures, "Write the tiny model and the recorded cases the Rust tests use.")
    made.add_argument("--out", type=Path, required=True)
    return top


def positive(text: str) -> int:
    if (number := int(text)) < 1:
        raise ValueError  # argparse says it
    return number


SPLIT_SEED = 0


def run_fit(arguments: argparse.Namespace) -> None:
    started = time.monotonic()
    where = device.choose(arguments.device)
    faces = data.read(arguments.features, arguments.labels, arguments.dimension, arguments.neighbours)
    preset = PRESETS[arguments.preset] if arguments.preset else suited(faces, arguments.epochs)
    architecture = replace(preset.architecture, dimension=faces.dimension)
    plan = replace(preset.plan, seed=arguments.seed, epochs=arguments.epochs or preset.plan.epochs)
    asked = {"--preset": arguments.preset, "--device": where.type} | fingerprints(faces) | asdict(architecture)
    keep = Keep(arguments.keep, asked | asdict(plan)) if arguments.keep else NOTHING
    arguments.out.mkdir(parents=True, exist_ok=True)  # now, not after hours
    if (arguments.out / "model.toml").exists():
        report(f"{arguments.out} holds a model, which this one takes the place of once it is done")
    if preset.halved:
        faces, _ = data.split(faces, SPLIT_SEED)
    train, held_out = parts(faces, plan, architecture.hop1, arguments.features)
    report(f"device: {where.type}")
    stages: dict[Stage, Trained] = {}
    try:
        for stage in (Stage.RE_LP, *(STAGES if arguments.stages else ()), Stage.NAIVE):
            report(f"== {stage.title}")
            stages[stage] = fit(train, held_out, replace(architecture, stage=stage), plan, where, keep.of(stage))
    except KeyboardInterrupt:
        if keep.holds_something():
            report(f"interrupted: the same command goes on from the last checkpoint in {arguments.keep}")
        elif arguments.keep:
            report("interrupted before the first checkpoint")
        else:
            report("interrupted: with --keep DIR the same command would go on from its last checkpoint")
        raise
    name, called = arguments.name or arguments.out.resolve().name, arguments.data or arguments.features.stem
    release = Release.of(name, called, plan.seed, stages)
    if arguments.keep:
        release.keep(arguments.keep / "checkpoint.pt")
    release.write(arguments.out)
    keep.clear()
    print(f"wrote {arguments.out} after {time.monotonic() - started:.0f} s")


def parts(faces: data.Faces, plan: Plan, hop1: int, features: Path) -> tuple[data.Faces, data.Faces]:
    """What is trained on, and what is held out for validation."""
    train, held_out = data.hold_out(faces, plan.validation, plan.seed)
    data.enough(train, hop1, f"the part of {features} to train on")
    data.enough(held_out, 1, f"the part of {features} held out for validation")
    return train, held_out


def suited(faces: data.Faces, epochs: int | None = None) -> Preset:
    """`epochs`: those that were asked for, which are no change to tell of."""
    preset, changes = presets.suited(len(faces), faces.dimension, frozenset({"epochs"} if epochs else ()))
    report(f"{len(faces)} faces: the paper's defaults" + (", but for" if changes else ""))
    for line in changes:
        report(f"  {line}")
    return preset


def fingerprints(faces: data.Faces) -> dict[str, str]:
    """Of what was read, to tell whether it is the same when a fit goes on."""
    neighbours = faces.near.rows if faces.near else faces.identities[:0]
    columns = {"--features": faces.features, "--labels": faces.identities, "--neighbours": neighbours}
    return {name: hashlib.sha256(values).hexdigest()[:8] for name, values in columns.items()}


def run_export(arguments: argparse.Namespace) -> None:
    Release.read(arguments.checkpoint).write(arguments.out)
    print(f"wrote {arguments.out}")


def run_gather(arguments: argparse.Namespace) -> None:
    gather(arguments.folder, arguments.out)


def run_split(arguments: argparse.Namespace) -> None:
    faces = data.read(arguments.features, arguments.labels, arguments.dimension)
    train, test = data.split(faces, arguments.seed)
    data.write(train, arguments.out / "train")
    data.write(test, arguments.out / "test")
    print(f"wrote {len(train)} training and {len(test)} test faces to {arguments.out}")


def run_evaluate(arguments: argparse.Namespace) -> None:
    model = Artefact(arguments.model)
    faces = data.read(arguments.features, arguments.labels, arguments.dimension)
    if faces.dimension != model.dimension:
        raise SystemExit(
            f"{arguments.features} has rows of {faces.dimension}, but {arguments.model} is of {model.dimension}: "
            "check --dimension, or take the model's own features"
        )
    data.enough(faces, 1, str(arguments.features))
    linkages = pipeline.link(model, faces.features)
    print(f"{model.merging.rule}, threshold {model.merging.threshold:.3f}")
    print(score(faces.identities, linkages.clusters(model.merging)))


def run_sweep(arguments: argparse.Namespace) -> None:
    where, preset = device.choose(arguments.device), PRESETS[arguments.preset]
    faces = data.read(arguments.features, arguments.labels, arguments.dimension)
    default = replace(preset.architecture, dimension=faces.dimension)
    plan = replace(preset.plan, seed=arguments.seed, epochs=arguments.epochs or preset.plan.epochs)
    half, test = data.split(faces, SPLIT_SEED)
    train, held_out = parts(half, plan, round(1.2 * default.hop1), arguments.features)

    def one(architecture: Architecture) -> Trained:
        return fit(train, held_out, architecture, plan, where)

    asked = asdict(plan) | fingerprints(faces) | {"--device": where.type}
    sweep(default, one, test, arguments.out, asked)
    print(f"wrote {arguments.out / 'sweep.md'}")


def run_fixtures(arguments: argparse.Namespace) -> None:
    fixtures.write(arguments.out)
    print(f"wrote {arguments.out}")
