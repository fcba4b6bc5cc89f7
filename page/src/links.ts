// How a cluster and a face are written wherever they appear.

import { h } from "./dom";
import { formatRoute } from "./route";

/** `#12`, and the name if it has one. */
export function clusterLink(collection: string, id: string, name?: string): HTMLElement {
  return h(
    "a",
    { class: "cluster-link", href: formatRoute({ collection, cluster: id }) },
    `#${id}`,
    name ? h("span", { class: "name" }, name) : null,
  );
}

/** A face's id: as long as it may be, its end is what tells it from others, so the middle is what is cut. */
export function faceText(id: string): HTMLElement {
  const tail = id.length > 24 ? 12 : 0;
  const [start, end] = tail ? [id.slice(0, -tail), id.slice(-tail)] : [id, ""];
  return h(
    "span",
    { class: "face-id", title: id },
    h("span", { class: "start" }, start),
    end ? h("span", {}, end) : null,
  );
}
