// /metrics of a daemon under a load that comes in waves.

import { normal, random } from "./random.mjs";

const REASONS = ["bad_json", "wrong_dimension", "not_finite", "unknown_face", "wrong_shard"];

export class Metrics {
  #chance = random(7);
  #arrivals = 1_180_000;
  #refreshes = 402_000;
  #lag = 0;
  #stale = 1400;
  #rejected = new Map(REASONS.map((reason, at) => [reason, [3, 11, 0, 1, 0][at] ?? 0]));
  #batch = new Buckets(0.0005, 16);
  #commit = new Buckets(0.0005, 14);
  /** @type {string[]} */ full = [];
  outbox = 0;

  /** @param {number} now ms @param {number} passed ms since the last */
  step(now, passed) {
    const wave = 1 + 0.25 * Math.sin(now / 21_000) + 0.12 * Math.sin(now / 5300);
    const comes = 960 * wave * (1 + 0.05 * normal(this.#chance)) * (passed / 1000);
    const taken = Math.min(this.#lag + comes, 1060 * (passed / 1000));
    this.#lag = Math.max(0, this.#lag + comes - taken);
    this.#arrivals += taken;
    const refreshed = Math.min(this.#stale, 380 * (passed / 1000) * (2 - wave));
    this.#refreshes += refreshed;
    this.#stale = Math.max(0, this.#stale + taken * 0.36 - refreshed);
    this.outbox = Math.max(0, Math.round(30 * wave + 12 * normal(this.#chance)));
    for (let batch = 0; batch < (passed / 1000) * 18; batch++) {
      this.#batch.add(0.019 * wave * Math.exp(0.45 * normal(this.#chance)));
      this.#commit.add(0.0035 * Math.exp(0.5 * normal(this.#chance)));
    }
    if (this.#chance() < 0.01) this.#rejected.set("wrong_dimension", (this.#rejected.get("wrong_dimension") ?? 0) + 1);
  }

  /** @param {{ ready: boolean, faces: number, clusters: number, collections: number }} of */
  text({ ready, faces, clusters, collections }) {
    const now = [
      ["facetd_daemon_ready", ready ? 1 : 0],
      ["facetd_engine_faces", faces],
      ["facetd_engine_clusters", clusters],
      ["facetd_engine_collections", collections],
      ["facetd_engine_unsettled_collections", this.#stale > 0 ? 1 : 0],
      ["facetd_engine_stale_faces", Math.round(this.#stale)],
      ["facetd_engine_stale_oldest_seconds", (this.#stale / 290).toFixed(3)],
      ['facetd_engine_linked_faces_total{why="arrival"}', Math.round(this.#arrivals)],
      ['facetd_engine_linked_faces_total{why="refresh"}', Math.round(this.#refreshes)],
      ["facetd_source_records_total", Math.round(this.#arrivals) + 15],
      ["facetd_source_lag_records", Math.round(this.#lag)],
      ["facetd_publish_outbox_entries", this.outbox],
      ...[...this.#rejected].map(([reason, count]) => [`facetd_source_rejected_total{reason="${reason}"}`, count]),
      ...["faces", "disk_bytes"].map((limit) => [
        `facetd_daemon_full{limit="${limit}"}`,
        this.full.includes(limit) ? 1 : 0,
      ]),
    ];
    return [
      "# HELP facetd_daemon_ready 1 once the state is loaded and input is taken",
      "# TYPE facetd_daemon_ready gauge",
      ...now.map(([name, value]) => `${name} ${value}`),
      ...this.#batch.lines("facetd_engine_batch_seconds"),
      ...this.#commit.lines("facetd_store_commit_seconds"),
      "",
    ].join("\n");
  }
}

class Buckets {
  #total = 0;
  #sum = 0;

  /** @param {number} first @param {number} buckets */
  constructor(first, buckets) {
    this.bounds = Array.from({ length: buckets }, (_, at) => first * 2 ** at);
    this.counts = this.bounds.map(() => 0);
  }

  /** @param {number} seconds */
  add(seconds) {
    this.#total++;
    this.#sum += seconds;
    this.bounds.forEach((bound, at) => {
      if (seconds <= bound) this.counts[at] = (this.counts[at] ?? 0) + 1;
    });
  }

  /** @param {string} name */
  lines(name) {
    return [
      ...this.bounds.map((bound, at) => `${name}_bucket{le="${bound}"} ${this.counts[at]}`),
      `${name}_bucket{le="+Inf"} ${this.#total}`,
      `${name}_sum ${this.#sum}`,
      `${name}_count ${this.#total}`,
    ];
  }
}
