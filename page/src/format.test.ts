import { expect, test } from "vitest";
import { axisSeconds, compact, count, counted, probability, rate, seconds } from "./format";

test("counts are grouped, and what is not known is a dash", () => {
  expect([count(0), count(20000), count(undefined), count(NaN)]).toEqual(["0", "20,000", "–", "–"]);
  expect([counted(1, "face"), counted(2, "face"), counted(0, "face")]).toEqual(["1 face", "2 faces", "0 faces"]);
});

test("rates keep a digit where it says something", () => {
  expect([rate(0), rate(0.42), rate(7.26), rate(993.4)]).toEqual(["0", "0.4", "7.3", "993"]);
});

test("axes are short", () => {
  expect([0, 12, 800, 1200, 25000, 3e6].map(compact)).toEqual(["0", "12", "800", "1.2k", "25k", "3M"]);
  expect([0, 0.0005, 0.02, 0.5, 2, 120].map(axisSeconds)).toEqual(["0", "0.5 ms", "20 ms", "500 ms", "2 s", "2 m"]);
});

test("durations have the unit that fits", () => {
  expect([0, 0.0005, 0.0123, 0.5, 1.239, 42.21, 200, 7500].map(seconds)).toEqual([
    "0 s",
    "0.5 ms",
    "12 ms",
    "500 ms",
    "1.24 s",
    "42.2 s",
    "3 m 20 s",
    "2 h 5 m",
  ]);
});

test("almost certain is not certain", () => {
  expect([0.5, 0.998, 1].map(probability)).toEqual(["0.50", ">0.99", "1.00"]);
});
