import { expect, test } from "vitest";
import { History, SHOWN_MS } from "./history";
import { snapshot } from "./snapshot";

const at = (ms: number, arrivals: number, batches: number[] = [0, 0, 0]) =>
  snapshot(
    [
      `facetd_engine_linked_faces_total{why="arrival"} ${arrivals}`,
      'facetd_engine_linked_faces_total{why="refresh"} 0',
      ...["0.1", "0.2", "+Inf"].map((le, n) => `facetd_engine_batch_seconds_bucket{le="${le}"} ${batches[n]}`),
      'facetd_source_rejected_total{reason="a"} 0',
      'facetd_source_rejected_total{reason="b"} 2',
      'facetd_source_rejected_total{reason="c"} 7',
      'facetd_daemon_full{limit="faces"} 1',
      'facetd_daemon_full{limit="disk"} 0',
      "facetd_daemon_ready 1",
    ].join("\n"),
    ms,
  );

test("a rate is over the last ten seconds, and none after one look", () => {
  const history = new History();
  history.add(at(0, 100));
  expect(history.points[0]?.arrivals).toBeUndefined();
  history.add(at(2000, 300));
  expect(history.points[1]?.arrivals).toBe(100);
  for (let ms = 4000; ms <= 14000; ms += 2000) history.add(at(ms, 300));
  expect(history.points.at(-1)?.arrivals).toBe(0);
});

test("a daemon that starts anew makes no negative rate", () => {
  const history = new History();
  history.add(at(0, 1000));
  history.add(at(2000, 50));
  expect(history.points[1]?.arrivals).toBe(25);
});

test("quantiles are of the window alone", () => {
  const history = new History();
  history.add(at(0, 0, [1000, 1000, 1000]));
  expect(history.points[0]?.batch50).toBeUndefined();
  history.add(at(2000, 0, [1000, 1010, 1010]));
  expect(history.points[1]?.batch50).toBeCloseTo(0.15);
  for (let ms = 4000; ms <= 40000; ms += 2000) history.add(at(ms, 0, [1000, 1010, 1010]));
  expect(history.points.at(-1)?.batch50).toBeUndefined();
});

test("only what is shown is kept", () => {
  const history = new History();
  for (let ms = 0; ms <= SHOWN_MS + 60_000; ms += 2000) history.add(at(ms, ms));
  expect(history.points).toHaveLength(SHOWN_MS / 2000 + 2);
});

test("reasons that never were are left out, what is not told is not 0", () => {
  const { rejected, full, ready, lag } = at(0, 0);
  expect(rejected).toEqual([
    ["c", 7],
    ["b", 2],
  ]);
  expect(full).toEqual(["faces"]);
  expect(ready).toBe(true);
  expect(lag).toBeNaN();
});
