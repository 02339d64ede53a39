/** The key browser: keys under a prefix, page by page, and beside them the one that is looked at. */
import { useEffect, useRef, useState } from "preact/hooks";
import { fieldBytes, percentEncode, readKey, showKey } from "../api/bytes";
import type { Item, Page } from "../api/types";
import { formatBytes, formatCount, formatDuration } from "../format";
import { Confirm } from "../parts/dialog";
import { Empty, Failure, Waiting } from "../parts/states";
import { useResource } from "../state/resource";
import { goTo, type Route } from "../state/route";
import { EntryPanel, hasUnsaved } from "./entry";

const PAGE_KEYS = 50;

function listPath(prefix: string, cursor: string | null): string {
  const query = [`prefix=${percentEncode(readKey(prefix))}`, `limit=${PAGE_KEYS}`, "keys_only=true"];
  if (cursor !== null) query.push(`cursor=${encodeURIComponent(cursor)}`);
  return `/v1/kv?${query.join("&")}`;
}

function noteOf(item: Item): string {
  if (typeof item.expires_at === "number") return `ends in ${formatDuration(item.expires_at - Date.now() / 1000)}`;
  return item.value_bytes === undefined ? "" : formatBytes(item.value_bytes);
}

interface KeyListProps {
  items: Item[];
  prefix: string;
  selected: string | null;
  onSelect: (key: string) => void;
}

/** One stop for the tab key; arrows, Home and End move in it, Enter opens. */
function KeyList({ items, prefix, selected, onSelect }: KeyListProps) {
  const keys = items.map((item) => showKey(fieldBytes(item, "key") ?? new Uint8Array()));
  const [at, setAt] = useState(0);
  const list = useRef<HTMLUListElement>(null);
  const current = Math.min(at, keys.length - 1);
  const move = (to: number): void => {
    const next = Math.max(0, Math.min(keys.length - 1, to));
    setAt(next);
    (list.current?.children[next] as HTMLElement | undefined)?.focus();
  };
  const onKeyDown = (event: KeyboardEvent): void => {
    const steps: Record<string, number> = { ArrowDown: current + 1, ArrowUp: current - 1, Home: 0, End: keys.length - 1 };
    const to = steps[event.key];
    if (to !== undefined) move(to);
    else if (event.key === "Enter" || event.key === " ") onSelect(keys[current]!);
    else return;
    event.preventDefault();
  };
  return (
    <ul class="keys" role="listbox" aria-label="Keys" ref={list} onKeyDown={onKeyDown}>
      {keys.map((key, row) => (
        <li
          key={key}
          role="option"
          aria-selected={key === selected}
          tabIndex={row === current ? 0 : -1}
          onClick={() => (setAt(row), onSelect(key))}
          onFocus={() => setAt(row)}
        >
          <span class="data key-name">
            <span class="key-prefix">{key.startsWith(prefix) ? prefix : ""}</span>
            {key.startsWith(prefix) ? key.slice(prefix.length) : key}
          </span>
          <span class="figure key-note">{noteOf(items[row]!)}</span>
        </li>
      ))}
    </ul>
  );
}

function Count({ prefix }: { prefix: string }) {
  const count = useResource<{ count: number }>(`/v1/count?prefix=${percentEncode(readKey(prefix))}`);
  return <span class="unit figure">{count.data ? formatCount(count.data.count) : ""}</span>;
}

/** A list that is read again when its cursor is no longer any good starts at the front. */
function KeysOf(props: { prefix: string; selected: string | null; turn: number; onSelect: (key: string) => void }) {
  const [cursors, setCursors] = useState<(string | null)[]>([null]);
  const page = useResource<Page>(listPath(props.prefix, cursors.at(-1) ?? null));
  useEffect(() => {
    if (props.turn > 0) page.reload();
  }, [props.turn]);
  if (page.data === null)
    return page.problem ? <Failure problem={page.problem} retry={page.reload} /> : <Waiting lines={8} label="Reading keys" />;
  const { items, cursor } = page.data;
  if (items.length === 0 && cursors.length === 1)
    return props.prefix === "" ? (
      <Empty title="The store is empty">The first key can be made here, with “New key”.</Empty>
    ) : (
      <Empty title="No key begins like this">Bytes that cannot be typed are written \xNN.</Empty>
    );
  return (
    <>
      <KeyList key={cursors.length} items={items} prefix={props.prefix} selected={props.selected} onSelect={props.onSelect} />
      <nav class="pager" aria-label="Pages of keys">
        <button type="button" disabled={cursors.length === 1} onClick={() => setCursors(cursors.slice(0, -1))}>
          Previous
        </button>
        <span class="figure">Page {cursors.length}</span>
        <button type="button" disabled={cursor === null} onClick={() => setCursors([...cursors, cursor])}>
          Next
        </button>
      </nav>
    </>
  );
}

/** Shows the prefix of the address when that changes, and keeps the focus then; what is typed waits for Enter. */
function Search({ prefix, onSearch }: { prefix: string; onSearch: (typed: string) => void }) {
  const [typed, setTyped] = useState(prefix);
  const [shown, setShown] = useState(prefix);
  if (shown !== prefix) {
    setShown(prefix);
    setTyped(prefix);
  }
  return (
    <form class="search" role="search" onSubmit={(event) => (event.preventDefault(), onSearch(typed))}>
      <input
        type="search"
        id="prefix"
        class="data"
        aria-label="Prefix"
        placeholder="Prefix"
        value={typed}
        spellcheck={false}
        autocomplete="off"
        autocapitalize="off"
        onInput={(event) => setTyped(event.currentTarget.value)}
      />
      <button type="submit">Search</button>
    </form>
  );
}

export function Keys({ route }: { route: Route }) {
  const prefix = route.query.get("prefix") ?? "";
  const selected = route.query.get("key");
  const isNew = route.query.has("new");
  const [turn, setTurn] = useState(0);
  const [leaving, setLeaving] = useState<(() => void) | null>(null);
  const leave = (go: () => void): void => (hasUnsaved() ? setLeaving(() => go) : go());
  const show = (query: Record<string, string>): void => goTo("keys", { prefix, ...query });
  return (
    <>
      <header class="view-head">
        <h1 tabIndex={-1}>
          Keys <Count key={turn} prefix={prefix} />
        </h1>
        <div class="buttons">
          <button type="button" onClick={() => leave(() => show({ new: "1" }))}>
            New key
          </button>
        </div>
      </header>
      <div class={`browser${selected !== null || isNew ? " has-entry" : ""}`}>
        <section class="panel browser-list" aria-label="Key browser">
          <Search prefix={prefix} onSearch={(typed) => leave(() => goTo("keys", { prefix: typed }))} />
          <KeysOf key={`keys ${prefix}`} prefix={prefix} selected={selected} turn={turn} onSelect={(key) => leave(() => show({ key }))} />
        </section>
        <EntryPanel
          key={isNew ? "new" : `key:${selected}`}
          selected={isNew ? null : selected}
          isNew={isNew}
          onClose={() => leave(() => show({}))}
          onChange={(key) => {
            setTurn(turn + 1);
            show(key === null ? {} : { key });
          }}
        />
      </div>
      {leaving !== null && (
        <Confirm
          title="Leave without saving?"
          text="What was changed in this value has not been saved."
          action="Discard changes"
          onClose={() => setLeaving(null)}
          onConfirm={leaving}
        />
      )}
    </>
  );
}
