// What the page wants of one look at /metrics.

import { type Families, parsePrometheus } from "./prometheus";
import { type Histogram, histogram } from "./quantile";

export interface Snapshot {
  /** When it was looked at, in milliseconds since 1970 by the reader's clock. */
  at: number;
  arrivals: number;
  refreshes: number;
  lag: number;
  stale: number;
  staleOldest: number;
  outbox: number;
  faces: number;
  clusters: number;
  collections: number;
  unsettled: number;
  ready: boolean;
  batch: Histogram;
  commit: Histogram;
  /** Records rejected, by reason; only those that are not 0. */
  rejected: [reason: string, records: number][];
  /** Limits that are reached. */
  full: string[];
}

export function snapshot(text: string, at: number): Snapshot {
  const families = parsePrometheus(text);
  const one = (name: string, labels?: Record<string, string>): number => value(families, name, labels);
  return {
    at,
    arrivals: one("facetd_engine_linked_faces_total", { why: "arrival" }),
    refreshes: one("facetd_engine_linked_faces_total", { why: "refresh" }),
    lag: one("facetd_source_lag_records"),
    stale: one("facetd_engine_stale_faces"),
    staleOldest: one("facetd_engine_stale_oldest_seconds"),
    outbox: one("facetd_publish_outbox_entries"),
    faces: one("facetd_engine_faces"),
    clusters: one("facetd_engine_clusters"),
    collections: one("facetd_engine_collections"),
    unsettled: one("facetd_engine_unsettled_collections"),
    ready: one("facetd_daemon_ready") === 1,
    batch: histogram(families, "facetd_engine_batch_seconds"),
    commit: histogram(families, "facetd_store_commit_seconds"),
    rejected: labelled(families, "facetd_source_rejected_total", "reason")
      .filter(([, records]) => records > 0)
      .sort(([, one], [, other]) => other - one),
    full: labelled(families, "facetd_daemon_full", "limit")
      .filter(([, reached]) => reached === 1)
      .map(([limit]) => limit),
  };
}

/** NaN where the daemon does not tell it: the page then shows a dash, not a 0. */
function value(families: Families, name: string, labels: Record<string, string> = {}): number {
  const series = families
    .get(name)
    ?.find((one) => Object.entries(labels).every(([label, wanted]) => one.labels[label] === wanted));
  return series?.value ?? NaN;
}

function labelled(families: Families, name: string, label: string): [string, number][] {
  return (families.get(name) ?? []).map(({ labels, value }) => [labels[label] ?? "", value]);
}
