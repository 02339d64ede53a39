/** One key: read, written if it is still what was read, deleted. */
import { bytesField, fieldBytes, percentEncode } from "./bytes";
import { Problem, request, sendJson } from "./http";

/** More of a value than this is neither shown nor edited here. */
export const SHOWN_BYTES_MAX = 256 * 1024;

export interface Entry {
  key: Uint8Array;
  /** The value, or its first `SHOWN_BYTES_MAX` bytes. */
  value: Uint8Array;
  size: number;
  /** Undefined where the server gave none. */
  etag: string | undefined;
  contentType: string;
  /** Seconds since 1970, or null where it stays. */
  expiresAt: number | null;
}

export interface Writing {
  value: Uint8Array;
  contentType: string;
  /** Seconds, or null for no end. */
  ttl_s: number | null;
  /** The ETag it has to have still; null: it must not be there; undefined: whatever is there. */
  etag: string | null | undefined;
}

const DEFAULT_TYPE = "application/octet-stream";

/** A URL cannot say these: a browser takes the dots for steps in the path, and an empty key for the list. */
function isUnspeakable(key: Uint8Array): boolean {
  return key.length === 0 || (key.length <= 2 && key.every((byte) => byte === 0x2e));
}

function pathOf(key: Uint8Array): string {
  return `/v1/kv/${percentEncode(key)}`;
}

async function readHead(response: Response): Promise<{ value: Uint8Array; size: number }> {
  const reader = response.body!.getReader();
  const parts: Uint8Array[] = [];
  let held = 0;
  let isEnded = false;
  while (held <= SHOWN_BYTES_MAX) {
    const { value, done } = await reader.read();
    isEnded = done;
    if (value === undefined) break;
    parts.push(value);
    held += value.length;
  }
  if (!isEnded) await reader.cancel();
  const whole = new Uint8Array(held);
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  const size = isEnded ? held : Number(response.headers.get("Content-Length") ?? held);
  return { value: whole.slice(0, SHOWN_BYTES_MAX), size };
}

function numberOf(text: string | null): number | null {
  return text === null || text === "" ? null : Number(text);
}

/** The entry, or null where there is none. */
export async function readEntry(key: Uint8Array, signal?: AbortSignal): Promise<Entry | null> {
  if (isUnspeakable(key)) return readByBody(key);
  let response: Response;
  try {
    response = await request(pathOf(key), signal ? { signal } : {});
  } catch (error) {
    if (error instanceof Problem && error.status === 404) return null;
    throw error;
  }
  return {
    key,
    ...(await readHead(response)),
    etag: response.headers.get("ETag")?.replaceAll('"', ""),
    contentType: response.headers.get("Content-Type") ?? DEFAULT_TYPE,
    expiresAt: numberOf(response.headers.get("FlashKV-Expires")),
  };
}

async function readByBody(key: Uint8Array): Promise<Entry | null> {
  const keys = [bytesField("key", key)].map((field) => field.key ?? field);
  const answer = await sendJson<{ items: (Record<string, unknown> | null)[] }>("POST", "/v1/mget", { keys });
  const item = answer?.items[0];
  if (!item) return null;
  const value = fieldBytes(item, "value") ?? new Uint8Array();
  return {
    key,
    value: value.slice(0, SHOWN_BYTES_MAX),
    size: value.length,
    etag: item.lsn === undefined ? undefined : String(item.lsn),
    contentType: typeof item.content_type === "string" ? item.content_type : DEFAULT_TYPE,
    expiresAt: typeof item.expires_at === "number" ? item.expires_at : null,
  };
}

/** A `Problem` of status 412 where the key is not what `etag` says. */
export async function writeEntry(key: Uint8Array, writing: Writing): Promise<void> {
  const { value, contentType, ttl_s, etag } = writing;
  if (isUnspeakable(key)) {
    const op = { op: "put", ...bytesField("key", key), ...bytesField("value", value), content_type: contentType };
    return writeByBody(key, etag, ttl_s === null ? op : { ...op, ttl_s });
  }
  const headers: Record<string, string> = { "Content-Type": contentType };
  if (ttl_s !== null) headers["FlashKV-TTL"] = ttl_s.toFixed(3);
  if (etag === null) headers["If-None-Match"] = "*";
  else if (etag !== undefined) headers["If-Match"] = `"${etag}"`;
  await request(pathOf(key), { method: "PUT", headers, body: value });
}

export async function deleteEntry(key: Uint8Array, etag: string | undefined): Promise<void> {
  if (isUnspeakable(key)) return writeByBody(key, etag, { op: "delete", ...bytesField("key", key) });
  await request(pathOf(key), { method: "DELETE", headers: etag === undefined ? {} : { "If-Match": `"${etag}"` } });
}

async function writeByBody(key: Uint8Array, etag: string | null | undefined, op: object): Promise<void> {
  const tag = typeof etag === "string" ? `"${etag}"` : etag;
  const require = tag === undefined ? [] : [{ ...bytesField("key", key), etag: tag }];
  await sendJson("POST", "/v1/batch", { require, ops: [op] });
}
