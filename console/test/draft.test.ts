import { describe, expect, test } from "vitest";
import { decodeText, encodeText } from "../src/api/bytes";
import { modeOf, readValue, showValue, type Mode } from "../src/draft";
import { compact, jsonFault, layOut } from "../src/json";

describe("JSON", () => {
  test("is laid out with every number and string as written", () => {
    const text = '{"id":12345678901234567890,"price":1.10,"s":"a{[,:\\"]}","e":[],"o":{},"n":[1,[null]]}';
    expect(layOut(text)).toBe(
      '{\n  "id": 12345678901234567890,\n  "price": 1.10,\n  "s": "a{[,:\\"]}",\n  "e": [],\n  "o": {},\n  "n": [\n    1,\n    [\n      null\n    ]\n  ]\n}',
    );
    expect(compact(layOut(text))).toBe(text);
  });

  test.each(["1", '"a b"', "null", "[ ]", ' { "a" : [ 1 , 2 ] } '])("%s says the same after both", (text) => {
    expect(JSON.parse(layOut(text))).toEqual(JSON.parse(text));
    expect(JSON.parse(compact(text))).toEqual(JSON.parse(text));
  });

  test("what it is not is said", () => {
    expect(jsonFault("{")).not.toBeNull();
    expect(jsonFault("{}")).toBeNull();
  });
});

describe("a value", () => {
  test.each([
    ['{"a":1}', "json"],
    ["[1]", "json"],
    ["{not", "text"],
    ["12", "text"],
    ["line\nline", "text"],
    ["", "text"],
    ["a\0b", "hex"],
  ])("%j is first shown as %s", (text, mode) => {
    expect(modeOf(encodeText(text))).toBe(mode);
  });

  test("that is not UTF-8 is first shown as hex", () => {
    expect(modeOf(Uint8Array.of(0xff))).toBe("hex");
  });

  test.each(["text", "json", "hex"] as Mode[])("looked at as %s and saved untouched is the same", (mode) => {
    const value = encodeText('{"a":[1,2.50]}');
    const shown = showValue(value, mode);
    expect("text" in shown && readValue(shown.text, mode, value)).toEqual({ value });
  });

  test("of laid-out JSON keeps the lines it was typed with", () => {
    const was = encodeText('{\n "a": 1\n}');
    expect(readValue('{\n "a": 2\n}', "json", was)).toEqual({ value: encodeText('{\n "a": 2\n}') });
  });

  test("with carriage returns is not offered as text, which would lose them", () => {
    expect(showValue(encodeText("a\r\nb"), "text")).toHaveProperty("fault");
    expect(showValue(encodeText("a\r\nb"), "hex")).toEqual({ text: "61 0d 0a 62" });
  });

  test("that cannot be read says why", () => {
    expect(readValue("0", "hex", new Uint8Array())).toHaveProperty("fault");
    expect(readValue("{", "json", new Uint8Array())).toHaveProperty("fault");
    expect(showValue(Uint8Array.of(0xff), "json")).toHaveProperty("fault");
  });

  test("typed as JSON into a new key is stored compact", () => {
    const read = readValue('{ "a": 1 }', "json", new Uint8Array());
    expect("value" in read && decodeText(read.value)).toBe('{"a":1}');
  });
});
