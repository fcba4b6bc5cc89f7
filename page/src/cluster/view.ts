// A look at one cluster, kept up to date while it changes. Where it has merged into another, the look goes there.

import * as api from "../api/client";
import type { Cluster, Why } from "../api/types";
import { type App, go } from "../app";
import { Cell } from "../cell";
import { fill, h } from "../dom";
import { concerns, feedView } from "../feed/view";
import { formatRoute } from "../route";
import { repeat, throttle } from "../repeat";
import { problemFace } from "../states";
import { clusterHead } from "./head";
import { Members } from "./members";
import { type Neighbourhood, neighbourhood } from "./neighbourhood";
import { PictureView } from "./picture";
import { WhyView } from "./why";

/** Also without a change in the feed, which may be broken. */
const EVERY_MS = 10_000;
/** A cluster that grows by the second is not drawn anew by the second. */
const SETTLE_MS = 2000;
/** Longer than any chain of merges that is not a circle. */
const MOST_MERGES = 64;

export function clusterView(app: App, collection: string, id: string, signal: AbortSignal): HTMLElement {
  const view = h(
    "main",
    { class: "cluster" },
    h("h1", { class: "unseen" }, `Cluster ${id}`),
    h("p", { class: "face panel" }, `Loading cluster #${id}…`),
  );
  const around = new Cell<Neighbourhood | undefined>(undefined);
  const why = new Cell<Why | undefined>(undefined);
  let cluster: Cell<Cluster> | undefined;
  let members: Members | undefined;
  let asking: WhyView | undefined;
  let shownVersion = -1;

  const build = (first: Cluster): void => {
    cluster = new Cell(first);
    members = new Members(app, collection, first, around, signal);
    asking = new WhyView(app, collection, around, why, signal);
    const feed = app.feed.value;
    fill(
      view,
      clusterHead(collection, cluster, signal),
      h("h2", { class: "unseen" }, "Its faces and changes"),
      h(
        "div",
        { class: "cluster-body" },
        members.element,
        new PictureView(app, around, why, signal).element,
        h("div", { class: "side-column" }, asking.element, feed ? feedView(feed, signal, id) : null),
      ),
    );
  };

  const refresh = repeat(EVERY_MS, signal, async () => {
    try {
      const now = await api.cluster(collection, id, signal);
      if (now.status === "merged") return await followMerges(app, collection, now, signal);
      if (cluster) cluster.value = now;
      else build(now);
      if (now.version === shownVersion) return;
      const known = shownVersion >= 0;
      const [picture] = await Promise.all([
        api.picture(collection, id, signal),
        known ? members?.refresh(now.size) : undefined,
      ]);
      shownVersion = now.version;
      around.value = neighbourhood(picture, around.value);
      if (known) asking?.ask(true);
    } catch (error) {
      if (api.isAbort(error)) return;
      // Without a connection what was seen stays; the header says that it is old.
      const gone = error instanceof api.Problem && error.status === 404;
      if (cluster && !gone) return;
      const back = h("p", {}, h("a", { href: formatRoute({ collection }) }, `All clusters of ${collection}`));
      const erased = new api.Problem(
        404,
        `Cluster #${id} is gone`,
        "Its last face was erased, or left it, while you looked.",
      );
      fill(view, h("h1", { class: "unseen" }, `Cluster ${id}`), problemFace(cluster ? erased : error, back));
    }
  });

  const soon = throttle(SETTLE_MS, signal, refresh);
  app.feed.value?.listen(signal, (events) => {
    if (events.some((event) => concerns(event, id))) soon();
  });
  app.metrics.connection.watch(signal, refresh);
  return view;
}

async function followMerges(app: App, collection: string, from: Cluster, signal: AbortSignal): Promise<void> {
  let at = from;
  for (let hop = 0; at.status === "merged" && at.merged_into !== undefined && hop < MOST_MERGES; hop++) {
    at = await api.cluster(collection, at.merged_into, signal);
  }
  go(app, { ...app.route.value, cluster: at.cluster_id }, true);
  const name = at.name ? ` (${at.name})` : "";
  app.notice.value = `Cluster #${from.cluster_id} merged into #${at.cluster_id}${name}, which you look at now.`;
}
