// The latest changes of the collection that is looked at, and whether the stream of them is there.

import * as api from "../api/client";
import { token } from "../api/token";
import type { ClusterEvent, EventType } from "../api/types";
import { Cell } from "../cell";
import { follow } from "./stream";

export const TYPES: readonly EventType[] = ["created", "joined", "merged", "split", "left", "erased", "settled"];
/** Of each type, so that the many faces that join do not push out the rare merge. */
const KEPT = 100;
/** How many changes from before the page was opened are asked for. */
const BACKLOG = 60;
const RATE_WINDOW_MS = 5000;

export interface Change {
  event: ClusterEvent;
  /** When it came in; undefined for one from before the page was opened: events do not say when they happened. */
  at: number | undefined;
}

export type FeedState =
  { state: "connecting" } | { state: "open" } | { state: "broken"; problem: api.Problem; nextTry: number };

export class Feed {
  readonly state = new Cell<FeedState>({ state: "connecting" });
  /** Counts up whenever something came in. */
  readonly news = new Cell(0);
  /** Changes were missed after this one: sequence, or undefined. */
  missedAfter: number | undefined;

  readonly #kept = new Map<EventType, Change[]>();
  readonly #listeners = new Set<(events: ClusterEvent[]) => void>();
  #arrived: { at: number; events: number }[] = [];

  constructor(
    readonly collection: string,
    signal: AbortSignal,
  ) {
    let stop = new AbortController();
    token.watch(signal, () => {
      stop.abort();
      stop = new AbortController();
      void this.#run(AbortSignal.any([signal, stop.signal]));
    });
  }

  /** Newest first. */
  changes(
    types: ReadonlySet<EventType>,
    most: number,
    wanted: (event: ClusterEvent) => boolean = () => true,
  ): Change[] {
    const found = [...types].flatMap((type) => (this.#kept.get(type) ?? []).filter(({ event }) => wanted(event)));
    return found.sort((one, other) => other.event.sequence - one.event.sequence).slice(0, most);
  }

  /** Changes a second, of the last few seconds. */
  rate(): number {
    const now = Date.now();
    this.#arrived = this.#arrived.filter(({ at }) => at > now - RATE_WINDOW_MS);
    return (1000 * this.#arrived.reduce((sum, { events }) => sum + events, 0)) / RATE_WINDOW_MS;
  }

  /** Calls `listener` with what happens from now on. */
  listen(signal: AbortSignal, listener: (events: ClusterEvent[]) => void): void {
    this.#listeners.add(listener);
    signal.addEventListener("abort", () => this.#listeners.delete(listener), { once: true });
  }

  async #run(signal: AbortSignal): Promise<void> {
    this.state.value = { state: "connecting" };
    const known = await api.collection(this.collection, signal).then(
      ({ sequence }) => sequence,
      () => undefined, // following says what is wrong, and tries again
    );
    if (signal.aborted) return;
    const from = known === undefined ? undefined : Math.max(1, known - BACKLOG + 1);
    await follow(this.collection, from, signal, {
      events: (events) => this.#take(events, known ?? 0),
      open: () => (this.state.value = { state: "open" }),
      broken: (problem, waitMs) => (this.state.value = { state: "broken", problem, nextTry: Date.now() + waitMs }),
      missed: () => (this.missedAfter = this.changes(new Set(TYPES), 1)[0]?.event.sequence),
    });
  }

  #take(events: ClusterEvent[], known: number): void {
    const at = Date.now();
    const fresh = events.filter(({ sequence }) => sequence > known);
    for (const event of events) {
      const kept = this.#kept.get(event.type) ?? [];
      if (kept.some((change) => change.event.sequence === event.sequence)) continue;
      kept.unshift({ event, at: event.sequence > known ? at : undefined });
      if (kept.length > KEPT) kept.length = KEPT;
      this.#kept.set(event.type, kept);
    }
    if (fresh.length) {
      this.#arrived.push({ at, events: fresh.length });
      for (const listener of [...this.#listeners]) listener(fresh);
    }
    this.news.value++;
  }
}
