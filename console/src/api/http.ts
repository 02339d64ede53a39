/** Requests to the server: the token, errors as `Problem`, and the few resources the console uses. */

/** What went wrong, in the words of the server where it said any (RFC 9457). */
export class Problem extends Error {
  constructor(
    readonly status: number,
    readonly title: string,
    readonly detail: string,
  ) {
    super(detail === "" ? title : `${title}: ${detail}`);
  }
}

const TOKEN = "flash-kv.token";
const listeners = new Set<(isWanted: boolean) => void>();

/** Kept for this tab and forgotten with it. */
export function setToken(token: string): void {
  sessionStorage.setItem(TOKEN, token);
}

/** Calls `listener` whenever a request is answered 401, or someone wants to give a token (`isWanted`). */
export function onUnauthorized(listener: (isWanted: boolean) => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

export function wantToken(): void {
  for (const listener of listeners) listener(true);
}

async function problemOf(response: Response): Promise<Problem> {
  const text = await response.text().catch(() => "");
  try {
    const body = JSON.parse(text) as { title?: unknown; detail?: unknown };
    if (typeof body.title === "string")
      return new Problem(response.status, body.title, typeof body.detail === "string" ? body.detail : "");
  } catch {
    // Not a problem document: a proxy between us and the server answered, say.
  }
  return new Problem(response.status, response.statusText || `Status ${response.status}`, text.slice(0, 200));
}

export interface RequestOptions {
  method?: string;
  headers?: Record<string, string>;
  body?: Uint8Array | string;
  signal?: AbortSignal;
}

/** The answer, or a thrown `Problem`; an abort is thrown as it is. */
export async function request(path: string, options: RequestOptions = {}): Promise<Response> {
  const headers = new Headers(options.headers);
  const token = sessionStorage.getItem(TOKEN);
  if (token !== null) headers.set("Authorization", `Bearer ${token}`);
  let response: Response;
  try {
    response = await fetch(path, { ...options, headers, cache: "no-store" } as RequestInit);
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new Problem(0, "The server does not answer", "It was stopped, or the network between is down.");
  }
  if (response.ok || response.status === 304) return response;
  if (response.status === 401) for (const listener of listeners) listener(false);
  throw await problemOf(response);
}

export async function getJson<T>(path: string, signal?: AbortSignal): Promise<T> {
  const response = await request(path, { headers: { Accept: "application/json" }, ...(signal && { signal }) });
  return (await response.json()) as T;
}

export async function sendJson<T>(method: string, path: string, body?: unknown): Promise<T | null> {
  const response = await request(path, {
    method,
    ...(body !== undefined && { headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) }),
  });
  const text = await response.text();
  return text === "" ? null : (JSON.parse(text) as T);
}

export function asProblem(error: unknown): Problem {
  return error instanceof Problem ? error : new Problem(0, "Unexpected answer", String(error));
}

export function isAbort(error: unknown): boolean {
  return error instanceof DOMException && error.name === "AbortError";
}
