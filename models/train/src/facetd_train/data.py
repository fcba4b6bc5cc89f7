"""Labelled faces on disk, and the split of their identities.

Features are `.npy` or learn-to-cluster's `.bin` (headless little-endian f32, row-major), labels its `.meta` (one
integer a line), neighbours its `.npz`. What is wrong with a file is said with its name and the row, the first being 0.
"""

import hashlib
import sys
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]
MAGIC = b"\x93NUMPY"  # what an .npy begins with


@dataclass(frozen=True)
class Lists:
    """Neighbours out of a file, nearest first: `rows [N, k]`, -1 where one is not of these faces; `cosines [N, k]`."""

    rows: Integers
    cosines: Floats

    def of(self, chosen: Integers) -> "Lists":
        """The lists of the faces at these rows, as if there were no others."""
        place = np.full(len(self.rows) + 1, -1)  # the last is where -1 is looked up
        place[chosen] = np.arange(len(chosen))
        return Lists(place[self.rows[chosen]], self.cosines[chosen])


@dataclass(frozen=True)
class Faces:
    """`features [N, d]`, L2-normalised, the identity of each row, and perhaps neighbours that need no search."""

    features: Floats
    identities: Integers
    near: Lists | None = None

    def __len__(self) -> int:
        return len(self.identities)

    @property
    def dimension(self) -> int:
        return self.features.shape[1]

    def rows(self, rows: NDArray[np.bool_] | Integers) -> "Faces":
        near = self.near.of(np.arange(len(self))[rows]) if self.near is not None else None
        return Faces(self.features[rows], self.identities[rows], near)

    def and_those_of(self, other: "Faces") -> "Faces":
        return Faces(
            np.concatenate([self.features, other.features]), np.concatenate([self.identities, other.identities])
        )

    def of(self, identities: Integers) -> "Faces":
        """The faces of these identities, in their order here."""
        return self.rows(np.isin(self.identities, identities))


def read(features: Path, labels: Path, dimension: int | None = None, neighbours: Path | None = None) -> Faces:
    identities = read_labels(labels)
    if features.suffix == ".npz":
        raise SystemExit(f"{features}: features are an .npy or a .bin; an .npz is for --neighbours")
    if dimension is None and features.suffix != ".npy":
        dimension = dimension_by_size(features, labels, len(identities))
    values = read_features(features, dimension)
    if len(values) != len(identities):
        raise SystemExit(
            f"{features} has {len(values)} rows of {values.shape[1]}, but {labels} has {len(identities)} labels: "
            f"check --labels{'' if features.suffix == '.npy' else ' and --dimension'}"
        )
    if len(identities) and (identities == identities[0]).all():
        raise SystemExit(f"{labels}: every row has the label {identities[0]}; there must be two identities at least")
    faces = Faces(normalise(values), identities)
    return with_neighbours(faces, features, neighbours) if neighbours else faces


def with_neighbours(faces: Faces, features: Path, neighbours: Path) -> Faces:
    """Refuses lists of other faces, or with similarities for distances: they would train, and badly."""
    near = Lists(*read_neighbours(neighbours, len(faces)))
    said, true = near.cosines[:, :1], (faces.features * faces.features[near.rows[:, 0]]).sum(axis=1, keepdims=True)
    if (wrong := (np.abs(said - true) > 0.02).any(axis=1)).any():
        row = int(wrong.argmax())
        raise SystemExit(
            f"{neighbours}: row {row} gives its nearest, row {near.rows[row, 0]}, the distance {1 - said[row, 0]:.3f}, "
            f"but by {features} it is {1 - true[row, 0]:.3f}: give the neighbours of these features, with 1 - cosine"
        )
    return replace(faces, near=near)


def dimension_by_size(features: Path, labels: Path, faces: int) -> int:
    """Of a file without a header, which has as many rows as there are labels."""
    size = opened(features).seek(0, 2)
    if not faces or not size or size % (4 * faces):
        raise SystemExit(
            f"{features} holds {size} bytes, not so many f32 for each of the {faces} labels of {labels}: "
            "check --labels, or give --dimension"
        )
    dimension = size // (4 * faces)
    print(f"{features}: {dimension} numbers a face, by its size and the {faces} labels", file=sys.stderr)
    return dimension


def read_features(file: Path, dimension: int | None) -> Floats:
    """Rows as they are in the file; only an `.npy` knows its dimension itself."""
    if file.suffix == ".npy":
        values = read_array(file)
        if values.ndim != 2:
            raise SystemExit(f"{file} holds numbers of shape {values.shape}, not of [faces, dimension]")
        if dimension and values.shape[1] != dimension:
            raise SystemExit(f"{file} has rows of {values.shape[1]}, not of {dimension}: check --dimension")
    else:
        if dimension is None:
            raise SystemExit(f"{file} does not say its dimension: give --dimension")
        values = np.fromfile(opened(file), dtype="<f4")
        if values.size % dimension or file.stat().st_size % 4:
            raise SystemExit(
                f"{file} holds {file.stat().st_size} bytes, not rows of {dimension} f32: check --dimension"
            )
        values = values.reshape(-1, dimension)
    return finite(values, file)


def read_array(file: Path) -> NDArray[np.number]:
    """What an `.npy` holds, of any shape."""
    begins = opened(file).read(len(MAGIC))
    if begins != MAGIC:
        what = "an .npz: save each of its arrays as an .npy" if begins.startswith(b"PK") else "not an .npy"
        raise SystemExit(f"{file} is {what if begins else 'empty'}")
    try:
        values = np.load(opened(file), allow_pickle=False)
    except (ValueError, EOFError) as error:
        what = "objects of Python" if "Object" in str(error) else "less than its head says, or a head that is damaged"
        raise SystemExit(f"{file} holds {what}, not an array of numbers: save it again") from None
    if values.dtype.kind not in "fiu":
        raise SystemExit(f"{file} holds {values.dtype}, not numbers")
    return values


def finite(values: NDArray[np.number], file: Path) -> Floats:
    """The rows as f32, all of whose values are numbers."""
    with np.errstate(over="ignore"):  # f64 beyond f32 becomes infinite, and is said
        values = values.astype(np.float32)
    bad = ~np.isfinite(values).all(axis=1)
    if bad.any():
        more = f", as have {bad.sum() - 1} more" if bad.sum() > 1 else ""
        raise SystemExit(f"{file}: row {bad.argmax()} has a value that is not a finite number{more}")
    if (empty := ~values.any(axis=1)).any():
        raise SystemExit(
            f"{file}: row {empty.argmax()} has length zero, so it has no direction to compare: leave it out"
        )
    return values


def read_labels(file: Path) -> Integers:
    lines = opened(file).read().decode(errors="replace").rstrip().splitlines()
    try:
        return np.array(lines, dtype=np.int64)
    except (ValueError, OverflowError):
        for row, line in enumerate(lines):
            if not whole(line):
                raise SystemExit(f"{file}: row {row} is {line.strip()[:40]!r}, not a whole number of 64 bits") from None
        raise


def whole(text: str) -> bool:
    try:
        return -(1 << 63) <= int(text) < 1 << 63
    except ValueError:
        return False


def read_neighbours(file: Path, faces: int) -> tuple[Integers, Floats]:
    """learn-to-cluster's neighbours, nearest first: rows `[N, k]` and cosines `[N, k]` of other faces.

    The file has `data [N, 2, k]`, row numbers and 1 - cosine, the face itself among them; it is left out here. Where it
    is missing, as it may be among equal faces, the last one is.
    """
    try:
        with np.load(opened(file), allow_pickle=False) as archive:
            data = archive["data"]
    except (ValueError, BadZipFile, EOFError, KeyError, TypeError, AttributeError):
        raise SystemExit(f"{file} is not an .npz with an array called data") from None
    if data.ndim != 3 or data.shape[1] != 2 or data.dtype.kind not in "fiu":
        raise SystemExit(f"{file}: data is {data.dtype} of shape {data.shape}, not numbers of [faces, 2, neighbours]")
    if data.shape[2] < 2:
        raise SystemExit(f"{file}: data is of shape {data.shape}, lists with nobody but the face itself")
    if len(data) != faces:
        raise SystemExit(f"{file} has the neighbours of {len(data)} faces, but there are {faces}")
    rows, distances = data[:, 0], data[:, 1]
    wrong = ~((rows >= 0) & (rows < faces) & (rows == np.floor(rows)) & np.isfinite(distances)).all(axis=1)
    if wrong.any():
        raise SystemExit(
            f"{file}: row {wrong.argmax()} names a face that is not there, or a distance that is no number"
        )
    own = rows == np.arange(faces)[:, None]
    own[~own.any(axis=1), -1] = True
    first = np.arange(data.shape[2]) == own.argmax(axis=1)[:, None]
    kept = (faces, data.shape[2] - 1)
    return rows[~first].reshape(kept).astype(np.int64), (1 - distances[~first]).reshape(kept).astype(np.float32)


def opened(file: Path) -> BinaryIO:
    try:
        return file.open("rb")
    except OSError as error:
        raise SystemExit(f"{file}: {error.strerror}") from None


def enough(faces: Faces, neighbours: int, where: str) -> None:
    """Refuses faces that nothing can be learnt or said of."""
    if (identities := len(np.unique(faces.identities))) < 2:
        raise SystemExit(
            f"{where} has {identities} {'identity' if identities == 1 else 'identities'}; two at least are needed"
        )
    if len(faces) <= neighbours:
        raise SystemExit(f"{where} has {len(faces)} faces; {neighbours} neighbours need {neighbours + 1} at least")


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


def at_most(faces: Faces, count: int, seed: int) -> Faces:
    """All of them, or whole identities, in the shuffle's order, as long as their faces are no more than `count`."""
    if len(faces) <= count:
        return faces
    names, sizes = np.unique(faces.identities, return_counts=True)
    size, taken, total = dict(zip(names.tolist(), sizes.tolist(), strict=True)), [], 0
    for name in shuffled(names, seed).tolist():
        if total + size[name] <= count:
            taken.append(name)
            total += size[name]
    return faces.of(np.array(taken, dtype=np.int64))
