/** How a panel looks while it waits, when there is nothing, and when it failed. */
import type { ComponentChildren } from "preact";
import { wantToken, type Problem } from "../api/http";

export function Empty({ title, children }: { title: string; children?: ComponentChildren }) {
  return (
    <div class="state">
      <p class="state-title">{title}</p>
      {children !== undefined && <p class="state-text">{children}</p>}
    </div>
  );
}

export function Failure({ problem, retry }: { problem: Problem; retry?: () => void }) {
  return (
    <div class="state state-failure" role="alert">
      <p class="state-title">{problem.title}</p>
      <p class="state-text">
        {problem.detail}
      </p>
      {problem.status === 401 && (
        <button type="button" onClick={wantToken}>
          Give a token
        </button>
      )}
      {retry && problem.status !== 401 && (
        <button type="button" onClick={retry}>
          Try again
        </button>
      )}
    </div>
  );
}

/** A failed action, said beside its button. */
export function Inline({ problem }: { problem: Problem | null }) {
  if (problem === null) return null;
  return (
    <p class="inline-failure" role="alert">
      {problem.message}
    </p>
  );
}

/** Lines of the height that what comes will have. */
export function Waiting({ lines, label }: { lines: number; label: string }) {
  return (
    <div class="waiting" role="status" aria-label={label}>
      {Array.from({ length: lines }, (_, at) => (
        <span key={at} class="waiting-line" />
      ))}
    </div>
  );
}
