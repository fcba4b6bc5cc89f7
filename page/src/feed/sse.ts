// Reads server-sent events (the HTML standard, 9.2.6) from a stream's text, however it is cut into pieces. EventSource
// would do so too, but cannot send a token.

export interface Message {
  id: string;
  event: string;
  data: string;
}

export class SseParser {
  /** The last `id` there was, for Last-Event-ID. */
  lastId = "";
  /** What the server wants to be waited before the next try. */
  retryMs: number | undefined;

  #rest = "";
  #event = "";
  #data: string[] = [];
  #first = true;

  /** The messages that this piece completes. */
  push(piece: string): Message[] {
    if (this.#first && piece) {
      piece = piece.replace(/^\uFEFF/, "");
      this.#first = false;
    }
    const text = this.#rest + piece;
    // A CR at the very end may be half of a CRLF: it waits for the next piece.
    const lines = text.split(/\r\n|\n|\r(?!$)/);
    this.#rest = lines.pop() ?? "";
    return lines.map((line) => this.#line(line)).filter((message) => message !== undefined);
  }

  #line(line: string): Message | undefined {
    if (line === "") return this.#dispatch();
    const colon = line.indexOf(":");
    if (colon === 0) return undefined; // a comment
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (field === "data") this.#data.push(value);
    else if (field === "event") this.#event = value;
    else if (field === "id" && !value.includes("\0")) this.lastId = value;
    else if (field === "retry" && /^\d+$/.test(value)) this.retryMs = Number(value);
    return undefined;
  }

  #dispatch(): Message | undefined {
    const message = { id: this.lastId, event: this.#event || "message", data: this.#data.join("\n") };
    const empty = this.#data.length === 0;
    this.#event = "";
    this.#data = [];
    return empty ? undefined : message;
  }
}
