/** Making a backup in the folder the server was given. */
import { useState } from "preact/hooks";
import { sendJson } from "../api/http";
import { useAction } from "../state/resource";
import { Dialog } from "./dialog";
import { Inline } from "./states";

function nameNow(): string {
  return `backup-${new Date().toISOString().slice(0, 19).replace(/[:T]/g, "-")}`;
}

const NAME = /^[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}$/;

export function BackupDialog({ onClose, onDone }: { onClose: () => void; onDone: (name: string) => void }) {
  const [name, setName] = useState(nameNow);
  const action = useAction();
  const isGood = NAME.test(name);
  const submit = (event: Event): void => {
    event.preventDefault();
    if (!isGood) return;
    action.run(async () => {
      await sendJson("POST", "/v1/backup", { name });
      onDone(name);
    });
  };
  return (
    <Dialog title="Back up the store" onClose={onClose}>
      <form onSubmit={submit}>
        <p>A consistent copy, taken while the store goes on. It opens as a store by itself.</p>
        <label class="field">
          <span>Name</span>
          <input value={name} onInput={(event) => setName(event.currentTarget.value)} aria-invalid={!isGood} spellcheck={false} autofocus />
          <small>Letters, digits, dot, hyphen and underscore; 64 at most.</small>
        </label>
        <Inline problem={action.problem} />
        <div class="buttons">
          <button type="button" onClick={onClose}>
            Cancel
          </button>
          <button type="submit" class="primary" disabled={!isGood || action.isBusy}>
            {action.isBusy ? "Backing up" : "Back up"}
          </button>
        </div>
      </form>
    </Dialog>
  );
}

/** The button, with the dialog behind it and the word when it is done. */
export function BackupButton({ onDone }: { onDone?: () => void }) {
  const [isOpen, setOpen] = useState(false);
  const [made, setMade] = useState<string | null>(null);
  return (
    <>
      <span class="done" role="status">
        {made !== null && `Backed up as ${made}`}
      </span>
      <button type="button" onClick={() => (setMade(null), setOpen(true))}>
        Back up
      </button>
      {isOpen && (
        <BackupDialog
          onClose={() => setOpen(false)}
          onDone={(name) => {
            setOpen(false);
            setMade(name);
            onDone?.();
          }}
        />
      )}
    </>
  );
}
