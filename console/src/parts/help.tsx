/** The keyboard: what does what, and the listener that does it. */
import { useEffect } from "preact/hooks";
import { goTo, VIEWS } from "../state/route";
import { nextTheme } from "../state/theme";
import { Dialog } from "./dialog";

const SHORTCUTS: [string, string][] = [
  ["1 – 6", "Overview, Keys, Sizes, Watch, Slow log, Store"],
  ["/", "Search by prefix"],
  ["n", "New key"],
  ["↑ ↓ Home End", "Move in the list of keys"],
  ["Enter", "Open the key"],
  ["Ctrl S", "Save the value"],
  ["Esc", "Close a dialog"],
  ["t", "Light, dark, or as the system"],
  ["?", "This list"],
];

export function Help({ onClose }: { onClose: () => void }) {
  return (
    <Dialog title="Keyboard" onClose={onClose}>
      <dl class="shortcuts">
        {SHORTCUTS.map(([keys, text]) => (
          <div key={keys}>
            <dt>
              <kbd>{keys}</kbd>
            </dt>
            <dd>{text}</dd>
          </div>
        ))}
      </dl>
      <div class="buttons">
        <button type="button" onClick={onClose}>
          Close
        </button>
      </div>
    </Dialog>
  );
}

function isTyping(target: EventTarget | null): boolean {
  return target instanceof HTMLElement && target.closest("input:not([type=checkbox]):not([type=radio]), textarea, select, dialog") !== null;
}

/** The field stands once the address has changed and the page is drawn, which takes some frames. */
function focusSearch(frames: number): void {
  const field = document.getElementById("prefix");
  if (field !== null) field.focus();
  else if (frames > 0) requestAnimationFrame(() => focusSearch(frames - 1));
}

function search(): void {
  if (document.getElementById("prefix") === null) goTo("keys");
  focusSearch(120);
}

export function useShortcuts(onHelp: () => void): void {
  useEffect(() => {
    const listener = (event: KeyboardEvent): void => {
      if (event.ctrlKey || event.metaKey || event.altKey || isTyping(event.target)) return;
      const view = VIEWS[Number(event.key) - 1];
      if (view !== undefined) goTo(view);
      else if (event.key === "/") search();
      else if (event.key === "n") goTo("keys", { new: "1" });
      else if (event.key === "t") nextTheme();
      else if (event.key === "?") onHelp();
      else return;
      event.preventDefault();
    };
    addEventListener("keydown", listener);
    return () => removeEventListener("keydown", listener);
  }, [onHelp]);
}
