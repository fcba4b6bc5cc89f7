// What is looked at, as the hash of the address, so that a link shows another person the same:
// `#/lobby`, `#/lobby/12`, `#/lobby/12?a=FACE&b=FACE`.

export interface Route {
  /** Not given: the first collection there is. */
  collection?: string;
  cluster?: string;
  /** The two faces that are asked about. */
  a?: string;
  b?: string;
}

export function parseRoute(hash: string): Route {
  const [path = "", query = ""] = split(hash.replace(/^#\/?/, ""), "?");
  const [collection = "", cluster = ""] = path.split("/").map(decoded);
  const route: Route = {};
  if (!collection) return route;
  route.collection = collection;
  if (!cluster) return route;
  route.cluster = cluster;
  const faces = new URLSearchParams(query);
  const a = faces.get("a");
  const b = faces.get("b");
  if (a) route.a = a;
  if (b) route.b = b;
  return route;
}

export function formatRoute(route: Route): string {
  if (!route.collection) return "#/";
  let hash = `#/${encodeURIComponent(route.collection)}`;
  if (!route.cluster) return hash;
  hash += `/${encodeURIComponent(route.cluster)}`;
  const faces = (["a", "b"] as const)
    .filter((side) => route[side])
    .map((side) => `${side}=${encodeURIComponent(route[side] ?? "")}`);
  return faces.length ? `${hash}?${faces.join("&")}` : hash;
}

export function sameRoute(one: Route, other: Route): boolean {
  return formatRoute(one) === formatRoute(other);
}

function split(text: string, separator: string): [string, string] {
  const at = text.indexOf(separator);
  return at < 0 ? [text, ""] : [text.slice(0, at), text.slice(at + 1)];
}

/** A hash typed by hand may hold a lone `%`. */
function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
