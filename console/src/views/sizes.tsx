/** What takes the room: the biggest keys, and the prefixes that hold most. */
import { useState } from "preact/hooks";
import { fieldBytes, percentEncode, readKey, showKey } from "../api/bytes";
import type { Biggest } from "../api/types";
import { formatBytes, formatCount } from "../format";
import { Empty, Failure, Waiting } from "../parts/states";
import { useResource } from "../state/resource";
import { goTo, linkTo, type Route } from "../state/route";

interface Row {
  name: string;
  href: string;
  bytes: number;
  note: string;
}

function Bars({ title, rows }: { title: string; rows: Row[] }) {
  const most = Math.max(...rows.map((row) => row.bytes), 1);
  return (
    <section class="panel" aria-label={title}>
      <header class="panel-head">
        <h2>{title}</h2>
      </header>
      {rows.length === 0 ? (
        <Empty title="Nothing here" />
      ) : (
        <ol class="bars">
          {rows.map((row) => (
            <li key={row.href}>
              <a href={row.href}>
                {row.name === "" ? <span class="bar-name">no prefix</span> : <span class="data bar-name">{row.name}</span>}
                <span class="figure bar-note">{row.note}</span>
                <span class="figure bar-size">{formatBytes(row.bytes)}</span>
                <span class="bar" aria-hidden="true">
                  <span class="strip-live" style={{ width: `${(100 * row.bytes) / most}%` }} />
                </span>
              </a>
            </li>
          ))}
        </ol>
      )}
    </section>
  );
}

export function Sizes({ route }: { route: Route }) {
  const prefix = route.query.get("prefix") ?? "";
  const depth = route.query.get("depth") ?? "1";
  const [typed, setTyped] = useState(prefix);
  const found = useResource<Biggest>(`/v1/biggest?prefix=${percentEncode(readKey(prefix))}&limit=20&depth=${depth}`);
  const keys = (found.data?.keys ?? []).map((one) => {
    const name = showKey(fieldBytes(one, "key") ?? new Uint8Array());
    return { name, href: linkTo("keys", { prefix, key: name }), bytes: one.value_bytes, note: "" };
  });
  const prefixes = (found.data?.prefixes ?? []).map((one) => {
    const name = showKey(fieldBytes(one, "prefix") ?? new Uint8Array());
    return { name, href: linkTo("keys", { prefix: name }), bytes: one.bytes, note: `${formatCount(one.keys)} ${one.keys === 1 ? "key" : "keys"}` };
  });
  prefixes.sort((a, b) => b.bytes - a.bytes);
  return (
    <>
      <header class="view-head">
        <h1 tabIndex={-1}>Sizes</h1>
        <form
          class="search"
          role="search"
          onSubmit={(event) => (event.preventDefault(), goTo("sizes", { prefix: typed, depth }), found.reload())}
        >
          <input type="search" class="data" id="prefix" aria-label="Prefix" placeholder="Prefix" value={typed} spellcheck={false} onInput={(event) => setTyped(event.currentTarget.value)} />
          <select aria-label="Depth of prefixes" value={depth} onChange={(event) => goTo("sizes", { prefix, depth: event.currentTarget.value })}>
            {["1", "2", "3"].map((one) => (
              <option key={one} value={one}>
                {one === "1" ? "1 part" : `${one} parts`}
              </option>
            ))}
          </select>
          <button type="submit">Count</button>
        </form>
      </header>
      <p class="note" role="status">
        {found.data?.is_cut_short ? "The store is larger than what was looked through: these are the biggest of that part." : ""}
      </p>
      {found.data ? (
        <div class="pair">
          <Bars title="Biggest prefixes" rows={prefixes} />
          <Bars title="Biggest keys" rows={keys} />
        </div>
      ) : found.problem ? (
        <Failure problem={found.problem} retry={found.reload} />
      ) : (
        <div class="pair">
          <Waiting lines={8} label="Looking through the store" />
          <Waiting lines={8} label="Looking through the store" />
        </div>
      )}
    </>
  );
}
