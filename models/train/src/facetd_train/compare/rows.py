"""The rows of a table on disk, so that a run of some methods leaves the others' as they were."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from facetd_train.compare.contest import Found, Row
from facetd_train.compare.method import Kind
from facetd_train.scores import Scores

FILE = "comparison.json"


def keep(rows: Sequence[Row], folder: Path) -> None:
    (folder / FILE).write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")


def read(folder: Path) -> list[Row]:
    """Those of an earlier run; none where there was none."""
    file = folder / FILE
    if not file.exists():
        return []
    try:
        return [row(**kept) for kept in json.loads(file.read_text())]
    except (TypeError, ValueError) as error:
        raise SystemExit(
            f"{file} does not hold the rows of a table ({error}): remove it, and run every method"
        ) from None


def row(kind: str, scores: dict | None, chosen: dict | None, flattering: dict | None, **rest: str | float) -> Row:
    return Row(
        kind=Kind(kind), scores=scores and Scores(**scores), chosen=found(chosen), flattering=found(flattering), **rest
    )


def found(kept: dict | None) -> Found | None:
    return kept and Found(kept["setting"], Scores(**kept["scores"]))
