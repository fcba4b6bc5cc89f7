// A collection that moves: faces join, clusters merge, split and lose faces, and each change is an event. There is no
// model behind it; a face joins beside another of its cluster, its parent, and that is its strongest link.

import { hashed, normal, random } from "./random.mjs";

/**
 * @typedef {{ id: string, cluster: Cluster, parent: Face | null, x: number, y: number }} Face
 * @typedef {{ id: string, faces: Set<Face>, version: number, sequence: number, name?: string, pinned?: true }} Cluster
 * @typedef {{ type: string, sequence: number, collection: string, [field: string]: unknown }} Event
 */

export const THRESHOLD = 0.45;

export class Collection {
  /** @type {Map<string, Cluster>} */ clusters = new Map();
  /** @type {Map<string, { into: string, sequence: number, version: number }>} */ merged = new Map();
  /** @type {Map<string, Face>} */ faces = new Map();
  /** @type {Event[]} */ events = [];
  /** @type {Set<(event: Event) => void>} */ listeners = new Set();
  sequence = 0;
  #nextCluster = 1;
  #nextFace = 1;

  /** @param {string} name @param {number} seed */
  constructor(name, seed) {
    this.name = name;
    this.chance = random(seed);
  }

  /** @param {string} type @param {Cluster} cluster @param {number} before @param {object} more */
  #tell(type, cluster, before, more, kind = "record") {
    cluster.version++;
    cluster.sequence = this.sequence + 1;
    const sizes = {
      cluster_id: cluster.id,
      version: cluster.version,
      size_before: before,
      size_after: cluster.faces.size,
    };
    this.#emit({
      type,
      ...sizes,
      ...more,
      cause: kind === "record" ? { kind, partition: 0, offset: this.#nextFace } : { kind },
    });
  }

  /** @param {Record<string, unknown> & { type: string }} fields */
  #emit(fields) {
    const event = { collection: this.name, sequence: ++this.sequence, ...fields };
    this.events.push(event);
    if (this.events.length > 2000) this.events.shift();
    for (const listener of this.listeners) listener(event);
  }

  #newCluster() {
    /** @type {Cluster} */
    const cluster = { id: String(this.#nextCluster++), faces: new Set(), version: 0, sequence: 0 };
    this.clusters.set(cluster.id, cluster);
    return cluster;
  }

  /** @param {Cluster | undefined} cluster @param {string} [id] */
  arrive(cluster, id = faceId(this.#nextFace)) {
    this.#nextFace++;
    const home = cluster ?? this.#newCluster();
    const before = home.faces.size;
    const parent = this.#pick([...home.faces].slice(-40)) ?? null;
    /** @type {Face} */
    const face = { id, cluster: home, parent, x: 0, y: 0 };
    this.#place(face);
    home.faces.add(face);
    this.faces.set(id, face);
    this.#tell(cluster ? "joined" : "created", home, before, { face_id: id });
    return face;
  }

  /** @param {Face} face */
  #place(face) {
    const from = face.parent ?? { x: 0, y: 0 };
    face.x = from.x + 0.16 * normal(this.chance);
    face.y = from.y + 0.1 * normal(this.chance);
  }

  /** @param {Cluster} into @param {Cluster} from */
  merge(into, from) {
    const before = into.faces.size;
    const bridge = this.#pick([...into.faces]) ?? null;
    const [turn, far] = [2 * Math.PI * this.chance(), 0.35];
    for (const face of from.faces) {
      face.cluster = into;
      face.parent ??= bridge;
      face.x += (bridge?.x ?? 0) + far * Math.cos(turn);
      face.y += (bridge?.y ?? 0) + far * Math.sin(turn);
      into.faces.add(face);
    }
    this.clusters.delete(from.id);
    this.merged.set(from.id, { into: into.id, sequence: this.sequence + 1, version: from.version });
    if (from.name && !into.name) into.name = from.name;
    const merged = { cluster_id: from.id, size_before: from.faces.size, version: from.version + 1 };
    this.#tell("merged", into, before, { merged: from.name ? { ...merged, name: from.name } : merged }, "refresh");
  }

  /** A face leaves for another cluster, or for one of its own. @param {Face} face @param {Cluster} [into] */
  leave(face, into) {
    const from = face.cluster;
    const before = from.faces.size;
    this.#remove(face);
    const to = into ?? this.#newCluster();
    face.parent = this.#pick([...to.faces]) ?? null;
    face.cluster = to;
    this.#place(face);
    to.faces.add(face);
    to.version++;
    to.sequence = this.sequence + 1;
    const told = { cluster_id: to.id, size_after: to.faces.size, version: to.version };
    this.#tell(into ? "left" : "split", from, before, { face_id: face.id, into: told }, "refresh");
  }

  /** @param {Face} face */
  erase(face) {
    const before = face.cluster.faces.size;
    this.#remove(face);
    this.faces.delete(face.id);
    if (face.cluster.faces.size === 0) this.clusters.delete(face.cluster.id);
    this.#tell("erased", face.cluster, before, { face_id: face.id }, "expired");
  }

  settle() {
    this.#emit({ type: "settled", faces: this.faces.size, clusters: this.clusters.size, cause: { kind: "refresh" } });
  }

  /** @param {Face} face */
  #remove(face) {
    const { faces } = face.cluster;
    faces.delete(face);
    const [heir] = faces;
    for (const child of faces) if (child.parent === face) child.parent = child === heir ? null : (heir ?? null);
  }

  /** Something happens, as often of each kind as in a real stream. */
  step() {
    const chance = this.chance();
    const all = [...this.clusters.values()];
    if (chance < 0.3 || all.length < 3) return void this.arrive(undefined);
    // Popular people are met more often.
    const cluster = all[Math.floor(all.length * this.chance() ** 2)];
    if (!cluster) return;
    const several = all.filter(({ faces }) => faces.size > 3);
    if (chance < 0.9) this.arrive(cluster);
    else if (chance < 0.94) {
      const other = this.#pick(all.filter(({ faces }) => faces.size < 4));
      if (other && other !== cluster)
        Number(cluster.id) < Number(other.id) ? this.merge(cluster, other) : this.merge(other, cluster);
    } else if (chance < 0.97) {
      const face = this.#pick([...(this.#pick(several)?.faces ?? [])].slice(-3));
      if (face) this.leave(face, this.chance() < 0.4 && face.cluster !== cluster ? cluster : undefined);
    } else if (chance < 0.99) {
      const face = this.#pick([...cluster.faces]);
      if (face) this.erase(face);
    } else this.settle();
  }

  /** @template T @param {T[]} from @returns {T | undefined} */
  #pick(from) {
    return from[Math.floor(from.length * this.chance())];
  }
}

/** Ids as a camera would make them, with all that a path must not stumble over. @param {number} n */
function faceId(n) {
  const at = new Date(Date.UTC(2026, 10, 23, 18) + n * 1720).toISOString();
  return `cam${1 + Math.floor(hashed(`camera ${n}`) * 4)}/${at}/${n % 3}`;
}

/** The probability that two faces are one person. @param {Face} a @param {Face} b */
export function linkage(a, b) {
  const pair = a.id < b.id ? a.id + b.id : b.id + a.id;
  if (a.parent === b || b.parent === a) return 0.56 + 0.438 * hashed(pair) ** 0.4;
  const distance = Math.hypot(a.x - b.x, a.y - b.y);
  return (0.97 - 0.2 * hashed(pair)) / (1 + Math.exp((distance - 0.32) * 14));
}
