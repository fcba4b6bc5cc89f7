"""Charts as small SVG files that read well in a diff: a frame, words, and lines over two axes."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

PALE, GREY, INK = "#e4e7eb", "#52606d", "#1f2933"
COLOURS = ("#0b69a3", "#d64545", "#3f9142", "#8d2b8e", "#cb6e17")
WIDTH, HEIGHT = 560, 400  # pixels
LEFT, RIGHT, TOP, BOTTOM = 60, 20, 44, 52


@dataclass(frozen=True)
class Line:
    name: str
    x: Sequence[float]
    y: Sequence[float]


@dataclass(frozen=True)
class Axis:
    name: str
    low: float
    high: float

    def place(self, value: float) -> float:
        """0..1 along the axis."""
        return (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)

    def ticks(self) -> list[float]:
        return [self.low + (self.high - self.low) * tick / 5 for tick in range(6)]


def lines(title: str, x: Axis, y: Axis, drawn: Sequence[Line], mark: float | None = None) -> str:
    """`mark` is a place on the x axis worth a dashed line."""
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM

    def across(value: float) -> float:
        return LEFT + (right - LEFT) * x.place(value)

    def up(value: float) -> float:
        return bottom - (bottom - TOP) * y.place(value)

    parts = []
    for tick in x.ticks():
        parts.append(f'<path d="M{across(tick):.1f} {TOP}V{bottom}" stroke="{PALE}"/>')
        parts.append(text(across(tick), bottom + 18, f"{tick:.3g}", anchor="middle", colour=GREY))
    for tick in y.ticks():
        parts.append(f'<path d="M{LEFT} {up(tick):.1f}H{right}" stroke="{PALE}"/>')
        parts.append(text(LEFT - 8, up(tick) + 4, f"{tick:.3g}", anchor="end", colour=GREY))
    parts.append(text((LEFT + right) / 2, HEIGHT - 12, x.name, anchor="middle"))
    parts.append(text(LEFT, TOP - 10, y.name, colour=GREY))
    if mark is not None:
        parts.append(f'<path d="M{across(mark):.1f} {TOP}V{bottom}" stroke="{GREY}" stroke-dasharray="4 3"/>')
    for number, line in enumerate(drawn):
        colour = COLOURS[number % len(COLOURS)]
        seen = [(a, b) for a, b in zip(line.x, line.y, strict=True) if x.low <= a <= x.high]
        points = " ".join(f"{across(a):.1f},{up(b):.1f}" for a, b in seen)
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts.append(text(right - 8, bottom - 12 - 16 * (len(drawn) - 1 - number), line.name, "end", colour))
    return frame(title, WIDTH, HEIGHT, parts)


def frame(title: str, width: int, height: int, parts: Sequence[str]) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        'font-family="sans-serif" font-size="12">'
    )
    ground = f'<rect width="{width}" height="{height}" fill="white"/>'
    return "\n".join(
        [head, f"<title>{escape(title)}</title>", ground, text(12, 22, title, size=15), *parts, "</svg>\n"]
    )


def text(x: float, y: float, words: str, anchor: str = "start", colour: str = INK, size: int = 12) -> str:
    style = f'text-anchor="{anchor}" fill="{colour}" font-size="{size}"'
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{escape(words)}</text>'
