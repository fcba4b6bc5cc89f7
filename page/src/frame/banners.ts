// What the reader must know before believing a number: no connection, not ready, full; and what just happened.

import type { App } from "../app";
import { button, fill, h } from "../dom";
import { timeOfDay } from "../format";
import { problemText } from "../states";

export function banners(app: App, signal: AbortSignal): HTMLElement {
  const box = h("div", { class: "banners", role: "status" });
  let shown = "";
  const draw = (): void => {
    const notice = app.notice.value;
    const troubles = troublesOf(app);
    // Drawn anew only when it says something else: a screen reader reads it out each time.
    const now = JSON.stringify([notice, troubles]);
    if (now === shown) return;
    shown = now;
    fill(
      box,
      ...troubles.map(([tone, text]) => h("p", { class: "banner", "data-tone": tone }, text)),
      notice
        ? h(
            "p",
            { class: "banner", "data-tone": "news" },
            notice,
            button("Dismiss", { class: "small" }, () => (app.notice.value = "")),
          )
        : null,
    );
  };
  app.metrics.connection.watch(signal, draw);
  app.metrics.latest.watch(signal, draw);
  app.notice.watch(signal, draw);
  return box;
}

function troublesOf(app: App): [tone: string, text: string][] {
  const connection = app.metrics.connection.value;
  const latest = app.metrics.latest.value;
  if (connection.state === "lost") {
    const { problem, since } = connection;
    if (problem.status === 0) {
      const when = since === undefined ? "." : ` since ${timeOfDay(since)}. What you see is from then.`;
      return [["bad", `${problem.title}${when} Trying again every 2 seconds.`]];
    }
    if (problem.status === 403) return [["warn", "This token may not read the metrics, so the charts stay empty."]];
    if (problem.status !== 401) return [["bad", `The metrics cannot be read. ${problemText(problem)}`]];
    return [["warn", "A token is needed to see anything."]];
  }
  const troubles: [string, string][] = [];
  if (latest?.ready === false)
    troubles.push(["warn", "Not ready: the daemon is loading its state and takes no input yet."]);
  if (latest?.full.length) {
    troubles.push(["bad", `Full: the limit of ${latest.full.join(", ")} is reached, and nothing more is taken.`]);
  }
  return troubles;
}
