"""`sweep`: tables 5 and 6 of the paper on a data set: each stage alone, and one size altered at a time.

Every row is a fit of its own on the training half, its merging chosen on validation identities, and scored on the test
half once. A row takes as long as a fit; an interrupted sweep goes on with the rows it lacks.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from facetd_train import pipeline
from facetd_train.data import Faces
from facetd_train.fitting import Trained
from facetd_train.model import Architecture
from facetd_train.scores import Scores, score
from facetd_train.stage import Stage
from facetd_train.training import report

# Table 6. Whichever is the default is no row; hop1 is altered by a fifth, as there.
SIZES = {
    "depth": (1, 2, 4),
    "heads": (2, 4, 8),
    "head_dimension": (32, 64, 128),
    "dropout": (0.2, 0.4, 0.6),
    "hop2": (5, 10, 20),
}
SYMBOLS = {"depth": "d_e", "heads": "n_h", "head_dimension": "d_h", "dropout": "dr", "hop1": "hop1", "hop2": "hop2"}


@dataclass(frozen=True)
class Row:
    altered: str  # "" for the default
    value: str
    merging: str
    validation: Scores
    test: Scores


def architectures(default: Architecture) -> dict[tuple[str, str], Architecture]:
    """What is altered, to what, and the architecture then."""
    found = {("", ""): default}
    found |= {("stage", stage.title): replace(default, stage=stage) for stage in Stage if stage != Stage.RE_LP}
    hop1 = {"hop1": (round(0.8 * default.hop1), round(1.2 * default.hop1))}
    for size, values in (SIZES | hop1).items():
        for value in values:
            if value != getattr(default, size) and (size != "hop2" or value <= default.hop1):
                found[SYMBOLS[size], f"{value:g}"] = replace(default, **{size: value})
    return found


def sweep(
    default: Architecture, fit: Callable[[Architecture], Trained], test: Faces, folder: Path, asked: dict
) -> None:
    """`asked` is whatever else a row depends on: a sweep goes on with the same only."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = read(folder / "sweep.json", plain(default) | asked)
    wanted = architectures(default)
    for (altered, value), architecture in wanted.items():
        if any((row.altered, row.value) == (altered, value) for row in rows):
            continue
        report(f"== {altered or 'default'} {value}")
        trained = fit(architecture)
        merging = trained.merging
        predicted = pipeline.link(trained.model, test.features).clusters(merging)
        said = f"{merging.rule}, {merging.threshold:.3f}"
        rows.append(Row(altered, value, said, trained.scores, score(test.identities, predicted)))
        kept = {"asked": plain(default) | asked, "rows": [asdict(row) for row in rows]}
        (folder / "sweep.json").write_text(json.dumps(kept, indent=1) + "\n")
        (folder / "sweep.md").write_text(markdown(rows))


def read(file: Path, asked: dict) -> list[Row]:
    """The rows of a sweep that was interrupted."""
    if not file.exists():
        return []
    kept = json.loads(file.read_text())
    if kept.get("asked") != asked:
        raise SystemExit(f"{file} is another sweep, of other faces or sizes: remove it, or give --out another folder")
    return [
        Row(**row | {"validation": Scores(**row["validation"]), "test": Scores(**row["test"])}) for row in kept["rows"]
    ]


def plain(architecture: Architecture) -> dict:
    """As JSON gives it back."""
    return json.loads(json.dumps({field.name: getattr(architecture, field.name) for field in fields(architecture)}))


def markdown(rows: Sequence[Row]) -> str:
    lines = [
        "| | value | F_P | F_B | NMI | validation F_P / F_B | merging chosen there |",
        "| --- | --- | ---: | ---: | ---: | --- | --- |",
    ]
    for row in rows:
        figures = " | ".join(f"{100 * value:.2f}" for value in (row.test.pairwise_f, row.test.bcubed_f, row.test.nmi))
        validation = f"{100 * row.validation.pairwise_f:.1f} / {100 * row.validation.bcubed_f:.1f}"
        lines.append(f"| {row.altered or 'default'} | {row.value} | {figures} | {validation} | {row.merging} |")
    return "\n".join(lines) + "\n"
