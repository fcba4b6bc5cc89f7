// The API token: kept for this tab only (sessionStorage), sent in a header, never part of an address.

import { Cell } from "../cell";

const KEY = "facetd-token";

function stored(): string {
  try {
    return sessionStorage.getItem(KEY) ?? "";
  } catch {
    return ""; // a browser that forbids storage: the token lives as long as the page
  }
}

export const token = new Cell(stored());

/** Whether the daemon wants a token that it has not got; `wrong`: it got one and knows it not. */
export const wanted = new Cell<"no" | "missing" | "wrong">("no");

export function useToken(value: string): void {
  try {
    if (value) sessionStorage.setItem(KEY, value);
    else sessionStorage.removeItem(KEY);
  } catch {
    // as above
  }
  wanted.value = "no";
  token.value = value;
}

/** The daemon answered 401 to `asked`. An answer to a token that has been replaced since says nothing. */
export function tokenRefused(asked: string): void {
  if (asked === token.value) wanted.value = asked ? "wrong" : "missing";
}
