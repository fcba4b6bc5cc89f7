// How many clusters are of which size, as bars. Clusters of one face outnumber the large ones a thousandfold, so the
// length of a bar is the logarithm; the number is beside it.

import type { SizeBucket } from "../api/types";
import { h, keyed, s, say, set } from "../dom";
import { count } from "../format";

export class SizeBars {
  readonly element: HTMLElement;
  readonly #rows = h("tbody");

  constructor() {
    this.element = h(
      "table",
      { class: "sizes" },
      h(
        "thead",
        {},
        h(
          "tr",
          {},
          h("th", { scope: "col" }, "Faces"),
          h("th", { scope: "col" }, "Clusters"),
          h("td", { class: "scale" }, "log scale"),
        ),
      ),
      this.#rows,
    );
  }

  show(sizes: readonly SizeBucket[]): void {
    const last = sizes.findLastIndex(({ clusters }) => clusters > 0);
    const buckets = sizes
      .slice(0, last + 1)
      .map((bucket, at) => ({ ...bucket, from: (sizes[at - 1]?.up_to ?? 0) + 1 }));
    const most = Math.max(1, ...buckets.map(({ clusters }) => clusters));
    keyed(
      this.#rows,
      buckets,
      ({ up_to }) => String(up_to),
      ({ from, up_to }) =>
        h(
          "tr",
          {},
          h("th", { scope: "row" }, from === up_to ? count(up_to) : `${count(from)}–${count(up_to)}`),
          h("td", { class: "number" }),
          h(
            "td",
            { class: "bar" },
            s("svg", { "aria-hidden": "true", width: "100%", height: 10 }, s("rect", { height: 10, rx: 1.5 })),
          ),
        ),
      (row, { clusters }) => {
        const [number, bar] = row.querySelectorAll("td");
        set(row, { class: clusters ? undefined : "none" });
        if (number) say(number, count(clusters));
        const part = clusters ? Math.max(0.015, Math.log1p(clusters) / Math.log1p(most)) : 0;
        const rect = bar?.querySelector("rect");
        if (rect) set(rect, { width: `${(100 * part).toFixed(1)}%` });
      },
    );
  }
}
