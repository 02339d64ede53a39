/** One entry: what it is, its value to look at and to change, its end, its deletion. */
import { useEffect, useRef, useState } from "preact/hooks";
import { equalBytes, hexDump, readKey, showKey } from "../api/bytes";
import { deleteEntry, readEntry, SHOWN_BYTES_MAX, writeEntry, type Entry } from "../api/entries";
import { asProblem, isAbort, type Problem } from "../api/http";
import { MODES, modeOf, readValue, showValue, type Mode } from "../draft";
import { formatBytes, formatDate, formatDuration, readDuration } from "../format";
import { Confirm } from "../parts/dialog";
import { Empty, Failure, Inline, Waiting } from "../parts/states";
import { useAction } from "../state/resource";

let unsaved = false;

/** Whether leaving the entry that is shown would lose something. */
export function hasUnsaved(): boolean {
  return unsaved;
}

const NEW: Entry = { key: new Uint8Array(), value: new Uint8Array(), size: 0, etag: undefined, contentType: "text/plain; charset=utf-8", expiresAt: null };
const MODE_NAMES: Record<Mode, string> = { text: "Text", json: "JSON", hex: "Hex" };

function ModeTabs({ mode, onMode }: { mode: Mode; onMode: (mode: Mode) => void }) {
  return (
    <fieldset class="modes">
      <legend class="hidden">View of the value</legend>
      {MODES.map((one) => (
        <label key={one}>
          <input type="radio" name="mode" checked={one === mode} onChange={() => onMode(one)} />
          <span>{MODE_NAMES[one]}</span>
        </label>
      ))}
    </fieldset>
  );
}

/** The draft of a value: what is typed, in which view, and the bytes it stands for. */
function useDraft(entry: Entry) {
  const [mode, setMode] = useState<Mode>(() => modeOf(entry.value));
  const [base, setBase] = useState(entry.value);
  const shown = showValue(base, mode);
  const [text, setText] = useState(() => ("text" in shown ? shown.text : ""));
  const [isTouched, setTouched] = useState(false);
  const read = (): { value: Uint8Array } | { fault: string } => (isTouched ? readValue(text, mode, entry.value) : { value: base });
  const draft = read();
  const change = (next: Mode): void => {
    // What was typed is taken along where it can be read; where not, the view stays and says why.
    if ("fault" in draft) return;
    const after = showValue(draft.value, next);
    setBase(draft.value);
    setMode(next);
    setText("text" in after ? after.text : "");
    setTouched(false);
  };
  return {
    mode,
    change,
    text,
    draft,
    blocked: "fault" in shown && !isTouched ? shown.fault : null,
    isChanged: isTouched ? !("value" in draft) || !equalBytes(draft.value, entry.value) : !equalBytes(base, entry.value),
    type: (typed: string) => (setText(typed), setTouched(true)),
  };
}

function Facts({ entry }: { entry: Entry }) {
  return (
    <dl class="entry-facts">
      <div>
        <dt>Size</dt>
        <dd class="figure">{formatBytes(entry.size)}</dd>
      </div>
      <div>
        <dt>LSN</dt>
        <dd class="figure">{entry.etag ?? "–"}</dd>
      </div>
      <div>
        <dt>Ends</dt>
        <dd class="figure">{entry.expiresAt === null ? "never" : formatDate(entry.expiresAt)}</dd>
      </div>
    </dl>
  );
}

/** A value too large to edit here: its beginning, as text or bytes. */
function Beginning({ entry }: { entry: Entry }) {
  return (
    <>
      <p class="note">
        The first {formatBytes(SHOWN_BYTES_MAX)} of {formatBytes(entry.size)}. A value of this size is not edited here.
      </p>
      <pre class="data value" tabIndex={0} aria-label="Beginning of the value">
        {hexDump(entry.value.subarray(0, 4096))}
      </pre>
    </>
  );
}

interface EditorProps {
  entry: Entry;
  isNew: boolean;
  onReload: () => void;
  onClose: () => void;
  onChange: (key: string | null) => void;
}

function remaining(expiresAt: number | null): number | null {
  // A key about to end is kept for a moment longer than refused: a TTL of nothing is no TTL.
  return expiresAt === null ? null : Math.max(0.001, expiresAt - Date.now() / 1000);
}

function Editor({ entry, isNew, onReload, onClose, onChange }: EditorProps) {
  const [name, setName] = useState("");
  const value = useDraft(entry);
  const [contentType, setContentType] = useState(entry.contentType);
  const ttlShown = entry.expiresAt === null ? "" : formatDuration(remaining(entry.expiresAt) ?? 0);
  const [ttl, setTtl] = useState(ttlShown);
  const [isAsking, setAsking] = useState(false);
  const action = useAction();
  const field = useRef<HTMLInputElement>(null);
  const isTtlTouched = ttl !== ttlShown;
  const ttl_s = isTtlTouched ? readDuration(ttl) : remaining(entry.expiresAt);
  const isTtlGood = ttl.trim() === "" || !isTtlTouched || ttl_s !== null;
  const isChanged = value.isChanged || isTtlTouched || contentType !== entry.contentType || (isNew && name !== "");
  const fault = "fault" in value.draft ? value.draft.fault : null;
  const canSave = fault === null && isTtlGood && !action.isBusy && (isNew ? name !== "" : isChanged);
  const isConflict = action.problem?.status === 412;
  useEffect(() => {
    unsaved = isChanged;
    return () => void (unsaved = false);
  }, [isChanged]);
  useEffect(() => (isNew ? field.current?.focus() : undefined), []);

  const save = (isForced: boolean): void => {
    if (!canSave || !("value" in value.draft)) return;
    const key = isNew ? readKey(name) : entry.key;
    const writing = { value: value.draft.value, contentType, ttl_s, etag: isForced ? undefined : isNew ? null : entry.etag };
    action.run(async () => {
      await writeEntry(key, writing);
      unsaved = false;
      onChange(showKey(key));
      if (!isNew) onReload();
    });
  };
  const remove = (): void =>
    action.run(async () => {
      await deleteEntry(entry.key, entry.etag);
      unsaved = false;
      onChange(null);
    });
  const onKeyDown = (event: KeyboardEvent): void => {
    if ((event.ctrlKey || event.metaKey) && (event.key === "s" || event.key === "Enter")) {
      event.preventDefault();
      save(false);
    }
  };
  return (
    <form class="editor" onSubmit={(event) => (event.preventDefault(), save(false))} onKeyDown={onKeyDown}>
      {isNew ? (
        <label class="field">
          <span>Key</span>
          <input ref={field} class="data" value={name} spellcheck={false} autocomplete="off" autocapitalize="off" onInput={(event) => setName(event.currentTarget.value)} />
        </label>
      ) : (
        <Facts entry={entry} />
      )}
      <div class="field">
        <div class="value-head">
          <span id="value-label">Value</span>
          <ModeTabs mode={value.mode} onMode={value.change} />
        </div>
        {value.blocked === null ? (
          <textarea
            class="data value"
            aria-labelledby="value-label"
            aria-invalid={fault !== null}
            spellcheck={false}
            value={value.text}
            onInput={(event) => value.type(event.currentTarget.value)}
          />
        ) : (
          <p class="value value-blocked">{value.blocked}</p>
        )}
        <small class="fault">{fault ?? ""}</small>
      </div>
      <div class="field-pair">
        <label class="field">
          <span>Content type</span>
          <input value={contentType} spellcheck={false} onInput={(event) => setContentType(event.currentTarget.value)} />
        </label>
        <label class="field">
          <span>Time to live</span>
          <input value={ttl} placeholder="no end" aria-invalid={!isTtlGood} spellcheck={false} onInput={(event) => setTtl(event.currentTarget.value)} />
          <small class={isTtlGood ? "" : "fault"}>{isTtlGood ? "90, 15m, 1h 30m, 7d" : "A duration such as 15m"}</small>
        </label>
      </div>
      {isConflict ? (
        <div class="conflict" role="alert">
          <p>{isNew ? "This key is there already." : "Someone else has written or deleted this key since it was read."}</p>
          <div class="buttons">
            {!isNew && (
              <button type="button" onClick={onReload}>
                Read again
              </button>
            )}
            <button type="button" class="danger" onClick={() => save(true)}>
              Overwrite
            </button>
          </div>
        </div>
      ) : (
        <Inline problem={action.problem} />
      )}
      <div class="buttons editor-buttons">
        {!isNew && (
          <button type="button" class="danger" disabled={action.isBusy} onClick={() => setAsking(true)}>
            Delete
          </button>
        )}
        <span class="spring" />
        <button type="button" onClick={onClose}>
          {isNew ? "Cancel" : "Close"}
        </button>
        <button type="submit" class="primary" disabled={!canSave}>
          {isNew ? "Create" : "Save"}
        </button>
      </div>
      {isAsking && (
        <Confirm
          title="Delete this key?"
          text={`${showKey(entry.key)} and its value are removed from the store.`}
          action="Delete"
          onClose={() => setAsking(false)}
          onConfirm={remove}
        />
      )}
    </form>
  );
}

interface PanelProps {
  selected: string | null;
  isNew: boolean;
  onClose: () => void;
  onChange: (key: string | null) => void;
}

function Shown({ selected, onClose, onChange }: { selected: string } & Omit<PanelProps, "isNew">) {
  const [state, setState] = useState<{ entry: Entry | null; turn: number } | null>(null);
  const [problem, setProblem] = useState<Problem | null>(null);
  const [turn, setTurn] = useState(0);
  useEffect(() => {
    const controller = new AbortController();
    setProblem(null);
    readEntry(readKey(selected), controller.signal)
      .then((entry) => setState({ entry, turn }))
      .catch((error: unknown) => isAbort(error) || setProblem(asProblem(error)));
    return () => controller.abort();
  }, [turn]);
  const reload = (): void => setTurn((count) => count + 1);
  if (problem !== null) return <Failure problem={problem} retry={reload} />;
  if (state === null) return <Waiting lines={6} label="Reading the value" />;
  if (state.entry === null)
    return (
      <>
        <Empty title="There is no such key">It was deleted, or its time was up.</Empty>
        <div class="buttons editor-buttons">
          <button type="button" onClick={onClose}>
            Close
          </button>
        </div>
      </>
    );
  if (state.entry.size > state.entry.value.length)
    return (
      <>
        <Facts entry={state.entry} />
        <Beginning entry={state.entry} />
      </>
    );
  return <Editor key={state.turn} entry={state.entry} isNew={false} onReload={reload} onClose={onClose} onChange={onChange} />;
}

export function EntryPanel(props: PanelProps) {
  const { selected, isNew, onClose } = props;
  return (
    <section class="panel browser-entry" aria-label="Entry">
      {isNew ? (
        <>
          <h2 class="entry-name">New key</h2>
          <Editor entry={NEW} isNew onReload={() => undefined} onClose={onClose} onChange={props.onChange} />
        </>
      ) : selected === null ? (
        <Empty title="No key is chosen">Choose one from the list to see its value.</Empty>
      ) : (
        <>
          <h2 class="entry-name data">{selected}</h2>
          <Shown {...props} selected={selected} />
        </>
      )}
    </section>
  );
}
