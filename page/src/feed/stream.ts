// The changes of one collection as they happen: follows the stream, comes back after it broke, and starts from now where
// the daemon no longer holds what was missed.

import { ask, isAbort, Problem, problemOf } from "../api/client";
import type { ClusterEvent } from "../api/types";
import { SseParser } from "./sse";

const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 15_000;
/** The daemon says it is still there every 15 s; nothing for so long means a connection that died without a word. */
const SILENCE_MS = 40_000;

export interface Listener {
  events(events: ClusterEvent[]): void;
  /** The stream is open. */
  open(): void;
  /** It is not, and will be tried again after `waitMs`. */
  broken(problem: Problem, waitMs: number): void;
  /** Some changes were missed for good. */
  missed(): void;
}

/** Follows until `signal` aborts. `from`: the sequence to begin with; without it, what happens from now on. */
export async function follow(
  collection: string,
  from: number | undefined,
  signal: AbortSignal,
  listener: Listener,
): Promise<void> {
  const path = `v1/collections/${encodeURIComponent(collection)}/events`;
  let lastId = "";
  let waitMs = FIRST_WAIT_MS;
  while (!signal.aborted) {
    const parser = new SseParser();
    parser.lastId = lastId;
    const silence = new Silence(signal);
    try {
      const headers = new Headers({ accept: "text/event-stream" });
      if (lastId) headers.set("last-event-id", lastId);
      const query = !lastId && from !== undefined ? `?from=${from}` : "";
      const { body } = await ask(path + query, { headers, signal: silence.signal });
      listener.open();
      if (body) {
        for await (const piece of pieces(body)) {
          silence.heard();
          waitMs = FIRST_WAIT_MS;
          const events = parser
            .push(piece)
            .map(read)
            .filter((event) => event !== undefined);
          lastId = parser.lastId;
          if (events.length) listener.events(events);
        }
      }
      throw new Problem(0, "The stream ended", "");
    } catch (error) {
      if (signal.aborted) return;
      const problem = isAbort(error) ? new Problem(0, "The stream fell silent", "") : problemOf(error);
      if (!(problem instanceof Problem)) throw problem;
      if (problem.status === 410 && (lastId || from !== undefined)) {
        if (lastId) listener.missed();
        lastId = "";
        from = undefined;
        continue;
      }
      const wait = Math.max(waitMs, parser.retryMs ?? 0);
      listener.broken(problem, wait);
      waitMs = Math.min(2 * waitMs, LONGEST_WAIT_MS);
      await delay(wait, signal);
    } finally {
      silence.end();
    }
  }
}

/** Aborts what nothing was heard of for too long, and with `outer`. */
class Silence {
  readonly #controller = new AbortController();
  readonly signal: AbortSignal;
  #timer: number | undefined;

  constructor(outer: AbortSignal) {
    this.signal = AbortSignal.any([outer, this.#controller.signal]);
    this.heard();
  }

  heard(): void {
    this.end();
    this.#timer = window.setTimeout(() => this.#controller.abort(), SILENCE_MS);
  }

  end(): void {
    window.clearTimeout(this.#timer);
  }
}

/** The text of a body, piece by piece. By hand: not every browser can iterate over a stream. */
async function* pieces(body: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      yield decoder.decode(value, { stream: true });
    }
  } finally {
    void reader.cancel().catch(() => {});
  }
}

function read({ data }: { data: string }): ClusterEvent | undefined {
  try {
    const event: unknown = JSON.parse(data);
    return typeof event === "object" && event !== null && "type" in event ? (event as ClusterEvent) : undefined;
  } catch {
    return undefined; // an event that is none stops no stream
  }
}

function delay(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = window.setTimeout(resolve, ms);
    signal.addEventListener("abort", () => (window.clearTimeout(timer), resolve()), { once: true });
  });
}
