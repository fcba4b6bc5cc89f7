// What the API says of a collection.

import { linkage, THRESHOLD } from "./collection.mjs";
import { hashed } from "./random.mjs";

/**
 * @typedef {import("./collection.mjs").Collection} Collection
 * @typedef {import("./collection.mjs").Cluster} Cluster
 * @typedef {import("./collection.mjs").Face} Face
 */

/** @param {Collection} of */
export function collection(of) {
  /** @type {{ up_to: number, clusters: number }[]} */
  const sizes = [];
  for (const { faces } of of.clusters.values()) {
    const at = Math.ceil(Math.log2(faces.size));
    while (sizes.length <= at) sizes.push({ up_to: 2 ** sizes.length, clusters: 0 });
    const bucket = sizes[at];
    if (bucket) bucket.clusters++;
  }
  return { collection: of.name, faces: of.faces.size, clusters: of.clusters.size, sequence: of.sequence, sizes };
}

/** @param {Cluster} of */
export function cluster(of) {
  const { id, faces, version, sequence, name, pinned } = of;
  return {
    cluster_id: id,
    size: faces.size,
    version,
    sequence,
    status: "living",
    ...(name && { name }),
    ...(pinned && { pinned }),
  };
}

/** @param {Face} of */
export function face(of) {
  const { cluster_id, size, version, name, pinned } = cluster(of.cluster);
  return { face_id: of.id, cluster_id, size, version, ...(name && { name }), ...(pinned && { pinned }) };
}

/** @template T @param {T[]} all @param {URLSearchParams} query @returns {{ page: T[], next: string | null }} */
export function paged(all, query) {
  const limit = Math.min(Number(query.get("limit") ?? 50), 500);
  const from = Number(query.get("after") ?? 0);
  return { page: all.slice(from, from + limit), next: from + limit < all.length ? String(from + limit) : null };
}

/** @param {Collection} of @param {URLSearchParams} query */
export function clusters(of, query) {
  /** @type {(one: Cluster, other: Cluster) => number} */
  const order =
    query.get("order") === "recent" ? (a, b) => b.sequence - a.sequence : (a, b) => b.faces.size - a.faces.size;
  const { page, next } = paged([...of.clusters.values()].sort(order), query);
  return { clusters: page.map(cluster), next };
}

/** @param {Collection} of @param {Cluster} looked */
export function picture(of, looked) {
  const members = [...looked.faces].slice(0, 200);
  const extent = Math.max(0.5, ...members.map(({ x, y }) => Math.hypot(x, y)));
  const others = [...of.clusters.values()].filter(
    (one) => one !== looked && hashed(`${looked.id} near ${one.id}`) < 0.04,
  );
  const strangers = others
    .slice(0, 14)
    .flatMap((one) => [...one.faces].slice(0, 4))
    .slice(0, 50)
    .map((stranger) => {
      const turn = 2 * Math.PI * hashed(`${looked.id} turn ${stranger.cluster.id}`);
      const far = extent * (0.75 + 0.5 * hashed(`far ${stranger.cluster.id}`));
      return {
        ...stranger,
        x: far * Math.cos(turn) + 0.3 * stranger.x,
        y: 0.7 * far * Math.sin(turn) + 0.3 * stranger.y,
      };
    });
  const shown = [...members, ...strangers];
  /** Of a pair once, and of a face no more than its strongest. @type {Map<string, { a: string, b: string, linkage: number }>} */
  const linkages = new Map();
  for (const a of shown) {
    const strongest = shown
      .filter((b) => b !== a)
      .map((b) => ({ b, p: linkage(a, b) * (a.cluster === b.cluster ? 1 : 0.5) }))
      .filter(({ p }) => p >= 0.1)
      .sort((one, other) => other.p - one.p);
    for (const { b, p } of strongest.slice(0, 8)) {
      const [first, second] = a.id < b.id ? [a.id, b.id] : [b.id, a.id];
      linkages.set(JSON.stringify([first, second]), { a: first, b: second, linkage: round(p) });
    }
  }
  return {
    cluster_id: looked.id,
    size: looked.faces.size,
    shown: members.length,
    faces: shown.map(({ id, cluster, x, y }) => ({ face_id: id, cluster_id: cluster.id, x: round(x), y: round(y) })),
    linkages: [...linkages.values()],
  };
}

/** The way over the parents: of a tree there is but one. @param {Face} a @param {Face} b */
export function why(a, b) {
  const together = a.cluster === b.cluster;
  const [up, down] = [way(a), way(b)];
  const meet = up.find((one) => down.includes(one));
  /** @type {{ from: string, to: string, linkage: number }[]} */
  let path = [];
  if (a !== b && meet) {
    const all = [...up.slice(0, up.indexOf(meet) + 1), ...down.slice(0, down.indexOf(meet)).reverse()];
    path = all.slice(1).map((to, at) => {
      const from = /** @type {Face} */ (all[at]);
      return { from: from.id, to: to.id, linkage: round(linkage(from, to)) };
    });
  } else if (!together && hashed(a.cluster.id + b.cluster.id) < 0.5) {
    path = [{ from: a.id, to: b.id, linkage: round(0.12 + 0.3 * hashed(a.id + b.id)) }];
  }
  return { together, threshold: THRESHOLD, path };
}

/** @param {Face} face */
function way(face) {
  /** @type {Face[]} */
  const found = [];
  for (let at = /** @type {Face | null} */ (face); at && !found.includes(at); at = at.parent) found.push(at);
  return found;
}

/** @param {number} value */
function round(value) {
  return Math.round(value * 1000) / 1000;
}
