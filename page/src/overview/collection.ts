// One collection: how large its clusters are, which they are, and what changes.

import * as api from "../api/client";
import type { App } from "../app";
import { SizeBars } from "../charts/sizes";
import { fill, h, say } from "../dom";
import { counted } from "../format";
import { feedView } from "../feed/view";
import { repeat } from "../repeat";
import { problemFace } from "../states";
import { clusterList } from "./clusters";

const EVERY_MS = 5000;

export function collectionSection(app: App, name: string, signal: AbortSignal): HTMLElement {
  const bars = new SizeBars();
  const told = h("span", { class: "unit" });
  const body = h("div", { class: "collection-body" }, h("p", { class: "face panel" }, "Loading…"));
  const section = h(
    "section",
    { class: "collection", "aria-labelledby": "collection-title" },
    h("h2", { id: "collection-title" }, "Collection ", h("span", { class: "id" }, name), told),
    body,
  );

  // Made once the collection is known to be there; until then there is one thing to say, not three.
  let parts: HTMLElement[] | undefined;
  const whole = (): HTMLElement[] => [
    h("section", { class: "panel" }, h("header", {}, h("h3", {}, "Cluster sizes")), bars.element),
    clusterList(name, signal),
    ...(app.feed.value ? [feedView(app.feed.value, signal)] : []),
  ];
  let wasEmpty = false;

  const refresh = repeat(EVERY_MS, signal, async () => {
    try {
      const { faces, clusters, sizes, sequence } = await api.collection(name, signal);
      const empty = faces === 0 && sequence === 0;
      if (!parts || empty !== wasEmpty) {
        parts = empty ? [emptyFace()] : whole();
        wasEmpty = empty;
        fill(body, ...parts);
      }
      bars.show(sizes);
      say(told, `${counted(faces, "face")} in ${counted(clusters, "cluster")}, event ${sequence.toLocaleString("en")}`);
    } catch (error) {
      // What is shown stays; the header says that it is old.
      if (!api.isAbort(error) && (!parts || (error instanceof api.Problem && error.status > 0))) {
        parts = undefined;
        fill(body, problemFace(error));
      }
    }
  });
  app.metrics.connection.watch(signal, refresh);
  // The first faces of an empty collection are not waited for.
  app.feed.value?.listen(signal, () => wasEmpty && refresh());
  return section;
}

function emptyFace(): HTMLElement {
  return h(
    "div",
    { class: "face panel" },
    h("h3", {}, "No faces yet"),
    h(
      "p",
      {},
      "This collection is there, and nothing has come in. Its clusters and changes appear here with the first face.",
    ),
  );
}
