/** The compaction: started, tried dry, watched to its end, cancelled. */
import { useEffect, useState } from "preact/hooks";
import { sendJson } from "../api/http";
import type { Job } from "../api/types";
import { formatBytes, formatCount, formatDuration, formatPercent } from "../format";
import { useAction, useResource, type Resource } from "../state/resource";
import { Inline } from "./states";

export function useCompaction(isHinted: boolean): Resource<Job> {
  const [isRunning, setRunning] = useState(false);
  const job = useResource<Job>("/v1/compaction", isRunning || isHinted ? 400 : 5_000);
  useEffect(() => setRunning(job.data?.state === "running"), [job.data?.state]);
  return job;
}

const number = (value: unknown): number => (typeof value === "number" ? value : 0);

/** What a finished or dry run came to, in a sentence. */
export function sayReport(report: Record<string, unknown>): string {
  const segments = formatCount(number(report.segments_compacted));
  const gain = formatBytes(number(report.bytes_reclaimed));
  if (report.is_dry_run === true)
    return number(report.segments_compacted) === 0
      ? "Dry run: nothing to compact."
      : `Dry run: ${segments} segments would be compacted, ${gain} reclaimed.`;
  if (number(report.segments_compacted) === 0) return "There was nothing to compact.";
  return `${segments} segments compacted, ${gain} reclaimed in ${formatDuration(number(report.duration_s))}.`;
}

function sayState(job: Job | null, dry: Record<string, unknown> | null): string {
  if (job?.state === "running")
    return `Compacting: ${formatBytes(job.bytes_done ?? 0)} of ${formatBytes(job.bytes_total ?? 0)}`;
  if (dry !== null) return sayReport(dry);
  if (job?.state === "cancelled") return "The last compaction was cancelled; what it had finished stays.";
  if (job?.state === "failed") return `The last compaction failed: ${job.error?.detail ?? "the server's log has it"}.`;
  if (job?.state === "done") return job.report ? sayReport(job.report) : "The last compaction is done.";
  return "No compaction is running.";
}

/** `background` is the store's own compaction while one runs: it is shown as any other, but is no job to cancel. */
export function Compaction({ job, background }: { job: Resource<Job>; background: Job | null }) {
  const action = useAction();
  const [dry, setDry] = useState<Record<string, unknown> | null>(null);
  const shown = job.data?.state === "running" ? job.data : (background ?? job.data);
  const isRunning = shown?.state === "running";
  const progress = isRunning ? (shown?.progress ?? 0) : 0;
  const send = (method: string, body?: unknown): void =>
    action.run(async () => {
      const answer = await sendJson<Job>(method, "/v1/compaction", body);
      setDry(answer?.report?.is_dry_run === true ? answer.report : null);
      job.reload();
    });
  return (
    <div class="compaction">
      <div class="meter" role="progressbar" aria-label="Compaction" aria-valuemin={0} aria-valuemax={100} aria-valuenow={Math.round(progress * 100)} data-state={shown?.state ?? "idle"}>
        <span class="meter-fill" style={{ width: `${progress * 100}%` }} />
      </div>
      <div class="compaction-line">
        <p role="status" class="compaction-text">
          {sayState(shown, dry)} {isRunning && <span class="figure">{formatPercent(progress)}</span>}
        </p>
        <div class="buttons">
          <button type="button" disabled={isRunning || action.isBusy} onClick={() => send("POST", { dry_run: true })}>
            Dry run
          </button>
          {isRunning ? (
            <button type="button" disabled={action.isBusy || shown === background} onClick={() => send("DELETE")}>
              Cancel
            </button>
          ) : (
            <button type="button" class="primary" disabled={action.isBusy} onClick={() => send("POST", { dry_run: false })}>
              Compact
            </button>
          )}
        </div>
      </div>
      <Inline problem={action.problem ?? (job.data === null ? job.problem : null)} />
    </div>
  );
}
