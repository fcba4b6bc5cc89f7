// Asks the daemon: one function for each thing asked, and one error for all that can go wrong.

import type { Cluster, ClusterPage, Collection, Face, FacePage, Picture, Why } from "./types";
import { token, tokenRefused } from "./token";

/** An answer that is not what was asked for (RFC 9457), or none: `status` 0. */
export class Problem extends Error {
  override name = "Problem";

  constructor(
    readonly status: number,
    readonly title: string,
    readonly detail: string,
  ) {
    super(detail || title);
  }
}

/** How long an answer may take, headers to last byte. A stream has no such limit. */
const PATIENCE_MS = 15_000;

/** One request, with the token where there is one. Throws a Problem unless the answer is a good one. */
export async function ask(path: string, init: RequestInit = {}): Promise<Response> {
  const headers = new Headers(init.headers);
  const asked = token.value;
  if (asked) headers.set("authorization", `Bearer ${asked}`);
  let response: Response;
  try {
    // Relative to the page, so that both may live under a path of a proxy.
    response = await fetch(path, { ...init, headers, cache: "no-store", redirect: "error", credentials: "omit" });
  } catch (error) {
    throw problemOf(error);
  }
  if (response.ok) return response;
  if (response.status === 401) tokenRefused(asked);
  throw await problemIn(response);
}

export function isAbort(error: unknown): boolean {
  return error instanceof DOMException && error.name === "AbortError";
}

/** An abort stays an abort: whoever called for it knows. */
export function problemOf(error: unknown): unknown {
  if (isAbort(error) || error instanceof Problem) return error;
  const late = error instanceof DOMException && error.name === "TimeoutError";
  return new Problem(
    0,
    late ? "No answer in time" : "No connection to the daemon",
    late ? `The daemon did not answer within ${PATIENCE_MS / 1000} seconds.` : "",
  );
}

async function problemIn(response: Response): Promise<Problem> {
  const said: unknown = await response.json().catch(() => null);
  const field = (name: string): string => {
    const value = typeof said === "object" && said !== null ? (said as Record<string, unknown>)[name] : undefined;
    return typeof value === "string" ? value : "";
  };
  return new Problem(response.status, field("title") || `Status ${response.status}`, field("detail"));
}

export async function text(path: string): Promise<string> {
  const response = await ask(path, { signal: AbortSignal.timeout(PATIENCE_MS) });
  return response.text().catch((error: unknown) => Promise.reject(problemOf(error)));
}

async function json<T>(path: string, signal?: AbortSignal, init: RequestInit = {}): Promise<T> {
  const limit = AbortSignal.timeout(PATIENCE_MS);
  const response = await ask(path, { ...init, signal: signal ? AbortSignal.any([signal, limit]) : limit });
  try {
    return (await response.json()) as T;
  } catch (error) {
    if (error instanceof SyntaxError) throw new Problem(0, "Not an answer of facetd", "What came back is no JSON.");
    throw problemOf(error);
  }
}

const part = encodeURIComponent;

export function collections(signal?: AbortSignal): Promise<{ collections: Collection[] }> {
  return json("v1/collections", signal);
}

export function collection(name: string, signal?: AbortSignal): Promise<Collection> {
  return json(`v1/collections/${part(name)}`, signal);
}

export function face(collection: string, id: string, signal?: AbortSignal): Promise<Face> {
  return json(`v1/collections/${part(collection)}/faces/${part(id)}`, signal);
}

export function clusters(
  collection: string,
  order: "size" | "recent",
  limit: number,
  after: string | null,
  signal?: AbortSignal,
): Promise<ClusterPage> {
  return json(`v1/collections/${part(collection)}/clusters?order=${order}&${page(limit, after)}`, signal);
}

const clusterPath = (collection: string, id: string): string =>
  `v1/collections/${part(collection)}/clusters/${part(id)}`;

export function cluster(collection: string, id: string, signal?: AbortSignal): Promise<Cluster> {
  return json(clusterPath(collection, id), signal);
}

export function change(
  collection: string,
  id: string,
  to: { name?: string | null; pinned?: boolean },
  signal?: AbortSignal,
): Promise<Cluster> {
  return json(clusterPath(collection, id), signal, {
    method: "PATCH",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(to),
  });
}

export function members(
  collection: string,
  id: string,
  limit: number,
  after: string | null,
  signal?: AbortSignal,
): Promise<FacePage> {
  return json(`${clusterPath(collection, id)}/faces?${page(limit, after)}`, signal);
}

export function picture(collection: string, id: string, signal?: AbortSignal): Promise<Picture> {
  return json(`${clusterPath(collection, id)}/picture`, signal);
}

export function why(collection: string, a: string, b: string, signal?: AbortSignal): Promise<Why> {
  return json(`v1/collections/${part(collection)}/why?a=${part(a)}&b=${part(b)}`, signal);
}

function page(limit: number, after: string | null): string {
  return `limit=${limit}${after === null ? "" : `&after=${part(after)}`}`;
}
