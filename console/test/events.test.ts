import { expect, test } from "vitest";
import { EventReader } from "../src/api/events";

const STREAM = "\ufeff: hello\nid: 7\nevent: put\ndata: {\ndata:  1}\n\nretry: 10\r\ndata\r\n\r\nevent: put\n\nid: 8\rdata: x\r\rdata: no end";
const EVENTS = [
  { type: "put", data: "{\n 1}", id: "7" },
  { type: "message", data: "", id: "7" },
  { type: "message", data: "x", id: "8" },
];

test("fields, comments, all three line ends, events without data", () => {
  expect(new EventReader().feed(STREAM)).toEqual(EVENTS);
});

test("however the stream is cut into pieces", () => {
  for (let size = 1; size < STREAM.length; size += 1) {
    const reader = new EventReader();
    const seen = [];
    for (let at = 0; at < STREAM.length; at += size) seen.push(...reader.feed(STREAM.slice(at, at + size)));
    expect(seen, `pieces of ${size}`).toEqual(EVENTS);
  }
});

test("an id with a NUL is left out", () => {
  expect(new EventReader().feed("id: 1\ndata: a\n\nid: 2\0\ndata: b\n\n").map((event) => event.id)).toEqual(["1", "1"]);
});
