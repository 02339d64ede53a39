/** A value as it is looked at and typed: as text, as JSON or as hex, each only where it loses nothing. */
import { decodeText, encodeText, readHex, showHex } from "./api/bytes";
import { compact, jsonFault, layOut } from "./json";

export const MODES = ["text", "json", "hex"] as const;
export type Mode = (typeof MODES)[number];

// Larger ones are not parsed only to find out whether they are JSON.
const JSON_BYTES_MAX = 1 << 20;

export function isJson(value: Uint8Array): boolean {
  if (value.length > JSON_BYTES_MAX) return false;
  const text = decodeText(value);
  return text !== null && jsonFault(text) === null;
}

/** The view a value is first shown in: JSON for objects and arrays, text where it can be shown, hex otherwise. */
export function modeOf(value: Uint8Array): Mode {
  const text = decodeText(value);
  if (text === null || /[\u0000-\u0008\u000e-\u001f]/.test(text)) return "hex";
  return /^\s*[[{]/.test(text) && isJson(value) ? "json" : "text";
}

/** What the text field holds for this value, or why this view cannot show it. */
export function showValue(value: Uint8Array, mode: Mode): { text: string } | { fault: string } {
  if (mode === "hex") return { text: showHex(value) };
  const text = decodeText(value);
  if (text === null) return { fault: "These bytes are not UTF-8. They can be edited as hex." };
  if (mode === "text")
    // A text field turns every line end into a line feed, which would change the value when it is saved.
    return text.includes("\r") ? { fault: "This text has carriage returns, which a text field loses. Edit it as hex." } : { text };
  const fault = jsonFault(text);
  return fault === null ? { text: layOut(text) } : { fault: `This is not JSON: ${fault}` };
}

/** The bytes of what was typed, or why there are none. `was` is the value before: compact JSON stays compact. */
export function readValue(text: string, mode: Mode, was: Uint8Array): { value: Uint8Array } | { fault: string } {
  if (mode === "text") return { value: encodeText(text) };
  if (mode === "hex") {
    const value = readHex(text);
    return value === null ? { fault: "Hex is pairs of the digits 0 to 9 and a to f." } : { value };
  }
  const fault = jsonFault(text);
  if (fault !== null) return { fault: `This is not JSON: ${fault}` };
  const before = decodeText(was);
  const wasCompact = before === null || before === "" || (jsonFault(before) === null && compact(before) === before);
  return { value: encodeText(wasCompact ? compact(text) : text) };
}
