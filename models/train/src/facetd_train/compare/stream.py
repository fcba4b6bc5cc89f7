"""The row *stream*: the test half through facetd itself, face after face, as the daemon's engine takes it.

What the engine says on its way is set beside what one batch of the same faces gives, at each quarter.
"""

import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from facetd_train import data
from facetd_train.compare.collection import Collection, Judged
from facetd_train.compare.method import Kind, Method, Setting
from facetd_train.data import Floats, Integers
from facetd_train.scores import Scores, score

QUARTERS = (25, 50, 75, 100)  # percent of the faces
INDEX = "hnsw"  # the daemon's


def method(facetd: Path | None, folder: Path | None) -> Method:
    missing = "no --facetd" if facetd is None else "no --model" if folder is None else ""
    cluster = partial(settled, facetd, folder)
    return Method("stream", as_it_is, cluster, kind=Kind.OURS, note="facetd's engine, once settled", missing=missing)


def as_it_is(collection: Collection) -> Collection:
    return collection


def settled(facetd: Path, model: Path, collection: Collection, _: Setting) -> Integers:
    with tempfile.TemporaryDirectory() as folder:
        return cluster(facetd, model, collection.features, Path(folder), ["--stream"])


def cluster(facetd: Path, model: Path, features: Floats, folder: Path, more: Sequence[str] = ()) -> Integers:
    """The labels `facetd cluster` gives; what else it writes stands beside `labels` in the folder."""
    faces, labels = folder / "features.npy", folder / "labels"
    np.save(faces, features)
    command = [facetd.resolve(), "cluster", "--features", faces, "--model", model, "--labels", labels, *more]
    ran = subprocess.run([*command, "--index", INDEX], capture_output=True, text=True)
    if ran.returncode:
        raise SystemExit(f"{facetd}: {ran.stderr.strip()}")
    return data.read_labels(labels)


@dataclass(frozen=True)
class Moment:
    name: str
    stream: Scores
    batch: Scores


def moments(facetd: Path, model: Path, test: Judged) -> list[Moment]:
    """While faces keep coming at each quarter, and when all have and nothing is stale."""
    features, truth = test.collection.features, test.identities
    found = []
    with tempfile.TemporaryDirectory() as folder:
        last = cluster(facetd, model, features, Path(folder), ["--stream"])
        on_the_way = {percent: data.read_labels(Path(folder) / f"labels.{percent}") for percent in QUARTERS}
    for percent, labels in on_the_way.items():
        count = len(labels)
        with tempfile.TemporaryDirectory() as folder:
            batch = score(truth[:count], cluster(facetd, model, features[:count], Path(folder)))
        found.append(Moment(f"{percent} %", score(truth[:count], labels), batch))
    return [*found, Moment("settled", score(truth, last), found[-1].batch)]


def markdown(moments: Sequence[Moment]) -> str:
    lines = ["| the stream at | stream F_P / F_B | batch F_P / F_B | difference |", "| --- | ---: | ---: | ---: |"]
    for moment in moments:
        stream, batch = moment.stream, moment.batch
        apart = (stream.pairwise_f - batch.pairwise_f, stream.bcubed_f - batch.bcubed_f)
        lines.append(
            f"| {moment.name} | {100 * stream.pairwise_f:.1f} / {100 * stream.bcubed_f:.1f} "
            f"| {100 * batch.pairwise_f:.1f} / {100 * batch.bcubed_f:.1f} "
            f"| {100 * apart[0]:+.1f} / {100 * apart[1]:+.1f} |"
        )
    return "\n".join(lines) + "\n"
