"""Labelled faces on disk, and the split of their identities.

Features are learn-to-cluster's `.bin` (headless little-endian f32, row-major), labels its `.meta` (one integer a line).
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Faces:
    """`features [N, d]`, L2-normalised, and the identity of each row."""

    features: Floats
    identities: Integers

    def __len__(self) -> int:
        return len(self.identities)

    def rows(self, rows: NDArray[np.bool_] | Integers) -> "Faces":
        return Faces(self.features[rows], self.identities[rows])

    def and_those_of(self, other: "Faces") -> "Faces":
        return Faces(
            np.concatenate([self.features, other.features]), np.concatenate([self.identities, other.identities])
        )

    def of(self, identities: Integers) -> "Faces":
        """The faces of these identities, in their order here."""
        return self.rows(np.isin(self.identities, identities))


def read(features: Path, labels: Path, dimension: int) -> Faces:
    identities = np.array(labels.read_text().split(), dtype=np.int64)
    values = np.fromfile(features, dtype="<f4")
    if values.size != len(identities) * dimension:
        raise SystemExit(
            f"{features.name} holds {values.size} numbers, but {len(identities)} labels of {dimension} need "
            f"{len(identities) * dimension}: check --dimension and --labels"
        )
    return Faces(normalise(values.reshape(-1, dimension)), identities)


def write(faces: Faces, stem: Path) -> None:
    stem.parent.mkdir(parents=True, exist_ok=True)
    faces.features.astype("<f4").tofile(stem.with_suffix(".bin"))
    stem.with_suffix(".meta").write_text("".join(f"{identity}\n" for identity in faces.identities))


def normalise(features: Floats) -> Floats:
    """Rows of length 1; a row of zeros stays as it is."""
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    return (features / np.where(lengths > 0, lengths, 1)).astype(np.float32)


def shuffled(names: Iterable[int], seed: int) -> Integers:
    """The names in ascending order of the SHA-256 of `"<seed>:<name>"` (decimal, ASCII, digests compared as bytes).

    A shuffle by hash can be repeated in any language and does not change with a library's random generator.
    """

    def rank(name: int) -> bytes:
        return hashlib.sha256(f"{seed}:{name}".encode()).digest()

    return np.array(sorted((int(name) for name in names), key=rank), dtype=np.int64)


def split_identities(identities: Integers, seed: int) -> tuple[Integers, Integers]:
    """The distinct identities shuffled by `seed`: those at even ranks (0, 2, …) train, those at odd ranks test."""
    order = shuffled(np.unique(identities), seed)
    return order[0::2], order[1::2]


def split(faces: Faces, seed: int) -> tuple[Faces, Faces]:
    """The training and the test half, each with its rows shuffled.

    Rows are shuffled too (by the same rule on the row's number in the file), because files list faces identity by
    identity, an order in which no stream arrives.
    """
    faces = faces.rows(shuffled(range(len(faces)), seed))
    train, test = split_identities(faces.identities, seed)
    return faces.of(train), faces.of(test)


def hold_out(faces: Faces, share: float, seed: int) -> tuple[Faces, Faces]:
    """Faces of `1 - share` of the identities to train on, and those of the rest to validate on."""
    order = shuffled(np.unique(faces.identities), seed + 1)  # another shuffle than the one that made the halves
    held = round(len(order) * share)
    return faces.of(order[held:]), faces.of(order[:held])
