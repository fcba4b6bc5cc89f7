import { expect, test } from "vitest";
import { SseParser } from "./sse";

const STREAM =
  ': still here\n\nid: 7\nevent: joined\ndata: {"a":1}\n\nid:8\r\ndata:one\r\ndata: two\r\n\r\nretry: 250\ndata\n\nevent: lost\n\ndata: x\rid: 9\r\r';
const MESSAGES = [
  { id: "7", event: "joined", data: '{"a":1}' },
  { id: "8", event: "message", data: "one\ntwo" },
  { id: "8", event: "message", data: "" },
];

test("messages are read, comments and events without data are not", () => {
  const parser = new SseParser();
  const messages = parser.push(STREAM);
  // The last line may yet become a CRLF, so its message waits.
  expect(messages).toEqual(MESSAGES);
  expect(parser.push("\n")).toEqual([{ id: "9", event: "message", data: "x" }]);
  expect(parser.lastId).toBe("9");
  expect(parser.retryMs).toBe(250);
});

test("it does not matter where the stream is cut", () => {
  for (let size = 1; size < STREAM.length; size++) {
    const parser = new SseParser();
    const messages = [];
    for (let at = 0; at < STREAM.length; at += size) messages.push(...parser.push(STREAM.slice(at, at + size)));
    expect(messages.slice(0, 3)).toEqual(MESSAGES);
  }
});

test("what was not ended is not told", () => {
  const parser = new SseParser();
  expect(parser.push("id: 1\ndata: half")).toEqual([]);
  expect(parser.push(" an event\n\n")).toEqual([{ id: "1", event: "message", data: "half an event" }]);
});

test("a byte order mark and an unknown field are skipped", () => {
  expect(new SseParser().push("\uFEFFdata: x\nwhat: y\n\n")).toEqual([{ id: "", event: "message", data: "x" }]);
});
