"""A row of the table: how to cluster a collection, and the settings to choose among."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from importlib.util import find_spec
from itertools import product
from typing import Any

import numpy as np

from facetd_train.compare.collection import Collection
from facetd_train.data import Integers

Value = float | int | str
Setting = dict[str, Value]


class Kind(StrEnum):
    PEER = "peer"
    OURS = "ours"


@dataclass(frozen=True)
class Method:
    """Everything here is known by name to a fresh process, which is where it runs.

    `prepare` does what all settings share, once; `cluster` finishes it for one of them. A row's time is that of both.
    """

    name: str
    prepare: Callable[[Collection], Any]
    cluster: Callable[[Any, Setting], Integers]
    settings: Sequence[Setting] = ({},)  # in the order they are tried: time may end before they do
    package: str = "numpy"  # the module it needs, as it is imported
    kind: Kind = Kind.PEER
    note: str = ""
    missing: str = ""  # why it cannot run at all

    @property
    def here(self) -> bool:
        return find_spec(self.package) is not None


def grid(**values: Sequence[Value]) -> list[Setting]:
    """Every combination; the last name changes fastest."""
    return [dict(zip(values, each, strict=True)) for each in product(*values.values())]


def steps(first: float, last: float, step: float) -> list[float]:
    return np.round(np.arange(first, last + step / 2, step), 6).tolist()


# Clusters are asked for as faces a cluster, in units of the true number on the faces the parameters are chosen on. From
# the middle outwards, for time may end before the grid does.
RATIOS = [1.0, 0.8, 1.25, 0.63, 1.6, 0.5, 2.0]


def clusters(collection: Collection, ratio: Value) -> int:
    """How many clusters these faces have when each holds `ratio` times as many as identities do where it was chosen."""
    wanted = round(len(collection) / (float(ratio) * collection.faces_per_identity))
    return min(max(wanted, 1), len(collection))


def alone(labels: Integers) -> Integers:
    """Noise, which is labelled below 0, as clusters of one face each: no method may leave a face out."""
    noise = labels < 0
    apart = labels.astype(np.int64)
    apart[noise] = labels.max(initial=0) + 1 + np.arange(noise.sum())
    return apart
