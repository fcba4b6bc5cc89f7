// The daemon as a whole, over all collections: what it holds, and four charts of how it keeps up.

import type { App } from "../app";
import { Cell } from "../cell";
import { type Look, LineChart } from "../charts/line";
import { h, say, set } from "../dom";
import { axisSeconds, compact, count, NOTHING, rate, seconds } from "../format";
import type { Point } from "../metrics/history";
import type { Snapshot } from "../metrics/snapshot";

const CHARTS: Look<Point>[] = [
  {
    title: "Throughput",
    unit: "faces a second, over 10 s",
    lines: [
      { name: "arrived", of: (point) => point.arrivals },
      { name: "refreshed", of: (point) => point.refreshes },
    ],
    format: rate,
    axis: compact,
    smallest: 4,
  },
  {
    title: "Lag",
    unit: "records not applied yet",
    lines: [{ name: "records", of: (point) => point.lag }],
    format: count,
    axis: compact,
    smallest: 4,
  },
  {
    title: "Refresh queue",
    unit: "stale faces",
    lines: [
      { name: "faces", of: (point) => point.stale },
      { name: "oldest waits", of: (point) => point.staleOldest, format: seconds, undrawn: true },
    ],
    format: count,
    axis: compact,
    smallest: 4,
  },
  {
    title: "Latency",
    unit: "of a batch, over 30 s",
    lines: [
      { name: "p99", of: (point) => point.batch99 },
      { name: "p95", of: (point) => point.batch95 },
      { name: "p50", of: (point) => point.batch50 },
      { name: "commit p99", of: (point) => point.commit99 },
    ],
    format: seconds,
    axis: axisSeconds,
    smallest: 0.002,
  },
];

const FIGURES: { name: string; of: (snapshot: Snapshot) => string; more?: (snapshot: Snapshot) => string }[] = [
  { name: "Faces", of: ({ faces }) => count(faces) },
  { name: "Clusters", of: ({ clusters }) => count(clusters) },
  {
    name: "Collections",
    of: ({ collections }) => count(collections),
    more: ({ unsettled }) => (unsettled > 0 ? `${count(unsettled)} not settled` : unsettled === 0 ? "all settled" : ""),
  },
  { name: "Outbox", of: ({ outbox }) => count(outbox), more: () => "to publish" },
  {
    name: "Rejected",
    of: ({ rejected }) => count(rejected.reduce((sum, [, records]) => sum + records, 0)),
    more: ({ rejected }) => rejected.map(([reason, records]) => `${count(records)} ${reason}`).join(" · "),
  },
];

export function daemonSection(app: App, signal: AbortSignal): HTMLElement {
  const pointed = new Cell<number | undefined>(undefined);
  const charts = CHARTS.map((look) => new LineChart<Point>(look, pointed, signal));
  const figures = FIGURES.map(({ name }) => ({
    value: h("span", { class: "value" }, NOTHING),
    more: h("span", { class: "more" }),
    name,
  }));
  const section = h(
    "section",
    { class: "daemon", "aria-labelledby": "daemon-title" },
    h("h2", { id: "daemon-title" }, "Daemon", h("span", { class: "unit" }, "all collections")),
    h(
      "dl",
      { class: "figures panel" },
      ...figures.map(({ name, value, more }) => h("div", {}, h("dt", {}, name), h("dd", {}, value, more))),
    ),
    h("div", { class: "charts" }, ...charts.map(({ element }) => element)),
  );

  app.metrics.latest.watch(signal, (snapshot) => {
    if (!snapshot) return;
    FIGURES.forEach(({ of, more }, at) => {
      const figure = figures[at];
      if (!figure) return;
      say(figure.value, of(snapshot));
      const text = more?.(snapshot) ?? "";
      say(figure.more, text);
      set(figure.more, { title: text || undefined });
    });
  });
  app.metrics.connection.watch(signal, ({ state }) => set(section, { "data-old": state === "lost" }));
  app.tick.watch(signal, () => {
    const until = Date.now();
    for (const chart of charts) chart.show(app.metrics.history.points, until);
  });
  return section;
}
