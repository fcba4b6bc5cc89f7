// The clusters of a collection, the largest or those that changed last first, a page at a time.

import * as api from "../api/client";
import type { Cluster } from "../api/types";
import { button, h, keyed, say, set } from "../dom";
import { count } from "../format";
import { clusterLink } from "../links";
import { repeat } from "../repeat";
import { problemText } from "../states";

const PAGE = 50;
const EVERY_MS = 5000;
type Order = "size" | "recent";

export function clusterList(collection: string, signal: AbortSignal): HTMLElement {
  let order: Order = "size";
  let first: Cluster[] | undefined;
  let later: Cluster[] = [];
  let next: string | null = null;

  const rows = h("tbody");
  const face = h("p", { class: "face" }, "Loading…");
  const table = h(
    "table",
    { class: "clusters" },
    h(
      "thead",
      {},
      h(
        "tr",
        {},
        h("th", { scope: "col" }, "Cluster"),
        h("th", { scope: "col", class: "number" }, "Faces"),
        h("th", { scope: "col", class: "number" }, "Version"),
        h("th", { scope: "col", class: "number" }, "Last event"),
      ),
    ),
    rows,
  );
  const more = button("Show more", { class: "small more-rows" }, () => void showMore());

  const draw = (): void => {
    // What moved to the first page since must not be there twice.
    const seen = new Set(first?.map(({ cluster_id }) => cluster_id));
    const all = [...(first ?? []), ...later.filter(({ cluster_id }) => !seen.has(cluster_id))];
    keyed(
      rows,
      all,
      ({ cluster_id }) => cluster_id,
      (cluster) => row(collection, cluster),
      update,
    );
    table.hidden = all.length === 0;
    more.hidden = next === null || all.length === 0;
    say(face, first && all.length === 0 ? "No clusters." : "");
    face.hidden = all.length > 0;
  };

  const refresh = repeat(EVERY_MS, signal, async () => {
    const asked = order;
    try {
      const page = await api.clusters(collection, asked, PAGE, null, signal);
      if (asked !== order) return;
      first = page.clusters;
      if (later.length === 0) next = page.next;
      draw();
    } catch (error) {
      if (!api.isAbort(error) && !first) say(face, problemText(error));
    }
  });

  const showMore = async (): Promise<void> => {
    const asked = order;
    set(more, { disabled: true });
    try {
      const page = await api.clusters(collection, asked, PAGE, next, signal);
      if (asked !== order) return;
      later = [...later, ...page.clusters];
      next = page.next;
      draw();
    } catch (error) {
      if (!api.isAbort(error)) more.textContent = `${problemText(error)} Try again`;
    } finally {
      set(more, { disabled: false });
    }
  };

  const orders: [Order, string][] = [
    ["size", "Largest"],
    ["recent", "Latest"],
  ];
  const buttons = orders.map(([value, name]) =>
    button(name, { "aria-pressed": String(value === order) }, () => {
      if (order === value) return;
      order = value;
      first = undefined;
      later = [];
      next = null;
      buttons.forEach((one, at) => set(one, { "aria-pressed": String(orders[at]?.[0] === order) }));
      refresh();
    }),
  );

  refresh();
  return h(
    "section",
    { class: "panel clusters-panel" },
    h(
      "header",
      {},
      h("h3", {}, "Clusters"),
      h("div", { class: "segments", role: "group", "aria-label": "Order of the clusters" }, ...buttons),
    ),
    face,
    h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Clusters" }, table, more),
  );
}

function row(collection: string, { cluster_id, name }: Cluster): HTMLTableRowElement {
  return h(
    "tr",
    {},
    h("th", { scope: "row" }, clusterLink(collection, cluster_id, name)),
    h("td", { class: "number" }),
    h("td", { class: "number" }),
    h("td", { class: "number" }),
  );
}

function update(row: HTMLTableRowElement, { size, version, sequence, name, pinned }: Cluster): void {
  const [faces, versions, last] = row.querySelectorAll("td");
  if (faces) say(faces, count(size));
  if (versions) say(versions, count(version));
  if (last) say(last, count(sequence));
  set(row, { class: pinned ? "pinned" : undefined });
  const link = row.querySelector("a");
  const shown = link?.querySelector(".name");
  if (shown && name) say(shown, name);
  else if (shown) shown.remove();
  else if (name) link?.append(h("span", { class: "name" }, name));
}
