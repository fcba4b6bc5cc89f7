import { expect, test } from "vitest";
import { formatRoute, parseRoute, type Route } from "./route";

test.each<[string, Route]>([
  ["#/", {}],
  ["#/lobby", { collection: "lobby" }],
  ["#/lobby/12", { collection: "lobby", cluster: "12" }],
  ["#/lobby/12?a=f1", { collection: "lobby", cluster: "12", a: "f1" }],
  [
    "#/lobby/12?a=cam3%2F2026%3F%26%23&b=%25%20%2B",
    { collection: "lobby", cluster: "12", a: "cam3/2026?&#", b: "% +" },
  ],
])("%s is read and written", (hash, route) => {
  expect(parseRoute(hash)).toEqual(route);
  expect(formatRoute(route)).toBe(hash);
});

test("a hash that nobody wrote with this page is no error", () => {
  expect(parseRoute("")).toEqual({});
  expect(parseRoute("#lobby")).toEqual({ collection: "lobby" });
  expect(parseRoute("#/%/%E0%A4%A")).toEqual({ collection: "%", cluster: "%E0%A4%A" });
  expect(parseRoute("#/lobby?a=f1")).toEqual({ collection: "lobby" });
  expect(parseRoute("#/lobby/12?a=&c=3")).toEqual({ collection: "lobby", cluster: "12" });
});
