// The two faces that are asked about. They live in the address, so that the question can be passed on.

import { type App, go } from "../app";

export type Side = "a" | "b";

export function pick(app: App, side: Side, face: string | undefined): void {
  const { [side]: _before, ...route } = app.route.value;
  go(app, face ? { ...route, [side]: face } : route, true);
}

/** A click on a face, wherever: the first is A, the second B, and the next one another B. Again on the same takes it back. */
export function pickNext(app: App, face: string): void {
  const { a, b } = app.route.value;
  if (face === a) pick(app, "a", undefined);
  else if (face === b) pick(app, "b", undefined);
  else pick(app, a === undefined ? "a" : "b", face);
}

export function sideOf(app: App, face: string): Side | undefined {
  const { a, b } = app.route.value;
  return face === a ? "a" : face === b ? "b" : undefined;
}
