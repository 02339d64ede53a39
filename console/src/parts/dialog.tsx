/** A modal dialog: the browser's own, so focus stays in it, Escape closes it and what is behind it is inert. */
import type { ComponentChildren } from "preact";
import { useEffect, useId, useRef } from "preact/hooks";

export function Dialog(props: { title: string; onClose: () => void; children: ComponentChildren }) {
  const element = useRef<HTMLDialogElement>(null);
  const id = useId();
  useEffect(() => {
    const dialog = element.current!;
    const before = document.activeElement as HTMLElement | null;
    dialog.showModal();
    return () => {
      dialog.close();
      before?.focus();
    };
  }, []);
  const close = (event: Event): void => {
    event.preventDefault();
    props.onClose();
  };
  return (
    <dialog
      ref={element}
      aria-labelledby={id}
      onCancel={close}
      onClick={(event) => event.target === element.current && props.onClose()}
    >
      <div class="dialog-body">
        <h2 id={id}>{props.title}</h2>
        {props.children}
      </div>
    </dialog>
  );
}

/** Asks before something that cannot be undone. */
export function Confirm(props: { title: string; text: string; action: string; onClose: () => void; onConfirm: () => void }) {
  return (
    <Dialog title={props.title} onClose={props.onClose}>
      <p>{props.text}</p>
      <div class="buttons">
        <button type="button" onClick={props.onClose} autofocus>
          Cancel
        </button>
        <button type="button" class="danger" onClick={() => (props.onClose(), props.onConfirm())}>
          {props.action}
        </button>
      </div>
    </Dialog>
  );
}
