import { describe, expect, test } from "vitest";
import { bytesField, decodeText, encodeText, equalBytes, fieldBytes, fromBase64, hexDump, percentEncode, readHex, readKey, showHex, showKey, toBase64 } from "../src/api/bytes";

const bytes = (...all: number[]): Uint8Array => Uint8Array.from(all);

describe("a key as text", () => {
  test.each([
    ["plain", encodeText("user:1"), "user:1"],
    ["UTF-8", encodeText("größe/日本"), "größe/日本"],
    ["a backslash", encodeText("a\\b"), "a\\\\b"],
    ["what looks like an escape", encodeText("\\x41"), "\\\\x41"],
    ["a control", bytes(0x61, 0, 0x0a), "a\\x00\\x0a"],
    ["not UTF-8", bytes(0xff, 0x41), "\\xffA"],
    ["a mark that turns the line around", encodeText("a\u202eb"), "a\\xe2\\x80\\xaeb"],
    ["a byte order mark", encodeText("\ufeffa"), "\\xef\\xbb\\xbfa"],
    ["nothing", bytes(), ""],
  ])("%s is shown and read back", (_, key, text) => {
    expect(showKey(key)).toBe(text);
    expect(readKey(text)).toEqual(key);
  });

  test("any bytes are read back as they were", () => {
    let seed = 1;
    const next = (): number => (seed = (seed * 1103515245 + 12345) & 0x7fffffff) >> 16;
    for (let round = 0; round < 2000; round += 1) {
      const key = Uint8Array.from({ length: next() % 12 }, () => (next() % 3 ? next() % 256 : [0x5c, 0x78, 0x30, 0xc3][next() % 4]!));
      expect(readKey(showKey(key)), showKey(key)).toEqual(key);
    }
  });

  test("a backslash before anything else stands for itself", () => {
    expect(readKey("a\\q\\x4")).toEqual(encodeText("a\\q\\x4"));
  });
});

describe("in a URL and in JSON", () => {
  test("every byte but the unreserved is encoded, slashes too", () => {
    expect(percentEncode(encodeText("a/../b c+%ä~"))).toBe("a%2F..%2Fb%20c%2B%25%C3%A4~");
  });

  test("text goes as text, other bytes as base64", () => {
    expect(bytesField("key", encodeText("a"))).toEqual({ key: "a" });
    expect(bytesField("key", bytes(0xff))).toEqual({ key_b64: "/w==" });
    expect(fieldBytes({ key: "a" }, "key")).toEqual(encodeText("a"));
    expect(fieldBytes({ key_b64: "/w==" }, "key")).toEqual(bytes(0xff));
    expect(fieldBytes({ value: "a" }, "key")).toBeNull();
  });

  test("a megabyte goes to base64 and back", () => {
    const long = Uint8Array.from({ length: 1 << 20 }, (_, at) => at % 251);
    expect(equalBytes(fromBase64(toBase64(long)), long)).toBe(true);
  });

  test("bytes that are no UTF-8 are no text", () => {
    expect(decodeText(bytes(0xc3))).toBeNull();
    expect(decodeText(bytes(0xef, 0xbb, 0xbf, 0x61))).toBe("\ufeffa");
  });
});

describe("hex", () => {
  test("is read back, however it is spaced", () => {
    const value = Uint8Array.from({ length: 40 }, (_, at) => at * 6);
    expect(readHex(showHex(value))).toEqual(value);
    expect(readHex("0a0B  ff\n00")).toEqual(bytes(0x0a, 0x0b, 0xff, 0));
    expect(readHex(" ")).toEqual(bytes());
  });

  test.each(["0", "zz", "0a 1", "é0"])("%s is not", (text) => {
    expect(readHex(text)).toBeNull();
  });

  test("a dump has offset, bytes and text", () => {
    expect(hexDump(encodeText("0123456789abcdef\n"))).toBe(
      "00000000  30 31 32 33 34 35 36 37  38 39 61 62 63 64 65 66  0123456789abcdef\n" +
        "00000010  0a                                                .",
    );
  });
});
