import { describe, expect, test } from "vitest";
import { factsOf } from "../src/flatten";
import { formatBytes, formatDuration, formatMicroseconds, formatPercent, formatRate, readDuration } from "../src/format";
import { linkTo, readRoute } from "../src/state/route";

test.each([
  [0, "0 B"],
  [1023, "1023 B"],
  [1024, "1.00 KiB"],
  [10_239, "10.0 KiB"],
  [102_399, "100 KiB"],
  [1024 * 1024 - 1, "1.00 MiB"],
  [5 * 1024 ** 4, "5.00 TiB"],
])("%d bytes are %s", (bytes, text) => {
  expect(formatBytes(bytes)).toBe(text);
});

test.each([
  [0, "0"],
  [0.25, "0.3"],
  [9.96, "10"],
  [9_999, "9,999"],
  [10_000, "10.0 k"],
  [999_600, "1.00 M"],
])("a rate of %d is %s", (rate, text) => {
  expect(formatRate(rate)).toBe(text);
});

test.each([
  [4.2, "4.2 µs"],
  [999.6, "1.00 ms"],
  [12_345, "12.3 ms"],
  [2_000_000, "2.00 s"],
])("%d µs are %s", (us, text) => {
  expect(formatMicroseconds(us)).toBe(text);
});

test.each([
  [0, "0 %"],
  [0.034, "3.4 %"],
  [0.5, "50 %"],
])("a ratio of %d is %s", (ratio, text) => {
  expect(formatPercent(ratio)).toBe(text);
});

describe("durations", () => {
  test.each([
    [0, "0s"],
    [59.6, "1m"],
    [3_661, "1h 1m"],
    [3_605, "1h"],
    [90_000, "1d 1h"],
  ])("%d s are %s", (seconds, text) => {
    expect(formatDuration(seconds)).toBe(text);
  });

  test.each([
    ["90", 90],
    ["15m", 900],
    ["1h 30m", 5400],
    [" 2.5 s ", 2.5],
    ["7D", 604800],
    ["", null],
    ["0", null],
    ["-1", null],
    ["15 minutes", null],
    ["1 2", null],
    ["1h 30", null],
    ["1e9", null],
  ])("%j is read as %s", (text, seconds) => {
    expect(readDuration(text)).toBe(seconds);
  });
});

test("nested figures become rows", () => {
  expect(factsOf({ path: "/a", disk_bytes: 2048, is_open: true, server: { uptime_s: 3600, none: null }, segments: [{ a: 1 }, { a: 2 }], codecs: [] })).toEqual([
    { name: "path", value: "/a" },
    { name: "disk_bytes", value: "2.00 KiB (2,048)" },
    { name: "is_open", value: "yes" },
    { name: "server.uptime_s", value: "1h (3,600 s)" },
    { name: "server.none", value: "none" },
    { name: "segments", value: "2" },
    { name: "codecs", value: "none" },
  ]);
});

test("an address leads back to what made it", () => {
  const prefix = "a&b=#?/\\x00 +ä";
  const route = readRoute(linkTo("keys", { prefix, key: "" }));
  expect(route.view).toBe("keys");
  expect([...route.query]).toEqual([["prefix", prefix]]);
  expect(readRoute("#/nonsense").view).toBe("overview");
  expect(readRoute("").view).toBe("overview");
});
