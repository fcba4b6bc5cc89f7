// The bar above everything: which collection and cluster, finding a face, whether the daemon is there.

import * as api from "../api/client";
import { type App, go } from "../app";
import { fill, h, on, s, say, set } from "../dom";
import { count, timeOfDay } from "../format";
import { formatRoute } from "../route";
import { problemText } from "../states";
import { themeToggle } from "../theme";

export function topBar(app: App, signal: AbortSignal): HTMLElement {
  return h(
    "header",
    { class: "top" },
    h("a", { class: "brand", href: "#/", "aria-label": "facetd, overview" }, mark(), "facetd"),
    where(app, signal),
    find(app, signal),
    connection(app, signal),
    themeToggle(),
  );
}

function mark(): SVGElement {
  const dot = (cx: number, cy: number): SVGElement => s("circle", { cx, cy, r: 2.5 });
  return s(
    "svg",
    { class: "mark", viewBox: "0 0 16 16", "aria-hidden": "true" },
    s("path", { d: "M4 11 8 4l4 6" }),
    dot(4, 11.5),
    dot(8, 4),
    dot(12.2, 10.5),
  );
}

/** Where one is: the collection to choose, and the way back from a cluster. */
function where(app: App, signal: AbortSignal): HTMLElement {
  const select = on(h("select", { id: "collection", "aria-label": "Collection" }), "change", () =>
    go(app, { collection: select.value }),
  );
  const crumb = h("span", { class: "crumb" });
  const draw = (): void => {
    const { collection, cluster } = app.route.value;
    const names = app.collections.value?.map((one) => one.collection) ?? [];
    // One that is not (yet) listed may be looked at all the same.
    const all = collection !== undefined && !names.includes(collection) ? [collection, ...names] : names;
    const sizes = new Map(app.collections.value?.map((one) => [one.collection, one.faces]));
    const options = all.map((name) => {
      const faces = sizes.get(name);
      return h("option", { value: name }, faces === undefined ? name : `${name} (${count(faces)})`);
    });
    // An open list is left alone while nothing in it changed.
    const text = options.map((option) => option.textContent).join("\n");
    if (select.dataset["all"] !== text && !(document.activeElement === select && select.matches(":open"))) {
      fill(select, ...options);
      select.dataset["all"] = text;
    }
    select.disabled = all.length === 0;
    if (collection !== undefined) select.value = collection;
    const back = collection === undefined ? {} : { collection };
    fill(crumb, ...(cluster === undefined ? [] : [h("a", { href: formatRoute(back) }, "‹ all clusters")]));
  };
  app.collections.watch(signal, draw);
  app.route.watch(signal, draw);
  return h("nav", { "aria-label": "Where" }, select, crumb);
}

/** Goes to the cluster `#12`, or to that of a face. */
function find(app: App, signal: AbortSignal): HTMLElement {
  const input = h("input", {
    id: "find",
    type: "search",
    placeholder: "Find a face, or #cluster",
    "aria-label": "Find a face by its id, or a cluster by #id",
    autocomplete: "off",
    spellcheck: "false",
  });
  const trouble = h("span", { class: "trouble", role: "status" });
  on(input, "input", () => say(trouble, ""));
  const search = async (): Promise<void> => {
    const wanted = input.value.trim();
    const { collection } = app.route.value;
    if (!wanted || collection === undefined) return;
    const number = /^#([1-9]\d*)$/.exec(wanted)?.[1];
    try {
      if (number !== undefined)
        go(app, { collection, cluster: (await api.cluster(collection, number, signal)).cluster_id });
      else {
        const face = await api.face(collection, wanted, signal);
        go(app, { collection, cluster: face.cluster_id, a: face.face_id });
      }
      input.value = "";
    } catch (error) {
      if (!api.isAbort(error)) say(trouble, problemText(error));
    }
  };
  return on(h("form", { class: "find", role: "search" }, input, trouble), "submit", (event) => {
    event.preventDefault();
    void search();
  });
}

function connection(app: App, signal: AbortSignal): HTMLElement {
  const light = h("span", { class: "connection", role: "status" });
  const draw = (): void => {
    const now = app.metrics.connection.value;
    const ready = app.metrics.latest.value?.ready ?? true;
    const [tone, text] =
      now.state === "connecting"
        ? ["", "connecting"]
        : now.state === "live"
          ? ready
            ? ["good", "live"]
            : ["warn", "not ready"]
          : [
              "bad",
              now.problem.status === 0 ? "no connection" : now.problem.status === 403 ? "no metrics" : "no access",
            ];
    set(light, { "data-tone": tone });
    say(light, text);
    set(light, { title: now.state === "lost" && now.since ? `last heard at ${timeOfDay(now.since)}` : undefined });
  };
  app.metrics.connection.watch(signal, draw);
  app.metrics.latest.watch(signal, draw);
  return light;
}
