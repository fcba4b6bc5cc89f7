// The first page: the daemon above, one collection below.

import type { App } from "../app";
import { h } from "../dom";
import { collectionSection } from "./collection";
import { daemonSection } from "./daemon";

export function overview(app: App, collection: string | undefined, signal: AbortSignal): HTMLElement {
  return h(
    "main",
    { class: "overview" },
    h("h1", { class: "unseen" }, "Overview"),
    daemonSection(app, signal),
    collection === undefined ? noCollections(app, signal) : collectionSection(app, collection, signal),
  );
}

function noCollections(app: App, signal: AbortSignal): HTMLElement {
  const face = h("div", { class: "face panel", role: "status" });
  app.collections.watch(signal, (collections) => {
    face.replaceChildren(
      ...(collections
        ? [h("h3", {}, "No collections yet"), h("p", {}, "The first face that comes in makes one.")]
        : [h("p", {}, "Loading the collections…")]),
    );
  });
  return face;
}
