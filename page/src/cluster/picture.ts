// The neighbourhood in two dimensions: members filled, strangers hollow, linkages between them the darker the likelier.

import type { App } from "../app";
import type { Cell } from "../cell";
import type { PicturedFace, Why } from "../api/types";
import { fill, h, keyed, on, s, say, set } from "../dom";
import { count, counted, probability } from "../format";
import { type Neighbourhood, towards } from "./neighbourhood";
import { pickNext, sideOf } from "./picked";

const MARGIN = 26;
/** Linkages are drawn in so many shades, each one path: thousands of lines would be slow. */
const SHADES = 4;
const ARROWS: Record<string, [number, number]> = {
  ArrowLeft: [-1, 0],
  ArrowRight: [1, 0],
  ArrowUp: [0, 1],
  ArrowDown: [0, -1],
};

export class PictureView {
  readonly element: HTMLElement;
  readonly #app: App;
  readonly #around: Cell<Neighbourhood | undefined>;
  readonly #why: Cell<Why | undefined>;

  readonly #svg = s("svg", {
    class: "picture",
    role: "group",
    "aria-label": "Faces of the neighbourhood; arrow keys move",
  });
  readonly #links = Array.from({ length: SHADES }, (_, at) => s("path", { class: `link shade-${at}` }));
  readonly #focusLinks = s("path", { class: "link focus-links" });
  readonly #path = s("path", { class: "why-path" });
  readonly #faces = s("g");
  readonly #marks = s("g", { class: "marks", "aria-hidden": "true" });
  readonly #told = h("p", { class: "readout", "aria-live": "polite" });
  readonly #note = h("span", { class: "unit" });
  readonly #least = h("input", { type: "range", min: 0.1, max: 0.95, step: 0.05, value: 0.5, id: "least-linkage" });
  readonly #leastShown = h("output", { for: "least-linkage" });
  #width = 600;
  #height = 480;
  #current: string | undefined;
  #pointed: string | undefined;
  #thresholdTaken = false;

  constructor(app: App, around: Cell<Neighbourhood | undefined>, why: Cell<Why | undefined>, signal: AbortSignal) {
    this.#app = app;
    this.#around = around;
    this.#why = why;
    fill(this.#svg, ...this.#links, this.#focusLinks, this.#faces, this.#path, this.#marks);
    this.element = h(
      "section",
      { class: "panel picture-panel" },
      h("header", {}, h("h3", {}, "Neighbourhood"), this.#note),
      this.#svg,
      this.#told,
      h(
        "div",
        { class: "picture-legend" },
        h("span", {}, h("i", { class: "key member" }), "member"),
        h("span", {}, h("i", { class: "key stranger" }), "stranger"),
        h("span", {}, h("i", { class: "key path" }), "why A and B"),
        h("label", { for: "least-linkage" }, "linkages from ", this.#leastShown),
        this.#least,
      ),
    );
    on(this.#least, "input", () => this.#draw());
    on(this.#svg, "keydown", (event) => this.#key(event));

    const resized = new ResizeObserver(() => {
      const { width, height } = this.#svg.getBoundingClientRect();
      if (width > 0 && height > 0) [this.#width, this.#height] = [Math.round(width), Math.round(height)];
      this.#draw();
    });
    resized.observe(this.#svg);
    signal.addEventListener("abort", () => resized.disconnect(), { once: true });
    around.watch(signal, () => this.#draw());
    why.watch(signal, () => this.#draw());
    app.route.watch(signal, () => this.#draw());
  }

  #draw(): void {
    const around = this.#around.value;
    if (!around) {
      say(this.#told, "Loading the picture…");
      return;
    }
    const { picture } = around;
    if (picture.threshold !== undefined && !this.#thresholdTaken) {
      this.#thresholdTaken = true;
      this.#least.value = String(picture.threshold);
    }
    const least = Number(this.#least.value);
    say(this.#leastShown, probability(least));
    const strangers = picture.faces.filter(({ cluster_id }) => cluster_id !== picture.cluster_id).length;
    const members =
      picture.shown < picture.size
        ? `the first ${count(picture.shown)} of ${count(picture.size)} members`
        : counted(picture.shown, "member");
    say(this.#note, `${members}, ${counted(strangers, "stranger")} near`);

    set(this.#svg, { viewBox: `0 0 ${this.#width} ${this.#height}` });
    const place = this.#places(around);
    const lines: string[] = this.#links.map(() => "");
    for (const { a, b, linkage } of picture.linkages) {
      const [from, to] = [place(a), place(b)];
      if (linkage < least || !from || !to) continue;
      const shade = Math.min(SHADES - 1, Math.floor(linkage * SHADES));
      lines[shade] += `M${from}L${to}`;
    }
    this.#links.forEach((path, at) => set(path, { d: lines[at] }));
    const path = this.#why.value?.path ?? [];
    set(this.#path, { d: path.map(({ from, to }) => segment(place(from), place(to))).join("") });

    // Strangers first, so that members lie above them.
    const inOrder = [...picture.faces].sort(
      (one, other) => Number(this.#isMember(one)) - Number(this.#isMember(other)),
    );
    if (this.#current === undefined || !around.faces.has(this.#current)) this.#current = inOrder.at(-1)?.face_id;
    keyed(
      this.#faces,
      inOrder,
      ({ face_id }) => face_id,
      (face) => this.#face(face),
      (circle, face) => this.#update(circle, face, place),
    );
    fill(
      this.#marks,
      ...(["a", "b"] as const).flatMap((side) => {
        const at = place(this.#app.route.value[side] ?? "");
        if (!at) return [];
        // Above all other faces: in a dense cluster the two would be buried.
        return [
          s("circle", { cx: at[0], cy: at[1], r: 6.5 }),
          s("text", { x: at[0], y: at[1] - 11, "text-anchor": "middle" }, side.toUpperCase()),
        ];
      }),
    );
    this.#showFocus();
  }

  /** Both axes have one scale, or distances would lie. */
  #places({ picture, faces }: Neighbourhood): (id: string) => [number, number] | undefined {
    const xs = picture.faces.map(({ x }) => x);
    const ys = picture.faces.map(({ y }) => y);
    const [left, right, low, high] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)];
    const scale = Math.min(
      (this.#width - 2 * MARGIN) / Math.max(right - left, 1e-6),
      (this.#height - 2 * MARGIN) / Math.max(high - low, 1e-6),
    );
    // A cluster of one alone has no extent: it lies in the middle.
    const unit = Number.isFinite(scale) && scale < 1e6 ? scale : 0;
    return (id) => {
      const face = faces.get(id);
      if (!face) return undefined;
      const x = this.#width / 2 + (face.x - (left + right) / 2) * unit;
      const y = this.#height / 2 - (face.y - (low + high) / 2) * unit;
      return [Math.round(x * 10) / 10, Math.round(y * 10) / 10];
    };
  }

  #isMember({ cluster_id }: PicturedFace): boolean {
    return cluster_id === this.#around.value?.picture.cluster_id;
  }

  #face({ face_id }: PicturedFace): SVGCircleElement {
    const circle = s("circle", { role: "button" });
    const point = (pointed: string | undefined): void => {
      this.#pointed = pointed;
      this.#showFocus();
    };
    on(circle, "click", () => pickNext(this.#app, face_id));
    on(circle, "pointerenter", () => point(face_id));
    on(circle, "pointerleave", () => point(undefined));
    on(circle, "focus", () => {
      this.#current = face_id;
      point(face_id);
    });
    on(circle, "blur", () => point(undefined));
    return circle;
  }

  #update(circle: SVGCircleElement, face: PicturedFace, place: (id: string) => [number, number] | undefined): void {
    const side = sideOf(this.#app, face.face_id);
    const [x, y] = place(face.face_id) ?? [0, 0];
    const who = this.#isMember(face) ? "member" : `stranger of cluster ${face.cluster_id}`;
    set(circle, {
      cx: x,
      cy: y,
      r: side ? 6 : 4.5,
      class: `face-dot ${this.#isMember(face) ? "member" : "stranger"}${side ? " picked" : ""}`,
      tabindex: face.face_id === this.#current ? 0 : -1,
      "aria-label": `${face.face_id}, ${who}${side ? `, picked as ${side.toUpperCase()}` : ""}`,
      "aria-pressed": String(side !== undefined),
    });
  }

  /** Says who is pointed at, and shows the linkages of that face. */
  #showFocus(): void {
    const around = this.#around.value;
    const face = around?.faces.get(this.#pointed ?? "");
    if (!around || !face) {
      set(this.#focusLinks, { d: "" });
      const { a, b } = this.#app.route.value;
      const both = a !== undefined && b !== undefined;
      say(
        this.#told,
        both ? "Point at a face to see its linkages." : "Pick two faces to ask why they are together, or apart.",
      );
      return;
    }
    const place = this.#places(around);
    const neighbours = around.neighbours.get(face.face_id) ?? [];
    set(this.#focusLinks, { d: neighbours.map(({ face: to }) => segment(place(face.face_id), place(to))).join("") });
    const best = neighbours[0];
    const linkages = best
      ? `${counted(neighbours.length, "linkage")}, the strongest ${probability(best.linkage)}`
      : "no linkages";
    say(this.#told, `${face.face_id} · ${this.#isMember(face) ? "member" : `of #${face.cluster_id}`} · ${linkages}`);
  }

  #key(event: KeyboardEvent): void {
    const around = this.#around.value;
    const from = around?.faces.get(this.#current ?? "");
    const direction = ARROWS[event.key];
    if (!around || !from) return;
    if (event.key === "Enter" || event.key === " ") pickNext(this.#app, from.face_id);
    else if (direction) {
      const to = towards(around.faces.values(), from, ...direction);
      if (!to) return;
      this.#current = to.face_id;
      for (const circle of this.#faces.querySelectorAll("circle")) {
        const here = circle.getAttribute("data-key") === to.face_id;
        set(circle, { tabindex: here ? 0 : -1 });
        if (here) circle.focus();
      }
    } else return;
    event.preventDefault();
  }
}

function segment(from: [number, number] | undefined, to: [number, number] | undefined): string {
  return from && to ? `M${from}L${to}` : "";
}
