"""The table as bars: pairwise and BCubed F of each method, as SVG."""

from collections.abc import Sequence

from facetd_train.compare.contest import Row
from facetd_train.compare.method import Kind
from facetd_train.svg import GREY, PALE, frame, text

LINE, NAMES, WIDTH, TOP = 34, 190, 520, 56  # pixels: a method's height, its name's width, 100 %, the head
COLOURS = {Kind.PEER: ("#9aa5b1", "#cbd2d9"), Kind.OURS: ("#0b69a3", "#62b0e8")}  # pairwise F, BCubed F


def svg(rows: Sequence[Row], title: str) -> str:
    shown = sorted((row for row in rows if row.scores), key=lambda row: -row.scores.bcubed_f)
    height = TOP + LINE * len(shown) + 30
    parts = [text(12, 42, "upper bar: pairwise F; lower bar: BCubed F; percent, test half", colour=GREY)]
    for percent in range(0, 101, 20):
        x = NAMES + WIDTH * percent / 100
        parts.append(f'<path d="M{x:.1f} {TOP}V{height - 26}" stroke="{PALE}"/>')
        parts.append(text(x, height - 10, str(percent), anchor="middle", colour=GREY))
    for place, row in enumerate(shown):
        y = TOP + LINE * place
        parts.append(text(NAMES - 8, y + 21, row.name, anchor="end"))
        values = (row.scores.pairwise_f, row.scores.bcubed_f)
        for half, (value, colour) in enumerate(zip(values, COLOURS[row.kind], strict=True)):
            top = y + 5 + 13 * half
            parts.append(f'<rect x="{NAMES}" y="{top}" width="{WIDTH * value:.1f}" height="12" fill="{colour}"/>')
            parts.append(text(NAMES + WIDTH * value + 4, top + 10, f"{100 * value:.1f}", size=10))
    return frame(title, NAMES + WIDTH + 60, height, parts)
