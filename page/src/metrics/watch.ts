// Looks at /metrics again and again, and knows since when it could not.

import * as api from "../api/client";
import { token } from "../api/token";
import { Cell } from "../cell";
import { repeat } from "../repeat";
import { History } from "./history";
import { type Snapshot, snapshot } from "./snapshot";

export const EVERY_MS = 2000;

export type Connection =
  | { state: "connecting" }
  | { state: "live" }
  /** `since`: when the daemon answered last; never, if it has not yet. */
  | { state: "lost"; since: number | undefined; problem: api.Problem };

export class Metrics {
  readonly connection = new Cell<Connection>({ state: "connecting" });
  readonly latest = new Cell<Snapshot | undefined>(undefined);
  readonly history = new History();

  start(signal: AbortSignal): void {
    const look = repeat(EVERY_MS, signal, () => this.#look());
    token.watch(signal, look);
  }

  async #look(): Promise<void> {
    try {
      const now = snapshot(await api.text("metrics"), Date.now());
      this.history.add(now);
      this.latest.value = now;
      if (this.connection.value.state !== "live") this.connection.value = { state: "live" };
    } catch (error) {
      if (!(error instanceof api.Problem)) throw error;
      const before = this.connection.value;
      if (before.state === "lost" && before.problem.status === error.status) return;
      this.connection.value = { state: "lost", since: this.latest.value?.at, problem: error };
    }
  }
}
