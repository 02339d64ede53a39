/**
 * Keys and values are bytes. Here they become text a person can read and type, and back, without loss.
 *
 * A key is shown as UTF-8 where it is UTF-8; a byte that cannot be shown is written `\xNN`, a backslash `\\`. The same
 * notation is understood wherever a key or a prefix is typed, so every key can be reached from the keyboard.
 */

const strict = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const encoder = new TextEncoder();

export function encodeText(text: string): Uint8Array {
  return encoder.encode(text);
}

/** The text these bytes are in UTF-8, or null where they are not UTF-8. */
export function decodeText(bytes: Uint8Array): string | null {
  try {
    return strict.decode(bytes);
  } catch {
    return null;
  }
}

export function fromBase64(text: string): Uint8Array {
  return Uint8Array.from(atob(text), (one) => one.charCodeAt(0));
}

export function toBase64(bytes: Uint8Array): string {
  let binary = "";
  // In pieces: a call has room for some ten thousand arguments, not for a megabyte of them.
  for (let at = 0; at < bytes.length; at += 8192) binary += String.fromCharCode(...bytes.subarray(at, at + 8192));
  return btoa(binary);
}

const hex = (byte: number): string => byte.toString(16).padStart(2, "0");

// Controls, and what would change the direction or the look of the text around it.
const UNSEEN = /[\u0000-\u001f\u007f-\u009f\u00ad\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]/u;

function showCharacter(character: string): string {
  if (character === "\\") return "\\\\";
  if (!UNSEEN.test(character)) return character;
  return Array.from(encodeText(character), (byte) => `\\x${hex(byte)}`).join("");
}

/** A key as text. `readKey` gives the same bytes back. */
export function showKey(bytes: Uint8Array): string {
  const text = decodeText(bytes);
  if (text !== null) return Array.from(text, showCharacter).join("");
  return Array.from(bytes, (byte) =>
    byte >= 0x20 && byte < 0x7f ? showCharacter(String.fromCharCode(byte)) : `\\x${hex(byte)}`,
  ).join("");
}

/** The bytes of a key or a prefix as it was typed. A backslash that begins neither `\xNN` nor `\\` stands for itself. */
export function readKey(text: string): Uint8Array {
  const bytes: number[] = [];
  for (const part of text.match(/\\x[0-9a-fA-F]{2}|\\\\|\\|[^\\]+/gu) ?? []) {
    if (part.startsWith("\\x")) bytes.push(parseInt(part.slice(2), 16));
    else if (part === "\\\\") bytes.push(0x5c);
    else bytes.push(...encodeText(part));
  }
  return Uint8Array.from(bytes);
}

/** Bytes percent-encoded for a URL, each but the unreserved characters; `/` too, so that a browser leaves dots alone. */
export function percentEncode(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => {
    const character = String.fromCharCode(byte);
    return /[A-Za-z0-9_.~-]/.test(character) ? character : `%${hex(byte).toUpperCase()}`;
  }).join("");
}

export function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, at) => byte === b[at]);
}

/** A byte field of a JSON object of the server: `key` as text, or `key_b64`. */
export function fieldBytes(item: object, name: string): Uint8Array | null {
  const fields = item as Record<string, unknown>;
  const text = fields[name];
  if (typeof text === "string") return encodeText(text);
  const base64 = fields[`${name}_b64`];
  return typeof base64 === "string" ? fromBase64(base64) : null;
}

/** The same, the other way round. */
export function bytesField(name: string, bytes: Uint8Array): Record<string, string> {
  const text = decodeText(bytes);
  return text === null ? { [`${name}_b64`]: toBase64(bytes) } : { [name]: text };
}

/** Sixteen bytes a line: offset, the bytes in two groups of eight, and what is printable of them. */
export function hexDump(bytes: Uint8Array): string {
  const lines: string[] = [];
  for (let at = 0; at < bytes.length; at += 16) {
    const row = Array.from(bytes.subarray(at, at + 16));
    const groups = [row.slice(0, 8), row.slice(8)].map((group) => group.map(hex).join(" ").padEnd(23));
    const text = row.map((byte) => (byte >= 0x20 && byte < 0x7f ? String.fromCharCode(byte) : ".")).join("");
    lines.push(`${at.toString(16).padStart(8, "0")}  ${groups.join("  ")}  ${text}`);
  }
  return lines.join("\n");
}

export function showHex(bytes: Uint8Array): string {
  const lines: string[] = [];
  for (let at = 0; at < bytes.length; at += 16) lines.push(Array.from(bytes.subarray(at, at + 16), hex).join(" "));
  return lines.join("\n");
}

/** Bytes typed as pairs of hex digits, spaces and line ends anywhere between pairs; null where it is not that. */
export function readHex(text: string): Uint8Array | null {
  const pairs = text.trim() === "" ? [] : text.trim().split(/\s+/).flatMap((run) => run.match(/.{1,2}/gu) ?? []);
  if (!pairs.every((pair) => /^[0-9a-fA-F]{2}$/.test(pair))) return null;
  return Uint8Array.from(pairs, (pair) => parseInt(pair, 16));
}
