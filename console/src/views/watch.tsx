/** The tail of the log: every write and delete under a prefix as it happens, newest first. */
import { useEffect, useRef, useState } from "preact/hooks";
import { decodeText, fieldBytes, percentEncode, readKey, showKey } from "../api/bytes";
import { follow, type ServerEvent } from "../api/events";
import type { Problem } from "../api/http";
import { formatBytes, formatCount, formatTime } from "../format";
import { Empty, Failure } from "../parts/states";
import { goTo, linkTo, type Route } from "../state/route";

const ROWS_MAX = 500;
const VALUE_CHARACTERS_MAX = 120;
// Events come faster than a screen is drawn; they are shown a few times a second.
const DRAWN_EVERY_MS = 200;

interface Row {
  serial: number;
  at: number;
  kind: string;
  lsn: string;
  key: string;
  value: string;
}

function sayValue(data: object): string {
  const value = fieldBytes(data, "value");
  if (value === null) return "";
  const text = decodeText(value.subarray(0, 4 * VALUE_CHARACTERS_MAX)) ?? null;
  if (text === null) return `${formatBytes(value.length)} of bytes`;
  return text.length > VALUE_CHARACTERS_MAX ? `${text.slice(0, VALUE_CHARACTERS_MAX)}…` : text;
}

function rowOf(event: ServerEvent, serial: number): Row | null {
  if (event.type !== "put" && event.type !== "delete" && event.type !== "missed") return null;
  const data = JSON.parse(event.data) as { lsn?: number };
  const key = fieldBytes(data, "key");
  return {
    serial,
    at: Date.now() / 1000,
    kind: event.type,
    lsn: event.id || String(data.lsn ?? ""),
    key: key === null ? "" : showKey(key),
    value: sayValue(data),
  };
}

type Standing = { state: "opening" | "open" } | { state: "broken"; problem: Problem };

/** Follows the watch of a prefix. While paused, events are let go, and the stream is closed. */
function useTail(prefix: string, withValues: boolean, isPaused: boolean) {
  const [rows, setRows] = useState<Row[]>([]);
  const [seen, setSeen] = useState(0);
  const [standing, setStanding] = useState<Standing>({ state: "opening" });
  const serial = useRef(0);
  useEffect(() => {
    if (isPaused) return undefined;
    let held: Row[] = [];
    setStanding({ state: "opening" });
    const stop = follow(`/v1/watch?prefix=${percentEncode(readKey(prefix))}${withValues ? "&values=true" : ""}`, {
      onOpen: () => setStanding({ state: "open" }),
      onEvent: (event) => {
        const row = rowOf(event, serial.current);
        if (row === null) return;
        serial.current += 1;
        held.push(row);
        if (held.length > 2 * ROWS_MAX) held = held.slice(-ROWS_MAX);
      },
      onProblem: (problem) => setStanding({ state: "broken", problem }),
    });
    const timer = setInterval(() => {
      if (held.length === 0) return;
      const news = held.reverse();
      held = [];
      setRows((before) => [...news, ...before].slice(0, ROWS_MAX));
      setSeen(serial.current);
    }, DRAWN_EVERY_MS);
    return () => {
      stop();
      clearInterval(timer);
    };
  }, [prefix, withValues, isPaused]);
  const clear = (): void => {
    setRows([]);
    setSeen(0);
    serial.current = 0;
  };
  return { rows, seen, standing, clear };
}

function Line({ row, prefix }: { row: Row; prefix: string }) {
  if (row.kind === "missed")
    return (
      <li class="event is-missed">
        <span class="figure event-time">{formatTime(row.at)}</span>
        <span class="event-kind">missed</span>
        <span class="event-key">Events came faster than this page took them, and some were left out.</span>
      </li>
    );
  return (
    <li class={`event is-${row.kind}`}>
      <span class="figure event-time">{formatTime(row.at)}</span>
      <span class="event-kind">{row.kind}</span>
      <a class="data event-key" href={linkTo("keys", { prefix, key: row.key })}>
        {row.key}
      </a>
      <span class="data event-value">{row.value}</span>
      <span class="figure event-lsn">{row.lsn}</span>
    </li>
  );
}

export function Watch({ route }: { route: Route }) {
  const prefix = route.query.get("prefix") ?? "";
  const [typed, setTyped] = useState(prefix);
  const [isPaused, setPaused] = useState(false);
  const [withValues, setWithValues] = useState(false);
  const { rows, seen, standing, clear } = useTail(prefix, withValues, isPaused);
  const said = isPaused ? "Paused" : standing.state === "open" ? "Watching" : standing.state === "opening" ? "Opening" : "Broken off";
  return (
    <>
      <header class="view-head">
        <h1 tabIndex={-1}>Watch</h1>
        <form class="search" role="search" onSubmit={(event) => (event.preventDefault(), clear(), goTo("watch", { prefix: typed }))}>
          <input type="search" class="data" id="prefix" aria-label="Prefix" placeholder="Prefix" value={typed} spellcheck={false} onInput={(event) => setTyped(event.currentTarget.value)} />
          <button type="submit">Watch</button>
        </form>
      </header>
      <section class="panel" aria-label="Events">
        <header class="panel-head">
          <p class="tail-state" role="status" data-state={isPaused ? "paused" : standing.state}>
            <span class="dot" aria-hidden="true" /> {said}
            <span class="figure unit">{formatCount(seen)} events</span>
          </p>
          <div class="buttons">
            <label class="check">
              <input type="checkbox" checked={withValues} onChange={(event) => setWithValues(event.currentTarget.checked)} />
              <span>Values</span>
            </label>
            <button type="button" onClick={clear}>
              Clear
            </button>
            <button type="button" class="steady" aria-pressed={isPaused} onClick={() => setPaused(!isPaused)}>
              {isPaused ? "Go on" : "Pause"}
            </button>
          </div>
        </header>
        {standing.state === "broken" && !isPaused && rows.length === 0 ? (
          <Failure problem={standing.problem} />
        ) : rows.length === 0 ? (
          <Empty title="No event yet">Writes and deletes appear here as they happen.</Empty>
        ) : (
          <div role="log" aria-label="Events, newest first" aria-live="off">
            <ol class="events">
              {rows.map((row) => (
                <Line key={row.serial} row={row} prefix={prefix} />
              ))}
            </ol>
          </div>
        )}
      </section>
    </>
  );
}
