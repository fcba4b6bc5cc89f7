// The feed of changes as a list: which kinds to show, a pause, and each change as a sentence.

import { clusterLink, faceText } from "../links";
import { type ClusterEvent, type EventType } from "../api/types";
import { type Child, button, h, keyed, on, say, set } from "../dom";
import { count, counted, rate, timeOfDay } from "../format";
import { throttle } from "../repeat";
import { type Change, type Feed, TYPES } from "./feed";

const MOST = 100;
const EVERY_MS = 500;

/** `of`: only what concerns this cluster. */
export function feedView(feed: Feed, signal: AbortSignal, of?: string): HTMLElement {
  const types = new Set<EventType>(TYPES);
  const list = h("ol", { class: "feed", tabindex: 0, "aria-label": "Changes, newest first" });
  const state = h("span", { class: "unit", "aria-live": "polite" });
  const empty = h("p", { class: "face" });
  let paused = false;

  const draw = (): void => {
    if (!paused) {
      const changes = feed.changes(types, MOST, of === undefined ? undefined : (event) => concerns(event, of));
      keyed(
        list,
        changes,
        ({ event }) => String(event.sequence),
        row,
        (element, { event }) => {
          // Set afterwards: only the next events show that some were missed after this one.
          const missed = event.sequence === feed.missedAfter;
          const title = `event ${event.sequence}${missed ? "; changes after it were missed" : ""}`;
          set(element, { class: missed ? "missed" : undefined, title });
        },
      );
      list.hidden = changes.length === 0;
      empty.hidden = !list.hidden;
    }
    const stream = feed.state.value;
    const first = "Nothing yet: changes appear as they happen.";
    say(
      empty,
      stream.state === "connecting"
        ? "Connecting…"
        : stream.state === "broken"
          ? ""
          : types.size
            ? first
            : "No kind chosen.",
    );
    if (stream.state === "broken") {
      const { status, title } = stream.problem;
      set(state, { "data-tone": "bad" });
      say(state, status === 403 ? "this token may not read them" : status ? title : "no connection, trying again");
    } else {
      set(state, { "data-tone": paused ? "warn" : undefined });
      say(state, paused ? "paused" : of === undefined ? `${rate(feed.rate())} a second` : "");
    }
  };
  const soon = throttle(EVERY_MS, signal, draw);
  feed.news.watch(signal, soon);
  feed.state.watch(signal, draw);
  const clock = window.setInterval(soon, 2000);
  signal.addEventListener("abort", () => window.clearInterval(clock), { once: true });

  const pause = button("Pause", { class: "small", "aria-pressed": "false" }, () => {
    paused = !paused;
    set(pause, { "aria-pressed": String(paused) });
    draw();
  });
  const chips = TYPES.map((type) => {
    const box = on(h("input", { type: "checkbox", checked: true }), "change", () => {
      if (box.checked) types.add(type);
      else types.delete(type);
      draw();
    });
    return h("label", { class: `chip type-${type}` }, box, type);
  });

  return h(
    "section",
    { class: "panel feed-panel" },
    h("header", {}, h("h3", {}, of === undefined ? "Changes" : "Changes of this cluster"), state, pause),
    of === undefined
      ? h("div", { class: "chips", role: "group", "aria-label": "Kinds of changes shown" }, ...chips)
      : null,
    empty,
    list,
  );
}

export function concerns(event: ClusterEvent, cluster: string): boolean {
  return [event.cluster_id, event.into?.cluster_id, event.merged?.cluster_id].includes(cluster);
}

function row({ event, at }: Change): HTMLElement {
  const cause = event.cause.kind === "record" ? "" : event.cause.kind;
  return h(
    "li",
    {},
    at === undefined
      ? h("span", { class: "at", title: "before this page was opened" }, "earlier")
      : h("time", { class: "at", datetime: new Date(at).toISOString() }, timeOfDay(at)),
    h("span", { class: `type type-${event.type}` }, event.type),
    h("span", { class: "what" }, ...sentence(event)),
    h("span", { class: "cause" }, cause),
  );
}

function sentence(event: ClusterEvent): Child[] {
  const link = (id: string | undefined): Child => (id === undefined ? null : clusterLink(event.collection, id));
  const face = faceText(event.face_id ?? "");
  const size = event.size_after ?? 0;
  const note = (text: string): Child => h("span", { class: "note" }, text);
  const arrow = (to: string): Child => h("span", { class: "arrow" }, to);
  switch (event.type) {
    case "created":
      return [face, arrow("→ new"), link(event.cluster_id)];
    case "joined":
      return [face, arrow("→"), link(event.cluster_id), note(counted(size, "face"))];
    case "merged":
      return [
        h("s", {}, `#${event.merged?.cluster_id ?? ""}`),
        event.merged?.name ? note(event.merged.name) : null,
        arrow("→"),
        link(event.cluster_id),
        note(`${count(event.size_before)} + ${counted(event.merged?.size_before ?? 0, "face")}`),
      ];
    case "split":
      return [face, link(event.cluster_id), arrow("→ new"), link(event.into?.cluster_id)];
    case "left":
      return [face, link(event.cluster_id), arrow("→"), link(event.into?.cluster_id)];
    case "erased":
      return [face, arrow("out of"), size ? link(event.cluster_id) : h("s", {}, `#${event.cluster_id ?? ""}`)];
    case "settled":
      return [`nothing is stale: ${counted(event.faces ?? 0, "face")} in ${counted(event.clusters ?? 0, "cluster")}`];
  }
}
