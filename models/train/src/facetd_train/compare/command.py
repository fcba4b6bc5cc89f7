"""`compare`: the whole table on one data set."""

import argparse
import os
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

from facetd_train import data
from facetd_train.artefact import Artefact
from facetd_train.compare import centres, chart, density, graphs, immich, rows, stages, stream, table
from facetd_train.compare.collection import Judged
from facetd_train.compare.contest import Limits, Row, enter
from facetd_train.compare.method import Method

SPLIT_SEED = HOLD_OUT_SEED = 0  # fit's own
PEERS = [*centres.METHODS, *density.METHODS, *graphs.METHODS, *immich.METHODS]
PACKAGES = ("scikit-learn", "scipy", "infomap", "finch-clust", "fishdbc")


def options(made: argparse.ArgumentParser) -> None:
    made.add_argument("--model", type=Path, help="folder that fit wrote on these faces, for the rows of RE and LP")
    made.add_argument("--facetd", type=Path, help="the program, for the row of the stream")
    made.add_argument("--out", type=Path, required=True, help="folder of comparison.md and comparison.svg")
    made.add_argument("--neighbours", type=int, default=24, help="of methods that look at neighbours (default 24)")
    made.add_argument("--validation", type=float, default=0.35, help="share of identities fit held out (default 0.35)")
    made.add_argument("--minutes", type=float, default=10, help="for choosing, and for the run itself (default 10)")
    made.add_argument("--memory", type=float, default=8, help="GiB a method may take (default 8)")
    made.add_argument("--flatter", action="store_true", help="also the best on the test half, to check the choice by")
    made.add_argument("--only", metavar="NAME,…", help="these methods; the other rows stay as an earlier run left them")


def run(arguments: argparse.Namespace) -> None:
    started = time.monotonic()
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):  # of the processes methods run in
        os.environ[variable] = str(arguments.threads)
    choosing, test = halves(arguments)
    methods = [*PEERS, *stages.methods(arguments.model, arguments.facetd)]
    order = [method.name for method in methods]
    if arguments.only:
        methods = named(methods, arguments.only)
    limits = Limits(60 * arguments.minutes, arguments.memory)
    arguments.out.mkdir(parents=True, exist_ok=True)
    found = {row.name: row for row in rows.read(arguments.out)} if arguments.only else {}
    for method in methods:
        row = enter(method, choosing, test, limits, arguments.flatter)
        found[row.name] = row
        print(f"{row.name:24}  {row.scores or 'no scores'}  {row.note}", file=sys.stderr, flush=True)
        # After each: an interrupted run leaves what it has.
        write([found[name] for name in order if name in found], arguments, choosing, test)
    if any(method.name == "stream" and not method.missing for method in methods):
        quarters = stream.markdown(stream.moments(arguments.facetd, arguments.model, test))
        (arguments.out / "stream.md").write_text(quarters)
    print(f"wrote {arguments.out / 'comparison.md'} after {time.monotonic() - started:.0f} s")


def halves(arguments: argparse.Namespace) -> tuple[Judged, Judged]:
    """Where parameters are chosen, and where they are judged."""
    faces = data.read(arguments.features, arguments.labels, arguments.dimension)
    train, test = data.split(faces, SPLIT_SEED)
    _, held_out = data.hold_out(train, arguments.validation, HOLD_OUT_SEED)
    for half, name in ((train, "training"), (test, "test")):
        data.enough(half, arguments.neighbours, f"the {name} half of {arguments.features}")
    if not len(held_out):
        raise SystemExit(f"--validation {arguments.validation} of {arguments.labels} holds no identity")
    if arguments.model and (width := Artefact(arguments.model).dimension) != faces.features.shape[1]:
        raise SystemExit(
            f"{arguments.model} is of {width} dimensions, {arguments.features} of {faces.features.shape[1]}"
        )
    scored = np.unique(held_out.identities)
    each = len(train) / len(np.unique(train.identities))
    return (
        Judged.of(train, scored, arguments.neighbours, each),
        Judged.of(test, np.unique(test.identities), arguments.neighbours, each),
    )


def named(methods: list[Method], names: str) -> list[Method]:
    wanted = [name.strip() for name in names.split(",")]
    unknown = set(wanted) - {method.name for method in methods}
    if unknown:
        known = ", ".join(method.name for method in methods)
        raise SystemExit(f"--only: there is no {', '.join(sorted(unknown))}; there are {known}")
    return [method for method in methods if method.name in wanted]


def write(found: list[Row], arguments: argparse.Namespace, choosing: Judged, test: Judged) -> None:
    name = arguments.features.stem
    held_out = len(np.unique(choosing.identities[choosing.scored]))
    about = (
        f"# {name}\n\n"
        f"Test half: {len(test.identities)} faces of {len(np.unique(test.identities))} people. Parameters were chosen "
        f"on the training half, {len(choosing.identities)} faces, by the mean of both F of the {choosing.scored.sum()} "
        f"faces of {held_out} validation identities in it. {arguments.neighbours} neighbours. "
        f"{arguments.threads} thread{'s' * (arguments.threads > 1)}; {versions()}.\n\n"
    )
    doubts = doubt(arguments, choosing)
    flattered = "\n*Best on test* was chosen on the test half itself: it flatters, and is no result.\n"
    text = about + doubts + table.markdown(found, arguments.flatter) + (flattered if arguments.flatter else "")
    (arguments.out / "comparison.md").write_text(text + "\n" + table.not_run_here())
    (arguments.out / "comparison.svg").write_text(chart.svg(found, name))
    rows.keep(found, arguments.out)


def doubt(arguments: argparse.Namespace, choosing: Judged) -> str:
    """A model that was fitted on the validation identities looks better there than it is."""
    if not arguments.model:
        return ""
    fitted = stages.trained_identities(arguments.model)
    ours = len(np.unique(choosing.identities[~choosing.scored]))
    if fitted == ours:
        return ""
    return (
        f"The model was fitted on {fitted} identities, this split leaves {ours}: it comes from other faces or another "
        "share of validation, and may have seen those it is tuned on.\n\n"
    )


def versions() -> str:
    def one(package: str) -> str:
        try:
            return f"{package} {version(package)}"
        except PackageNotFoundError:
            return f"{package} missing"

    return ", ".join(one(package) for package in PACKAGES)
