"""`gather`: from a folder for each person, with embeddings in `.npy` files, to the one file of features `fit` reads.

A file holds one embedding `[d]` or several `[n, d]`. Rows are in the order of names, so the same folders give the same
files.
"""

import sys
from pathlib import Path

import numpy as np

from facetd_train import data
from facetd_train.data import Floats

FEATURES, LABELS, NAMES = "features.npy", "labels.meta", "names.txt"
NAMED = 5  # ignored files that are named


def gather(folder: Path, out: Path) -> None:
    """Writes features, the number of each one's person, and the names these numbers stand for (line n: number n)."""
    people = sorted(path for path in listed(folder) if path.is_dir() and not path.name.startswith("."))
    if len(people) < 2:
        raise SystemExit(f"{folder} holds {len(people)} folders; each person needs one, and there must be two at least")
    rows: list[Floats] = []
    labels: list[int] = []
    first = None  # whose width the others have to have
    ignored = [path for path in listed(folder) if path.is_file()]
    for number, person in enumerate(people):
        check_name(person)
        files = sorted(path for path in person.glob("*.npy") if not path.name.startswith("."))
        others = sorted({path for path in person.rglob("*") if path.is_file()} - set(files))
        ignored += others
        if not files:
            there = f", but {others[0].relative_to(person)}" if others else ""
            raise SystemExit(
                f"{person} holds no .npy file{there}: give each person's embeddings one there, or remove the folder"
            )
        for file in files:
            values = data.read_array(file)
            values = values[None] if values.ndim == 1 else values
            first = first or (file, values.shape[-1] if values.ndim else 0)
            if values.ndim != 2 or values.shape[1] != first[1]:
                others_have = f", as in {first[0]}" if file != first[0] else ""
                wanted = first[1] if others_have else "dimension"
                raise SystemExit(
                    f"{file} holds numbers of shape {values.shape}, not of [{wanted}] or [n, {wanted}]{others_have}"
                )
            if not len(values):
                raise SystemExit(f"{file} holds no embedding, an array of shape {values.shape}: remove it")
            rows.append(data.finite(values, file))
            labels += [number] * len(values)
    out.mkdir(parents=True, exist_ok=True)
    (out / NAMES).write_text("".join(f"{person.name}\n" for person in people))
    (out / LABELS).write_text("".join(f"{label}\n" for label in labels))
    np.save(out / FEATURES, np.concatenate(rows))
    print(f"{len(labels)} faces of {len(people)} people, {rows[0].shape[1]} wide: {out / FEATURES}, {out / LABELS}")
    if ignored:
        named = ", ".join(str(path.relative_to(folder)) for path in ignored[:NAMED])
        more = f" and {len(ignored) - NAMED} more" if len(ignored) > NAMED else ""
        print(f"ignored, being no .npy in a person's own folder: {named}{more}", file=sys.stderr)


def check_name(person: Path) -> None:
    if "\n" in person.name:
        raise SystemExit(f"{person!s}: a line break in a name would shift the lines of {NAMES}: rename the folder")
    try:
        person.name.encode()
    except UnicodeEncodeError:
        raise SystemExit(f"{str(person)!a}: the name is not UTF-8, as {NAMES} is: rename the folder") from None


def listed(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError as error:
        raise SystemExit(f"{folder}: {error.strerror}") from None
