"""The table as Markdown."""

from collections.abc import Iterable

from facetd_train.compare.contest import Found, Row
from facetd_train.compare.method import Setting, Value
from facetd_train.compare.published import DDC_IJBB, FACET_IJBB, MS1M
from facetd_train.scores import Scores

EMPTY = "–"  # noqa: RUF001, a dash in a table


def markdown(rows: Iterable[Row], flatter: bool) -> str:
    """A line each, in the order they come."""
    header = ["method", "F_P", "F_B", "NMI", "time", "validation F_P / F_B", "chosen there"]
    lines = [[*header, *(["*best on test F_P / F_B*"] if flatter else []), "remarks"]]
    lines.append(["---", *["---:"] * 4, *["---"] * (len(lines[0]) - 5)])
    for row in rows:
        cells = [row.name, *three(row.scores), duration(row.seconds) if row.scores else EMPTY]
        cells += [both(row.chosen), said(row.chosen.setting) if row.chosen else EMPTY]
        if flatter:
            cells.append(f"*{both(row.flattering)}*" if row.flattering else EMPTY)
        lines.append([*cells, row.note])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def not_run_here() -> str:
    """What the paper itself reports, beside its own method."""
    lines = [
        "| not run here: the paper's figures, MS-Celeb-1M, 584K faces | F_P | F_B | NMI | time |",
        "| --- | ---: | ---: | ---: | ---: |",
        f"| DDC | {EMPTY} | {EMPTY} | {EMPTY} | {EMPTY} |",
    ]
    for one in MS1M:
        lines.append(f"| {one.name} | {one.pairwise_f:.2f} | {one.bcubed_f:.2f} | {one.nmi:.2f} | {one.time} |")
    lines.append("")
    lines.append(
        f"The paper has no MS-Celeb-1M figure of DDC; on IJB-B (512 identities) it gives BCubed F {DDC_IJBB} "
        f"to DDC and {FACET_IJBB} to FaceT. Its times are of another machine, with a GPU."
    )
    return "\n".join(lines) + "\n"


def three(scores: Scores | None) -> list[str]:
    if scores is None:
        return [EMPTY] * 3
    return [f"{100 * value:.2f}" for value in (scores.pairwise_f, scores.bcubed_f, scores.nmi)]


def both(found: Found | None) -> str:
    return EMPTY if found is None else f"{100 * found.scores.pairwise_f:.1f} / {100 * found.scores.bcubed_f:.1f}"


def said(setting: Setting) -> str:
    def one(value: Value) -> str:
        return f"{value:g}" if isinstance(value, float) else str(value)

    return ", ".join(f"{name} {one(value)}" for name, value in setting.items())


def duration(seconds: float) -> str:
    if seconds < 0.095:
        return f"{1000 * seconds:.0f} ms"
    return f"{seconds:.1f} s" if seconds < 100 else f"{seconds / 60:.1f} min"
