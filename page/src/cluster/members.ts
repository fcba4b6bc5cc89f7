// Who is in the cluster, a page at a time, with how each is linked to the others, as far as the picture shows it.

import * as api from "../api/client";
import type { Cluster } from "../api/types";
import type { App } from "../app";
import type { Cell } from "../cell";
import { button, h, keyed, say, set } from "../dom";
import { count, NOTHING, probability } from "../format";
import { faceText } from "../links";
import { problemText } from "../states";
import type { Neighbourhood } from "./neighbourhood";
import { pick, type Side } from "./picked";

const PAGE = 100;

export class Members {
  readonly element: HTMLElement;
  readonly #app: App;
  readonly #cluster: Cluster;
  readonly #collection: string;
  readonly #signal: AbortSignal;
  readonly #around: Cell<Neighbourhood | undefined>;
  readonly #rows = h("tbody");
  readonly #table: HTMLTableElement;
  readonly #face = h("p", { class: "face" }, "Loading…");
  readonly #where = h("span", { class: "unit", "aria-live": "polite" });
  readonly #previous = button("‹", { class: "small", "aria-label": "Previous page", disabled: true }, () =>
    this.#turn(-1),
  );
  readonly #next = button("›", { class: "small", "aria-label": "Next page", disabled: true }, () => this.#turn(1));
  /** Where each page up to the one after this begins. */
  #cursors: (string | null)[] = [null];
  #page = 0;
  #faces: string[] = [];

  constructor(
    app: App,
    collection: string,
    cluster: Cluster,
    around: Cell<Neighbourhood | undefined>,
    signal: AbortSignal,
  ) {
    this.#app = app;
    this.#collection = collection;
    this.#cluster = cluster;
    this.#around = around;
    this.#signal = signal;
    this.#table = h(
      "table",
      { class: "members", hidden: true },
      h(
        "thead",
        {},
        h(
          "tr",
          {},
          h("th", { scope: "col" }, "Face"),
          h(
            "th",
            { scope: "col", class: "number", title: "Linkages of at least 0.1 to faces of the picture" },
            "Linkages",
          ),
          h("th", { scope: "col", class: "number" }, "Strongest"),
          h("th", { scope: "col" }, "Ask"),
        ),
      ),
      this.#rows,
    );
    this.element = h(
      "section",
      { class: "panel members-panel" },
      h("header", {}, h("h3", {}, "Members"), this.#where, h("span", { class: "pager" }, this.#previous, this.#next)),
      this.#face,
      h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Members" }, this.#table),
    );
    around.watch(signal, () => this.#draw());
    app.route.watch(signal, () => this.#draw());
    void this.refresh(cluster.size);
  }

  /** Reads the page that is shown anew. */
  async refresh(size: number): Promise<void> {
    const page = this.#page;
    try {
      const cursor = this.#cursors[page] ?? null;
      const { faces, next } = await api.members(this.#collection, this.#cluster.cluster_id, PAGE, cursor, this.#signal);
      if (page !== this.#page) return;
      if (faces.length === 0 && page > 0) return this.#turn(-1);
      this.#faces = faces.map(({ face_id }) => face_id);
      this.#cursors = [...this.#cursors.slice(0, page + 1), ...(next === null ? [] : [next])];
      const first = page * PAGE + 1;
      say(
        this.#where,
        size > faces.length ? `${count(first)}–${count(first + faces.length - 1)} of ${count(size)}` : count(size),
      );
      set(this.#previous, { disabled: page === 0, hidden: page === 0 && next === null });
      set(this.#next, { disabled: next === null, hidden: page === 0 && next === null });
      this.#face.hidden = true;
      this.#table.hidden = false;
      this.#size = size;
      this.#draw();
    } catch (error) {
      // A cluster that is gone has its own face, and an old page is better than none.
      if (!api.isAbort(error) && this.#faces.length === 0) say(this.#face, problemText(error));
    }
  }

  #size = 0;

  #turn(by: number): void {
    this.#page += by;
    this.#table.parentElement?.scrollTo({ top: 0 });
    void this.refresh(this.#size);
  }

  #draw(): void {
    const { a, b } = this.#app.route.value;
    const neighbours = this.#around.value?.neighbours;
    keyed(
      this.#rows,
      this.#faces,
      (face) => face,
      (face) => this.#row(face),
      (row, face) => {
        const of = neighbours?.get(face);
        const [linkages, strongest] = row.querySelectorAll("td");
        if (linkages) say(linkages, of ? count(of.length) : NOTHING);
        if (strongest) say(strongest, of?.[0] ? probability(of[0].linkage) : NOTHING);
        const [first, second] = row.querySelectorAll("button");
        if (first) set(first, { "aria-pressed": String(face === a) });
        if (second) set(second, { "aria-pressed": String(face === b) });
      },
    );
  }

  #row(face: string): HTMLTableRowElement {
    const ask = (side: Side): HTMLButtonElement =>
      button(side.toUpperCase(), { class: "side", "aria-label": `Ask about ${face} as ${side.toUpperCase()}` }, () =>
        pick(this.#app, side, this.#app.route.value[side] === face ? undefined : face),
      );
    return h(
      "tr",
      {},
      h("th", { scope: "row" }, faceText(face)),
      h("td", { class: "number" }),
      h("td", { class: "number" }),
      h("td", { class: "sides" }, ask("a"), ask("b")),
    );
  }
}
