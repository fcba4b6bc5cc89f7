// Quantiles from the buckets of a histogram, as Prometheus's histogram_quantile() reckons them.

import type { Families } from "./prometheus";

/** Cumulative counts, by rising upper bound; the last bound is Infinity. */
export interface Histogram {
  bounds: number[];
  counts: number[];
}

export function histogram(families: Families, name: string): Histogram {
  const buckets = (families.get(`${name}_bucket`) ?? [])
    .map(({ labels, value }) => ({ bound: labels["le"] === "+Inf" ? Infinity : Number(labels["le"]), count: value }))
    .sort((one, other) => one.bound - other.bound);
  return { bounds: buckets.map(({ bound }) => bound), counts: buckets.map(({ count }) => count) };
}

/** What was counted between two looks. A daemon that started anew in between has counted from 0. */
export function increase(from: Histogram, to: Histogram): Histogram {
  const total = (of: Histogram): number => of.counts.at(-1) ?? 0;
  if (from.counts.length !== to.counts.length || total(to) < total(from)) return to;
  return { bounds: to.bounds, counts: to.counts.map((count, at) => Math.max(0, count - (from.counts[at] ?? 0))) };
}

export function sum(one: Histogram, other: Histogram): Histogram {
  if (one.counts.length !== other.counts.length) return other;
  return { bounds: other.bounds, counts: other.counts.map((count, at) => count + (one.counts[at] ?? 0)) };
}

/** Undefined when nothing was counted. Inside a bucket, values are taken to be spread evenly. */
export function quantile(q: number, { bounds, counts }: Histogram): number | undefined {
  const total = counts.at(-1) ?? 0;
  if (total <= 0) return undefined;
  const rank = q * total;
  const at = counts.findIndex((count) => count >= rank);
  const bound = bounds[at] ?? Infinity;
  const below = at > 0 ? (bounds[at - 1] ?? 0) : 0;
  // Above the last finite bound nothing more is known than that.
  if (bound === Infinity) return below;
  const before = at > 0 ? (counts[at - 1] ?? 0) : 0;
  const inside = (counts[at] ?? 0) - before;
  return inside > 0 ? below + (bound - below) * ((rank - before) / inside) : below;
}
