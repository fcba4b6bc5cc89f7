// Why two faces are together, or apart: the path of links between them, and the probability of each.

import * as api from "../api/client";
import type { Why } from "../api/types";
import { type App, go } from "../app";
import type { Cell } from "../cell";
import { type Child, button, fill, h, on, s } from "../dom";
import { counted, probability } from "../format";
import { clusterLink, faceText } from "../links";
import { problemText } from "../states";
import type { Neighbourhood } from "./neighbourhood";
import { pick, type Side } from "./picked";

const LISTED = 12;

export class WhyView {
  readonly element: HTMLElement;
  readonly #app: App;
  readonly #collection: string;
  readonly #around: Cell<Neighbourhood | undefined>;
  readonly #why: Cell<Why | undefined>;
  readonly #signal: AbortSignal;
  readonly #answer = h("div", { class: "answer", "aria-live": "polite" });
  readonly #inputs: Record<Side, HTMLInputElement>;
  #asked = "";
  #question = new AbortController();

  constructor(
    app: App,
    collection: string,
    around: Cell<Neighbourhood | undefined>,
    why: Cell<Why | undefined>,
    signal: AbortSignal,
  ) {
    this.#app = app;
    this.#collection = collection;
    this.#around = around;
    this.#why = why;
    this.#signal = signal;
    const known = h("datalist", { id: "known-faces" });
    const input = (side: Side): HTMLInputElement =>
      on(
        h("input", {
          id: `face-${side}`,
          list: "known-faces",
          placeholder: "face id",
          autocomplete: "off",
          spellcheck: "false",
        }),
        "change",
        () => pick(app, side, this.#inputs[side].value.trim() || undefined),
      );
    this.#inputs = { a: input("a"), b: input("b") };
    const field = (side: Side): HTMLElement =>
      h(
        "div",
        { class: "field" },
        h(
          "label",
          { class: "letter", for: `face-${side}` },
          h("span", { class: "unseen" }, "Face "),
          side.toUpperCase(),
        ),
        this.#inputs[side],
      );
    const form = on(
      h(
        "form",
        { class: "ask" },
        field("a"),
        field("b"),
        known,
        h(
          "div",
          { class: "buttons" },
          h("button", { class: "primary" }, "Ask why"),
          button("Swap", { class: "small" }, () => {
            const { a, b, ...rest } = app.route.value;
            go(app, { ...rest, ...(b && { a: b }), ...(a && { b: a }) }, true);
          }),
          button("Clear", { class: "small" }, () => {
            const { a: _a, b: _b, ...rest } = app.route.value;
            go(app, rest, true);
          }),
        ),
      ),
      "submit",
      (event) => {
        event.preventDefault();
        this.#asked = "";
        const [a, b] = [this.#inputs.a.value.trim(), this.#inputs.b.value.trim()];
        const { a: _a, b: _b, ...rest } = app.route.value;
        go(app, { ...rest, ...(a && { a }), ...(b && { b }) }, true);
        this.ask();
      },
    );
    this.element = h(
      "section",
      { class: "panel why-panel" },
      h("header", {}, h("h3", {}, "Why together?")),
      form,
      this.#answer,
    );

    around.watch(signal, (now) => {
      const faces = now?.picture.faces.map(({ face_id }) => h("option", { value: face_id })) ?? [];
      fill(known, ...faces);
      if (!this.#both()) this.ask();
    });
    app.route.watch(signal, ({ a, b }) => {
      for (const [side, face] of [["a", a] as const, ["b", b] as const]) {
        if (document.activeElement !== this.#inputs[side] || face) this.#inputs[side].value = face ?? "";
      }
      this.ask();
    });
  }

  #both(): boolean {
    const { a, b } = this.#app.route.value;
    return a !== undefined && b !== undefined;
  }

  /** Asks what the address says, unless it was asked just now. */
  ask(anew = false): void {
    const { a, b } = this.#app.route.value;
    const question = JSON.stringify([a, b]);
    if (a === undefined || b === undefined) {
      this.#asked = "";
      this.#question.abort();
      this.#why.value = undefined;
      fill(this.#answer, ...this.#linkagesOf(a ?? b));
      return;
    }
    if (question === this.#asked && !anew) return;
    this.#asked = question;
    this.#question.abort();
    this.#question = new AbortController();
    void this.#fetch(a, b, AbortSignal.any([this.#signal, this.#question.signal]), anew);
  }

  async #fetch(a: string, b: string, signal: AbortSignal, anew: boolean): Promise<void> {
    if (!anew) fill(this.#answer, h("p", { class: "note" }, "Asking…"));
    try {
      const why = await api.why(this.#collection, a, b, signal);
      const homes = why.together
        ? []
        : await Promise.all([a, b].map((face) => api.face(this.#collection, face, signal)));
      this.#why.value = why;
      const between = homes.flatMap(({ cluster_id, name }, at) => [
        at ? " and " : "",
        clusterLink(this.#collection, cluster_id, name),
      ]);
      fill(this.#answer, ...answer(a, b, why, between));
    } catch (error) {
      if (api.isAbort(error) || anew) return;
      this.#why.value = undefined;
      fill(this.#answer, h("p", { class: "verdict bad" }, problemText(error)));
    }
  }

  /** With one face picked: to whom it is linked, each a way to ask on. */
  #linkagesOf(face: string | undefined): Child[] {
    if (face === undefined)
      return [h("p", { class: "note" }, "Pick two faces, in the picture or in the list of members.")];
    const around = this.#around.value;
    const neighbours = around?.neighbours.get(face);
    if (!around || !neighbours) return [h("p", { class: "note" }, "Pick a second face.")];
    if (neighbours.length === 0)
      return [h("p", { class: "note" }, "This face has no linkages. Pick a second face to ask all the same.")];
    const side: Side = this.#app.route.value.a === undefined ? "a" : "b";
    const rows = neighbours.slice(0, LISTED).map(({ face: other, linkage }) => {
      const stranger = around.faces.get(other)?.cluster_id !== around.picture.cluster_id;
      return h(
        "li",
        {},
        button("", { class: "link-row", "aria-label": `Ask about ${other}, linkage ${probability(linkage)}` }, () =>
          pick(this.#app, side, other),
        ),
        faceText(other),
        bar(linkage, around.picture.threshold, stranger ? "stranger" : "member"),
      );
    });
    const left = neighbours.length - rows.length;
    return [
      h("p", { class: "verdict" }, `${counted(neighbours.length, "linkage")} of this face, strongest first`),
      h("ol", { class: "linkages" }, ...rows),
      left > 0 ? h("p", { class: "note" }, `and ${left} weaker`) : null,
    ];
  }
}

function answer(a: string, b: string, { together, threshold, path }: Why, between: Child[]): Child[] {
  if (a === b) return [h("p", { class: "verdict" }, "It is the same face.")];
  const weakest = Math.min(...path.map(({ linkage }) => linkage));
  const which = path.length === 1 ? "it" : "the weakest";
  const holds = `${which} is ${probability(weakest)}, the threshold ${probability(threshold)}`;
  const verdict = together
    ? h(
        "p",
        { class: "verdict good" },
        h("strong", {}, "Together"),
        path.length ? `, by ${counted(path.length, "link")}: ${holds}.` : ".",
      )
    : h("p", { class: "verdict bad" }, h("strong", {}, "Apart"), ", in ", ...between, ".");
  const note = together
    ? path.length
      ? path.length > 1 && "Of all paths between them, this is the one whose weakest link is strongest."
      : "No path of links leads from one to the other: an operator's must-link or move holds them together."
    : !path.length
      ? "No path of linkages leads from one to the other."
      : weakest < threshold
        ? `The best path between them does not hold: ${holds}.`
        : `They are linked (${holds}), but between their clusters as a whole there is too little evidence, or an operator keeps them apart.`;
  const steps = path.map(({ to, linkage }) => [
    h(
      "li",
      { class: `step${linkage === weakest && path.length > 1 ? " weakest" : ""}` },
      bar(linkage, threshold, "member"),
    ),
    h(
      "li",
      { class: "stop" },
      to === b ? h("span", { class: "letter" }, "B") : h("span", { class: "letter none" }),
      faceText(to),
    ),
  ]);
  const chain = path.length
    ? h(
        "ol",
        { class: "chain" },
        h("li", { class: "stop" }, h("span", { class: "letter" }, "A"), faceText(a)),
        ...steps.flat(),
      )
    : null;
  return [verdict, chain, note && h("p", { class: "note" }, note)];
}

/** A probability as a bar from 0 to 1, with the threshold marked. */
function bar(linkage: number, threshold: number | undefined, kind: "member" | "stranger"): HTMLElement {
  const at = (value: number): string => `${(100 * value).toFixed(1)}%`;
  const mark =
    threshold === undefined
      ? null
      : s("line", { class: "threshold", x1: at(threshold), x2: at(threshold), y1: 0, y2: 12 });
  return h(
    "span",
    { class: "probability" },
    s(
      "svg",
      { "aria-hidden": "true", width: "100%", height: 12 },
      s("rect", { class: "track", y: 4, width: "100%", height: 4, rx: 2 }),
      s("rect", { class: `fill ${kind}`, y: 4, width: at(linkage), height: 4, rx: 2 }),
      mark,
    ),
    h("span", { class: "number" }, probability(linkage)),
  );
}
