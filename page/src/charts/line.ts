// A chart of the last minutes: up to four lines over the time of day, and a legend with their values now, or at the moment
// pointed at, which all charts share.

import type { Cell } from "../cell";
import { fill, h, s, say, set } from "../dom";
import { hourAndMinute, NOTHING, timeOfDay } from "../format";
import { SHOWN_MS } from "../metrics/history";
import { EVERY_MS } from "../metrics/watch";
import { ticks, times } from "./scale";

export interface Line<P> {
  name: string;
  of: (point: P) => number | undefined;
  /** Written beside the value in the legend where it differs from the chart's. */
  format?: (value: number | undefined) => string;
  /** In the legend alone: its unit is not that of the axis. */
  undrawn?: true;
}

export interface Look<P> {
  title: string;
  unit: string;
  lines: Line<P>[];
  format: (value: number | undefined) => string;
  axis: (value: number) => string;
  /** The axis goes at least so far, so that noise near 0 does not fill the chart. */
  smallest: number;
}

const HEIGHT = 132;
const TOP = 6;
const BOTTOM = 18;
const LEFT = 48;
const RIGHT = 8;
/** So much at least, and then as much as there is: a page just opened is not an empty chart with a stub at its end. */
const LEAST_MS = 60_000;

export class LineChart<P extends { at: number }> {
  readonly element: HTMLElement;
  readonly #svg = s("svg", { class: "plot", role: "img", height: HEIGHT });
  readonly #values: HTMLElement[];
  readonly #when = h("span", { class: "when" });
  readonly #look: Look<P>;
  readonly #pointed: Cell<number | undefined>;
  #points: readonly P[] = [];
  #until = Date.now();
  #width = 320;

  constructor(look: Look<P>, pointed: Cell<number | undefined>, signal: AbortSignal) {
    this.#look = look;
    this.#pointed = pointed;
    this.#values = look.lines.map(() => h("dd", {}, NOTHING));
    const legend = look.lines.map((line, at) =>
      h(
        "div",
        {},
        h("dt", {}, line.undrawn ? null : h("i", { class: `swatch line-${at}` }), line.name),
        this.#values[at],
      ),
    );
    this.element = h(
      "section",
      { class: "panel chart" },
      h("header", {}, h("h3", {}, look.title), h("span", { class: "unit" }, look.unit), this.#when),
      h("dl", { class: "legend" }, ...legend),
      this.#svg,
    );

    const resized = new ResizeObserver(() => {
      const width = Math.round(this.#svg.getBoundingClientRect().width);
      if (width > 0 && width !== this.#width) {
        this.#width = width;
        this.#draw();
      }
    });
    resized.observe(this.#svg);
    signal.addEventListener("abort", () => resized.disconnect(), { once: true });

    this.#svg.addEventListener("pointermove", (event) => {
      const x = event.clientX - this.#svg.getBoundingClientRect().left;
      const from = this.#from();
      const at = from + ((x - LEFT) / (this.#width - LEFT - RIGHT)) * (this.#until - from);
      pointed.value = Math.min(this.#until, Math.max(from, at));
    });
    this.#svg.addEventListener("pointerleave", () => (pointed.value = undefined));
    pointed.watch(signal, () => this.#draw());
  }

  show(points: readonly P[], until: number): void {
    this.#points = points;
    this.#until = until;
    this.#draw();
  }

  #from(): number {
    const first = this.#points[0]?.at ?? this.#until;
    return Math.max(this.#until - SHOWN_MS, Math.min(first, this.#until - LEAST_MS));
  }

  #draw(): void {
    const { lines, axis, smallest, format } = this.#look;
    const width = this.#width;
    const from = this.#from();
    const drawn = lines.map((line, at) => ({ line, at })).filter(({ line }) => !line.undrawn);
    const highest = Math.max(
      0,
      ...this.#points.flatMap((point) => drawn.map(({ line }) => finite(line.of(point)) ?? 0)),
    );
    const levels = ticks(highest, 4, smallest);
    const top = levels.at(-1) ?? 1;
    const x = (at: number): number => LEFT + ((at - from) / (this.#until - from)) * (width - LEFT - RIGHT);
    const y = (value: number): number => HEIGHT - BOTTOM - (value / top) * (HEIGHT - TOP - BOTTOM);
    const right = width - RIGHT;

    const marks = times(from, this.#until, (width - LEFT) / 64);
    const clock = marks.some((at) => at % 60_000) ? timeOfDay : hourAndMinute;
    const parts: SVGElement[] = [];
    for (const level of levels) {
      const at = Math.round(y(level)) + 0.5;
      parts.push(s("line", { class: level ? "grid" : "base", x1: LEFT, x2: right, y1: at, y2: at }));
      parts.push(s("text", { class: "tick", x: LEFT - 6, y: at + 3.5, "text-anchor": "end" }, axis(level)));
    }
    for (const at of marks) {
      const centre = Math.round(x(at)) + 0.5;
      if (centre < LEFT + 18 || centre > right - 18) continue;
      parts.push(s("line", { class: "base", x1: centre, x2: centre, y1: HEIGHT - BOTTOM, y2: HEIGHT - BOTTOM + 4 }));
      parts.push(s("text", { class: "tick", x: centre, y: HEIGHT - 3, "text-anchor": "middle" }, clock(at)));
    }
    // The first line is drawn last: it is the one that matters most.
    for (const { line, at } of drawn.toReversed()) {
      for (const run of runs(this.#points, line.of)) {
        const inside = run.map(({ at, value }) => `${x(Math.max(at, from)).toFixed(1)},${y(value).toFixed(1)}`);
        const [first, last] = [run[0], run.at(-1)];
        if (at === 0 && first && last) {
          const base = y(0).toFixed(1);
          const area = `M${x(Math.max(first.at, from)).toFixed(1)},${base}L${inside.join("L")}L${x(last.at).toFixed(1)},${base}Z`;
          parts.push(s("path", { class: "area", d: area }));
        }
        parts.push(s("path", { class: `line line-${at}`, d: `M${inside.join("L")}${run.length === 1 ? "h0.1" : ""}` }));
      }
    }

    const pointed = this.#pointed.value;
    const point = pointed === undefined ? this.#points.at(-1) : nearest(this.#points, pointed);
    if (pointed !== undefined && point) {
      const at = Math.round(x(point.at)) + 0.5;
      parts.push(s("line", { class: "pointed", x1: at, x2: at, y1: TOP, y2: HEIGHT - BOTTOM }));
      for (const { line, at: n } of drawn) {
        const value = finite(line.of(point));
        if (value !== undefined) parts.push(s("circle", { class: `dot line-${n}`, cx: at, cy: y(value), r: 2.5 }));
      }
    }
    say(this.#when, pointed !== undefined && point ? timeOfDay(point.at) : "");
    const texts = lines.map((line) => (line.format ?? format)(point && finite(line.of(point))));
    texts.forEach((text, at) => say(this.#values[at] as HTMLElement, text));

    set(this.#svg, {
      viewBox: `0 0 ${width} ${HEIGHT}`,
      "aria-label": `${this.#look.title}. ${lines.map(({ name }, at) => `${name}: ${texts[at]}`).join(", ")}`,
    });
    fill(this.#svg, ...parts);
  }
}

function finite(value: number | undefined): number | undefined {
  return value !== undefined && Number.isFinite(value) ? value : undefined;
}

/** The pieces of a line: it breaks where a value is missing, or where nobody looked. */
function runs<P extends { at: number }>(points: readonly P[], of: Line<P>["of"]): { at: number; value: number }[][] {
  const found: { at: number; value: number }[][] = [];
  let run: { at: number; value: number }[] = [];
  for (const point of points) {
    const value = finite(of(point));
    if (value === undefined || point.at - (run.at(-1)?.at ?? point.at) > 3 * EVERY_MS) {
      if (run.length) found.push(run);
      run = [];
    }
    if (value !== undefined) run.push({ at: point.at, value });
  }
  if (run.length) found.push(run);
  return found;
}

function nearest<P extends { at: number }>(points: readonly P[], at: number): P | undefined {
  return points.reduce<P | undefined>(
    (best, point) => (best && Math.abs(best.at - at) <= Math.abs(point.at - at) ? best : point),
    undefined,
  );
}
