"""`gather`: from a folder for each person, with embeddings in `.npy` files, to the one file of features `fit` reads.

A file holds one embedding `[d]` or several `[n, d]`. Rows are in the order of names, so the same folders give the same
files.
"""

from pathlib import Path

import numpy as np

from facetd_train import data
from facetd_train.data import Floats

FEATURES, LABELS, NAMES = "features.npy", "labels.meta", "names.txt"


def gather(folder: Path, out: Path) -> None:
    """Writes features, the number of each one's person, and the names these numbers stand for (line n: number n)."""
    people = sorted(path for path in listed(folder) if path.is_dir() and not path.name.startswith("."))
    if len(people) < 2:
        raise SystemExit(f"{folder} holds {len(people)} folders; each person needs one, and there must be two at least")
    rows: list[Floats] = []
    labels: list[int] = []
    ignored = sum(1 for path in listed(folder) if path.is_file())
    for number, person in enumerate(people):
        if "\n" in person.name:
            raise SystemExit(f"{person!s}: a line break in a name would shift the lines of {NAMES}: rename the folder")
        files = sorted(person.glob("*.npy"))
        ignored += sum(1 for path in person.rglob("*") if path.is_file()) - len(files)
        if not files:
            raise SystemExit(f"{person} holds no .npy file: give each person's embeddings one there, or remove it")
        for file in files:
            values = data.read_array(file)
            values = values[None] if values.ndim == 1 else values
            if values.ndim != 2 or (rows and values.shape[1] != rows[0].shape[1]):
                wanted = rows[0].shape[1] if rows else "dimension"
                raise SystemExit(f"{file} holds numbers of shape {values.shape}, not of [{wanted}] or [n, {wanted}]")
            rows.append(data.finite(values, file))
            labels += [number] * len(values)
    out.mkdir(parents=True, exist_ok=True)
    np.save(out / FEATURES, np.concatenate(rows))
    (out / LABELS).write_text("".join(f"{label}\n" for label in labels))
    (out / NAMES).write_text("".join(f"{person.name}\n" for person in people))
    print(f"{len(labels)} faces of {len(people)} people, {rows[0].shape[1]} wide: {out / FEATURES}, {out / LABELS}")
    if ignored:
        print(f"ignored {ignored} files that are no .npy in a person's own folder")


def listed(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError as error:
        raise SystemExit(f"{folder}: {error.strerror}") from None
