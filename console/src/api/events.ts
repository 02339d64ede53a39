/**
 * Server-sent events over `fetch`: the browser's own EventSource cannot carry an Authorization header.
 * `EventReader` follows the WHATWG grammar (fields, CR, LF and CRLF, comments, BOM); `follow` keeps a stream open.
 */
import { asProblem, isAbort, Problem, request } from "./http";

export interface ServerEvent {
  type: string;
  data: string;
  id: string;
}

// A line longer than this is not from our server: values come base64-encoded at 64 MiB at most.
const LINE_CHARACTERS_MAX = 128 * 1024 * 1024;

/** Text in, events out. */
export class EventReader {
  private rest = "";
  private type = "";
  private data: string[] = [];
  private id = "";
  private isBegun = false;

  feed(text: string): ServerEvent[] {
    this.rest += text;
    if (!this.isBegun && this.rest !== "") {
      this.isBegun = true;
      this.rest = this.rest.replace(/^\ufeff/, "");
    }
    const events: ServerEvent[] = [];
    for (;;) {
      const end = /\r\n|\n|\r(?!$)/.exec(this.rest);
      if (end === null) break;
      const event = this.line(this.rest.slice(0, end.index));
      this.rest = this.rest.slice(end.index + end[0].length);
      if (event !== null) events.push(event);
    }
    if (this.rest.length > LINE_CHARACTERS_MAX) throw new Error("A line of the stream is too long");
    return events;
  }

  private line(line: string): ServerEvent | null {
    if (line === "") return this.dispatch();
    if (line.startsWith(":")) return null;
    const colon = line.indexOf(":");
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (field === "event") this.type = value;
    else if (field === "data") this.data.push(value);
    else if (field === "id" && !value.includes("\0")) this.id = value;
    return null;
  }

  private dispatch(): ServerEvent | null {
    const { type, data } = this;
    this.type = "";
    this.data = [];
    return data.length === 0 ? null : { type: type || "message", data: data.join("\n"), id: this.id };
  }
}

export interface Follower {
  onEvent: (event: ServerEvent) => void;
  /** The stream stands. */
  onOpen?: () => void;
  /** It broke; it is tried again by itself unless the problem says that this would be in vain. */
  onProblem?: (problem: Problem) => void;
}

async function readOnce(path: string, seen: { id: string }, follower: Follower, signal: AbortSignal): Promise<void> {
  const headers: Record<string, string> = { Accept: "text/event-stream" };
  if (seen.id !== "") headers["Last-Event-ID"] = seen.id;
  const response = await request(path, { headers, signal });
  follower.onOpen?.();
  const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
  const events = new EventReader();
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    for (const event of events.feed(value)) {
      seen.id = event.id || seen.id;
      follower.onEvent(event);
    }
  }
}

const LOST = new Problem(0, "The stream broke off", "It is taken up again.");

const wait = (ms: number, signal: AbortSignal): Promise<void> =>
  new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
  });

/** Reads a stream until it is told to stop, from the last event seen after a break. Returns the function that stops. */
export function follow(path: string, follower: Follower): () => void {
  const controller = new AbortController();
  const { signal } = controller;
  const run = async (): Promise<void> => {
    const seen = { id: "" };
    let pause = 500;
    while (!signal.aborted) {
      try {
        await readOnce(path, seen, { ...follower, onOpen: () => ((pause = 500), follower.onOpen?.()) }, signal);
      } catch (error) {
        if (isAbort(error) || signal.aborted) return;
        const problem = error instanceof TypeError ? LOST : asProblem(error);
        follower.onProblem?.(problem);
        // What the request itself is refused for does not get better by asking again.
        if (problem.status >= 400 && problem.status < 500 && problem.status !== 429) return;
      }
      await wait(pause, signal);
      pause = Math.min(pause * 2, 8_000);
    }
  };
  void run();
  return () => controller.abort();
}
