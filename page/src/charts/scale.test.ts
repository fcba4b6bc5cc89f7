import { expect, test } from "vitest";
import { ticks, times } from "./scale";

test("an axis ends at a round number above what is shown", () => {
  expect(ticks(993, 4)).toEqual([0, 250, 500, 750, 1000]);
  expect(ticks(1000, 4)).toEqual([0, 250, 500, 750, 1000]);
  expect(ticks(7, 4)).toEqual([0, 2, 4, 6, 8]);
  expect(ticks(0.0123, 4)).toEqual([0, 0.005, 0.01, 0.015]);
});

test("nothing and a flat line at 0 have an axis too", () => {
  expect(ticks(0, 4)).toEqual([0, 1]);
  expect(ticks(NaN, 4)).toEqual([0, 1]);
  expect(ticks(0, 4, 4)).toEqual([0, 1, 2, 3, 4]);
});

test("times are marked at round ones", () => {
  expect(times(61_000, 181_000, 2)).toEqual([120_000, 180_000]);
  expect(times(0, 300_000, 3)).toEqual([0, 120_000, 240_000]);
  expect(times(1000, 61_000, 4)).toEqual([15_000, 30_000, 45_000, 60_000]);
});
