// What all parts of the page share: where it is, what it knows of the daemon, and what it has to say.

import type { Collection } from "./api/types";
import { Cell } from "./cell";
import type { Feed } from "./feed/feed";
import type { Metrics } from "./metrics/watch";
import { formatRoute, parseRoute, type Route } from "./route";

export interface App {
  metrics: Metrics;
  route: Cell<Route>;
  /** Undefined until they are known. */
  collections: Cell<Collection[] | undefined>;
  /** Of the collection that is looked at. */
  feed: Cell<Feed | undefined>;
  /** Something to tell the reader about what just happened, such as that a cluster merged away. */
  notice: Cell<string>;
  /** Time goes on: changes after each look at the metrics, good or not. */
  tick: Cell<number>;
}

export function currentRoute(): Route {
  return parseRoute(location.hash);
}

/** Goes there. `replace`: the way back does not lead through here. */
export function go(app: App, route: Route, replace = false): void {
  const hash = formatRoute(route);
  if (replace) history.replaceState(null, "", hash);
  else {
    history.pushState(null, "", hash);
    app.notice.value = "";
  }
  app.route.value = parseRoute(hash);
}
