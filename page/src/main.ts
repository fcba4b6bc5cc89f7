// The page: keeps looking at the daemon, and shows what the address says.

import "./style/base.css";
import "./style/frame.css";
import "./style/overview.css";
import "./style/cluster.css";

import * as api from "./api/client";
import { token } from "./api/token";
import { type App, currentRoute, go } from "./app";
import { Cell } from "./cell";
import { clusterView } from "./cluster/view";
import { Feed } from "./feed/feed";
import { banners } from "./frame/banners";
import { tokenDialog } from "./frame/token";
import { topBar } from "./frame/top";
import { EVERY_MS, Metrics } from "./metrics/watch";
import { overview } from "./overview/view";
import { repeat } from "./repeat";

const COLLECTIONS_EVERY_MS = 10_000;

const forever = new AbortController().signal;
const app: App = {
  metrics: new Metrics(),
  route: new Cell(currentRoute()),
  collections: new Cell<App["collections"]["value"]>(undefined),
  feed: new Cell<Feed | undefined>(undefined),
  notice: new Cell(""),
  tick: new Cell(0),
};

const place = document.createElement("div");
place.className = "place";
document.body.replaceChildren(topBar(app, forever), tokenDialog(forever), banners(app, forever), place);

/** A new address, by a link, by hand or by the way back. */
function moved(): void {
  app.notice.value = "";
  app.route.value = currentRoute();
}
window.addEventListener("hashchange", moved);
window.addEventListener("popstate", moved);

let shown = "";
let leave = new AbortController();
let leaveCollection = new AbortController();

function show(): void {
  const { collection, cluster } = app.route.value;
  const now = JSON.stringify([collection, cluster]);
  if (now === shown) return;
  shown = now;
  leave.abort();
  leave = new AbortController();
  if (app.feed.value?.collection !== collection) {
    leaveCollection.abort();
    leaveCollection = new AbortController();
    app.feed.value = collection === undefined ? undefined : new Feed(collection, leaveCollection.signal);
  }
  document.title = [cluster && `#${cluster}`, collection, "facetd"].filter(Boolean).join(" · ");
  const view =
    collection !== undefined && cluster !== undefined
      ? clusterView(app, collection, cluster, leave.signal)
      : overview(app, collection, leave.signal);
  place.replaceChildren(view);
  window.scrollTo(0, 0);
}
app.route.watch(forever, show);
token.watch(forever, () => {
  // With another token everything may look different.
  shown = "";
  show();
});

const lookForCollections = repeat(COLLECTIONS_EVERY_MS, forever, async () => {
  try {
    const { collections } = await api.collections();
    app.collections.value = collections;
    // Where most has happened is what a reader wants to see first.
    const busiest = collections.toSorted((one, other) => other.sequence - one.sequence)[0];
    if (app.route.value.collection === undefined && busiest) go(app, { collection: busiest.collection }, true);
  } catch (error) {
    if (!(error instanceof api.Problem)) throw error;
  }
});
token.watch(forever, lookForCollections);
app.metrics.connection.watch(forever, lookForCollections);
app.route.watch(forever, ({ collection }) => collection === undefined && lookForCollections());

app.metrics.start(forever);
window.setInterval(() => app.tick.value++, EVERY_MS);
app.metrics.latest.watch(forever, () => app.tick.value++);
