// A daemon that is none: the API by its contract, with collections that move, and every way to be in trouble. For
// developing the page and for its tests. It serves the built page too, under the Content-Security-Policy it must live with.

import { createServer } from "node:http";
import { readFile } from "node:fs/promises";
import { extname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";
import * as answers from "./answers.mjs";
import { Collection } from "./collection.mjs";
import { Metrics } from "./metrics.mjs";

const DIST = fileURLToPath(new URL("../dist/", import.meta.url));
const CSP = "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'";
/** @type {Record<string, string>} */
const TYPES = {
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript",
  ".css": "text/css",
  ".svg": "image/svg+xml",
};
const TICK_MS = 100;

/**
 * @typedef {import("node:http").IncomingMessage} Request
 * @typedef {import("node:http").ServerResponse} Response
 */

/** An answer that is an error. */
class Refused extends Error {
  /** @param {number} status @param {string} kind @param {string} title @param {string} detail */
  constructor(status, kind, title, detail) {
    super(detail);
    Object.assign(this, { status, problem: { type: `urn:facetd:${kind}`, title, status, detail } });
  }
}

export class Mock {
  /** @type {Map<string, Collection>} */ collections = new Map();
  metrics = new Metrics();
  ready = true;
  /** Every connection is cut, as if nobody were there. */
  down = false;
  /** When set, the only token that is taken. */
  token = "";
  /** Paths that the token's scope does not allow. @type {RegExp | undefined} */ forbidden;
  /** Paths that take a while. @type {{ path: RegExp, ms: number } | undefined} */ slow;
  /** Paths that fail. @type {RegExp | undefined} */ broken;
  /** Events before this sequence are no longer held. */
  heldFrom = 0;
  /** Whether things happen by themselves. */
  moving = true;
  /** Every request there was, as `GET /path`. @type {string[]} */ requests = [];
  /** @type {Set<import("node:net").Socket>} */ #sockets = new Set();
  #last = Date.now();

  constructor() {
    const lobby = this.#add("lobby", 1);
    const archive = this.#add("archive", 2);
    const gate = this.#add("gate-7", 3);
    this.#add("empty", 4);
    for (let n = 0; n < 6400; n++) lobby.step();
    const huge = archive.arrive(undefined).cluster;
    huge.name = "Crowd at the turnstile";
    for (let n = 1; n < 5000; n++) archive.arrive(huge);
    for (let n = 0; n < 600; n++)
      archive.arrive(n % 3 ? archive.clusters.get(String(2 + Math.floor(n / 3))) : undefined);
    const odd = gate.arrive(undefined, "<script>alert('face')</script>").cluster;
    odd.name = "<img src=x onerror=alert(1)> & co";
    odd.pinned = true;
    for (const id of ["a face", "100%/ä?#&=+", "…/../..", "x".repeat(200)]) gate.arrive(odd, id);
    for (let n = 0; n < 60; n++) gate.step();
    const known = [...lobby.clusters.values()].sort((one, other) => other.faces.size - one.faces.size);
    ["Ada", "Grace", "Night shift"].forEach((name, at) =>
      Object.assign(known[at * 2] ?? {}, { name, ...(at ? {} : { pinned: true }) }),
    );
    for (let past = 60; past > 0; past--) this.metrics.step(Date.now() - past * 1000, 1000);

    this.server = createServer((request, response) => void this.#serve(request, response));
    this.server.on("connection", (socket) => {
      this.#sockets.add(socket);
      socket.on("close", () => this.#sockets.delete(socket));
    });
    this.timer = setInterval(() => this.#tick(), TICK_MS);
  }

  /** @param {string} name @param {number} seed */
  #add(name, seed) {
    const collection = new Collection(name, seed);
    this.collections.set(name, collection);
    return collection;
  }

  /** @param {string} name */
  collection(name) {
    const found = this.collections.get(name);
    if (!found) throw new Refused(404, "no-such-collection", "No such collection", `no collection ${name}`);
    return found;
  }

  #tick() {
    const now = Date.now();
    if (this.down) this.cut();
    if (!this.moving) return;
    this.metrics.step(now, now - this.#last);
    this.#last = now;
    for (let n = 0; n < 3; n++) this.collection("lobby").step();
    if (Math.random() < 0.05) this.collection("gate-7").step();
  }

  /** Cuts every connection there is. */
  cut() {
    for (const socket of this.#sockets) socket.destroy();
  }

  /** @param {number} port @returns {Promise<string>} where it is */
  listen(port) {
    return new Promise((resolve) =>
      this.server.listen(port, "127.0.0.1", () => {
        const address = this.server.address();
        resolve(`http://127.0.0.1:${typeof address === "object" ? address?.port : port}`);
      }),
    );
  }

  close() {
    clearInterval(this.timer);
    this.server.close();
    this.cut();
  }

  /** @param {Request} request @param {Response} response */
  async #serve(request, response) {
    if (this.down) return void request.socket.destroy();
    const url = new URL(request.url ?? "/", "http://mock");
    this.requests.push(`${request.method} ${url.pathname}${url.search}`);
    try {
      if (!/^\/(v1|metrics|healthz|readyz)\b/.test(url.pathname)) return await this.#file(url.pathname, response);
      this.#allow(request, url.pathname);
      if (this.slow?.path.test(url.pathname)) await new Promise((resolve) => setTimeout(resolve, this.slow?.ms));
      if (this.broken?.test(url.pathname))
        throw new Refused(500, "internal", "Internal error", "the mock was told to fail");
      if (url.pathname === "/metrics") return void response.end(this.#metrics());
      if (url.pathname === "/readyz") return void response.writeHead(this.ready ? 200 : 503).end();
      if (url.pathname === "/healthz") return void response.end();
      const parts = url.pathname.split("/").slice(2).map(decodeURIComponent);
      if (parts[0] === "collections" && parts[2] === "events")
        return this.#events(parts[1] ?? "", request, url, response);
      const body = await this.#answer(request, parts, url.searchParams);
      response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(body));
    } catch (error) {
      const { status, problem } = /** @type {{ status?: number, problem?: object }} */ (error);
      if (!status) throw error;
      response.writeHead(status, { "content-type": "application/problem+json" }).end(JSON.stringify(problem));
    }
  }

  /** @param {Request} request @param {string} path */
  #allow(request, path) {
    if (this.token && request.headers.authorization !== `Bearer ${this.token}`) {
      throw new Refused(401, "unauthorized", "A token is needed", "send Authorization: Bearer <token>");
    }
    if (this.forbidden?.test(path)) throw new Refused(403, "forbidden", "Not allowed", "the token's scope is read");
  }

  /** @param {string} path @param {Response} response */
  async #file(path, response) {
    const name = path === "/" ? "index.html" : normalize(path);
    const body = await readFile(join(DIST, name)).catch(() => undefined);
    if (!body) return void response.writeHead(404).end();
    const type = TYPES[extname(name)] ?? "application/octet-stream";
    response
      .writeHead(200, { "content-type": type, "content-security-policy": CSP, "x-content-type-options": "nosniff" })
      .end(body);
  }

  #metrics() {
    const all = [...this.collections.values()];
    const sum = (/** @type {(one: Collection) => number} */ of) => all.reduce((total, one) => total + of(one), 0);
    const [faces, clusters] = [sum((one) => one.faces.size), sum((one) => one.clusters.size)];
    return this.metrics.text({ ready: this.ready, faces, clusters, collections: all.length });
  }

  /** @param {Request} request @param {string[]} parts @param {URLSearchParams} query */
  async #answer(request, [root, name, kind, id, what], query) {
    if (root !== "collections") throw new Refused(404, "no-such-path", "No such path", "see /v1/openapi.json");
    if (!name) return { collections: [...this.collections.values()].map(answers.collection) };
    const of = this.collection(name);
    if (!kind) return answers.collection(of);
    if (kind === "faces") return answers.face(this.#face(of, id ?? ""));
    if (kind === "why") return answers.why(this.#face(of, query.get("a") ?? ""), this.#face(of, query.get("b") ?? ""));
    if (kind !== "clusters") throw new Refused(404, "no-such-path", "No such path", "see /v1/openapi.json");
    if (!id) return answers.clusters(of, query);
    const merged = of.merged.get(id);
    if (merged && !what && request.method === "GET") {
      const { into, sequence, version } = merged;
      return { cluster_id: id, size: 0, version, sequence, status: "merged", merged_into: into };
    }
    const cluster = of.clusters.get(id);
    if (!cluster)
      throw new Refused(404, "no-such-cluster", "No such cluster", `no cluster ${id} in collection ${name}`);
    if (what === "picture") return answers.picture(of, cluster);
    if (what === "faces") {
      const { page, next } = answers.paged([...cluster.faces], query);
      return { faces: page.map(({ id }) => ({ face_id: id })), next };
    }
    if (request.method === "PATCH") {
      let body = "";
      for await (const piece of request) body += piece;
      const to = JSON.parse(body);
      if ("name" in to) to.name === null ? delete cluster.name : (cluster.name = to.name);
      if ("pinned" in to) to.pinned ? (cluster.pinned = true) : delete cluster.pinned;
      cluster.version++;
    }
    return answers.cluster(cluster);
  }

  /** @param {Collection} of @param {string} id */
  #face(of, id) {
    const face = of.faces.get(id);
    if (!face) throw new Refused(404, "no-such-face", "No such face", `no face ${id} in collection ${of.name}`);
    return face;
  }

  /** @param {string} name @param {Request} request @param {URL} url @param {Response} response */
  #events(name, request, url, response) {
    const of = this.collection(name);
    const last = request.headers["last-event-id"];
    const asked = url.searchParams.get("from");
    const from = last ? Number(last) + 1 : asked ? Number(asked) : of.sequence + 1;
    const held = Math.max(this.heldFrom, of.events[0]?.sequence ?? 1);
    if (from < held) throw new Refused(410, "gone", "No longer held", `events before ${held} are no longer in memory`);
    response.writeHead(200, { "content-type": "text/event-stream" });
    /** @param {{ sequence: number, type: string }} event */
    const send = (event) =>
      response.write(`id: ${event.sequence}\nevent: ${event.type}\ndata: ${JSON.stringify(event)}\n\n`);
    response.write(": still here\n\n");
    for (const event of of.events) if (event.sequence >= from) send(event);
    of.listeners.add(send);
    response.on("close", () => of.listeners.delete(send));
  }
}
