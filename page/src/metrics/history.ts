// The last minutes of metrics: counters become rates, histograms quantiles, each over a sliding window.

import { type Histogram, increase, quantile, sum } from "./quantile";
import type { Snapshot } from "./snapshot";

export const SHOWN_MS = 5 * 60_000;
const RATE_WINDOW_MS = 10_000;
/** Longer than for rates: the 99th percentile of a dozen batches would be the slowest of them. */
export const LATENCY_WINDOW_MS = 30_000;

/** One moment of the charts. What is not known is undefined, and a gap in the line. */
export interface Point {
  at: number;
  arrivals: number | undefined;
  refreshes: number | undefined;
  lag: number;
  stale: number;
  staleOldest: number;
  batch50: number | undefined;
  batch95: number | undefined;
  batch99: number | undefined;
  commit99: number | undefined;
}

export class History {
  readonly points: Point[] = [];
  #snapshots: Snapshot[] = [];

  add(now: Snapshot): void {
    this.#snapshots.push(now);
    this.#snapshots = this.#snapshots.filter(({ at }) => at >= now.at - LATENCY_WINDOW_MS);
    const batch = this.#observed((snapshot) => snapshot.batch);
    const commit = this.#observed((snapshot) => snapshot.commit);
    this.points.push({
      at: now.at,
      arrivals: this.#rate((snapshot) => snapshot.arrivals),
      refreshes: this.#rate((snapshot) => snapshot.refreshes),
      lag: now.lag,
      stale: now.stale,
      staleOldest: now.staleOldest,
      batch50: batch && quantile(0.5, batch),
      batch95: batch && quantile(0.95, batch),
      batch99: batch && quantile(0.99, batch),
      commit99: commit && quantile(0.99, commit),
    });
    // One more than is shown, so that the line begins at the edge.
    while ((this.points[1]?.at ?? Infinity) < now.at - SHOWN_MS) this.points.shift();
  }

  #rate(of: (snapshot: Snapshot) => number): number | undefined {
    const newest = this.#snapshots.at(-1);
    if (!newest) return undefined;
    const inside = this.#snapshots.filter(({ at }) => at >= newest.at - RATE_WINDOW_MS);
    const oldest = inside[0];
    if (!oldest || oldest === newest) return undefined;
    let increased = 0;
    for (const [before, after] of pairs(inside)) {
      // A daemon that started anew counts from 0 again.
      const by = of(after) - of(before);
      increased += by >= 0 ? by : of(after);
    }
    return Number.isNaN(increased) ? undefined : (1000 * increased) / (newest.at - oldest.at);
  }

  #observed(of: (snapshot: Snapshot) => Histogram): Histogram | undefined {
    const increases = pairs(this.#snapshots).map(([before, after]) => increase(of(before), of(after)));
    return increases.length ? increases.reduce(sum) : undefined;
  }
}

function pairs<T>(items: readonly T[]): [T, T][] {
  return items.slice(1).map((item, at) => [items[at] as T, item]);
}
