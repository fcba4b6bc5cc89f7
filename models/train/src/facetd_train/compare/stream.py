"""The row *stream*: the test half through facetd itself, face after face, as the daemon's engine takes it.

What the engine says on its way is set beside what one batch of the same faces gives, at each quarter. Of a person of
hundreds of faces either finds a part more or less by a hair, so one order of arrival says little: there are several.
"""

import subprocess
import tempfile
from collections.abc import Iterator, Sequence
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
ORDERS = 5  # of arrival: as the faces are given, then shuffled
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
    """One score of each for each order of arrival."""

    name: str
    stream: list[Scores]
    batch: list[Scores]

    @property
    def figures(self) -> list[str]:
        """Pairwise and BCubed F, in percent: the stream's, the batch's, and how they differ in the mean and at most."""
        stream, batch = (
            100 * np.array([[one.pairwise_f, one.bcubed_f] for one in scores]) for scores in (self.stream, self.batch)
        )
        apart = stream - batch
        furthest = np.take_along_axis(apart, np.abs(apart).argmax(0)[None], 0)[0]
        means = (stream.mean(0), batch.mean(0))
        return [f"{p:.1f} / {b:.1f}" for p, b in means] + [f"{p:+.1f} / {b:+.1f}" for p, b in (apart.mean(0), furthest)]


def moments(facetd: Path, model: Path, test: Judged, orders: int = ORDERS) -> list[Moment]:
    """While faces keep coming at each quarter, and when all have and nothing is stale."""
    features, truth = test.collection.features, test.identities
    names = [*(f"{percent} %" for percent in QUARTERS), "settled"]
    found = [Moment(name, [], []) for name in names]
    given = np.arange(len(features))
    for seed in range(orders):
        order = np.random.default_rng(seed).permutation(given) if seed else given
        scores = side_by_side(facetd, model, features[order], truth[order])
        for moment, (stream, batch) in zip(found, scores, strict=True):
            moment.stream.append(stream)
            moment.batch.append(batch)
    return found


def side_by_side(facetd: Path, model: Path, features: Floats, truth: Integers) -> Iterator[tuple[Scores, Scores]]:
    """The stream's scores and the batch's, at each quarter and settled."""
    with tempfile.TemporaryDirectory() as folder:
        last = cluster(facetd, model, features, Path(folder), ["--stream"])
        on_the_way = [data.read_labels(Path(folder) / f"labels.{percent}") for percent in QUARTERS]
    for labels in on_the_way:
        count = len(labels)
        with tempfile.TemporaryDirectory() as folder:
            batch = score(truth[:count], cluster(facetd, model, features[:count], Path(folder)))
        yield score(truth[:count], labels), batch
    yield score(truth, last), batch  # of all of them: the last quarter's


def markdown(moments: Sequence[Moment]) -> str:
    lines = [
        "| the stream at | stream F_P / F_B | batch F_P / F_B | difference | furthest |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    lines += [f"| {' | '.join([moment.name, *moment.figures])} |" for moment in moments]
    return "\n".join(lines) + "\n"
