/** The store's facts: health, verification, backups, figures and settings. */
import { sendJson } from "../api/http";
import type { Backup, Job, Stats } from "../api/types";
import { factsOf } from "../flatten";
import { formatBytes, formatCount, formatDate, formatDuration } from "../format";
import { BackupButton } from "../parts/backup";
import { Empty, Failure, Inline, Waiting } from "../parts/states";
import { usePulse } from "../state/live";
import { useAction, useResource, type Resource } from "../state/resource";
import { useEffect, useState } from "preact/hooks";

function FactTable({ title, source }: { title: string; source: Resource<Record<string, unknown>> }) {
  return (
    <section class="panel" aria-label={title}>
      <header class="panel-head">
        <h2>{title}</h2>
      </header>
      {source.data ? (
        <dl class="table">
          {factsOf(source.data).map((fact) => (
            <div key={fact.name}>
              <dt>{fact.name}</dt>
              <dd class="figure">{fact.value}</dd>
            </div>
          ))}
        </dl>
      ) : source.problem ? (
        <Failure problem={source.problem} retry={source.reload} />
      ) : (
        <Waiting lines={10} label={`Reading ${title.toLowerCase()}`} />
      )}
    </section>
  );
}

function HealthPanel() {
  const { health } = usePulse();
  const words = {
    ok: ["Healthy", "The store reads and writes."],
    waiting: ["Asking", "The server has not answered yet."],
    ill: ["Not ready", "cause" in health ? health.cause : ""],
    away: ["Away", "cause" in health ? health.cause : ""],
  }[health.state];
  return (
    <section class="panel health" aria-label="Health" data-state={health.state}>
      <header class="panel-head">
        <h2>Health</h2>
      </header>
      <p class="health-word">
        <span class="dot" aria-hidden="true" /> {words[0]}
      </p>
      <p class="note">{words[1]}</p>
    </section>
  );
}

const number = (value: unknown): number => (typeof value === "number" ? value : 0);

function sayVerify(job: Job | null): string {
  if (job === null) return "";
  if (job.state === "running") return "Reading every record and checking it.";
  if (job.state === "failed") return `The verification failed: ${job.error?.detail ?? "the server's log has it"}.`;
  const report = job.report;
  if (!report) return "Not verified since the server started.";
  const damages = Array.isArray(report.damages) ? report.damages.length : 0;
  const read = `${formatCount(number(report.records))} records, ${formatBytes(number(report.bytes_checked))} in ${formatDuration(number(report.duration_s))}`;
  return damages === 0 ? `No damage: ${read}.` : `${damages} damaged places in ${read}. See flash-kv verify.`;
}

function VerifyPanel() {
  const [isRunning, setRunning] = useState(false);
  const job = useResource<Job>("/v1/verify", isRunning ? 500 : 10_000);
  const action = useAction();
  useEffect(() => setRunning(job.data?.state === "running"), [job.data?.state]);
  const start = (): void =>
    action.run(async () => {
      await sendJson("POST", "/v1/verify");
      job.reload();
    });
  return (
    <section class="panel" aria-label="Verification">
      <header class="panel-head">
        <h2>Verification</h2>
        <div class="buttons">
          <button type="button" disabled={isRunning || action.isBusy} onClick={start}>
            {isRunning ? "Verifying" : "Verify"}
          </button>
        </div>
      </header>
      <p class="note" role="status">
        {sayVerify(job.data)}
      </p>
      <Inline problem={action.problem ?? (job.data === null ? job.problem : null)} />
    </section>
  );
}

function BackupPanel() {
  const list = useResource<{ backups: Backup[] }>("/v1/backups");
  const backups = list.data?.backups;
  return (
    <section class="panel" aria-label="Backups">
      <header class="panel-head">
        <h2>Backups</h2>
        <div class="buttons">
          <BackupButton onDone={list.reload} />
        </div>
      </header>
      {backups ? (
        backups.length > 0 ? (
          <dl class="table">
            {backups.map((one) => (
              <div key={one.name}>
                <dt class="data">{one.name}</dt>
                <dd class="figure">
                  {formatBytes(one.bytes)}, {formatDate(one.made_at)}
                </dd>
              </div>
            ))}
          </dl>
        ) : (
          <Empty title="No backup yet">A backup is a directory that opens as a store by itself.</Empty>
        )
      ) : list.problem ? (
        <Failure problem={list.problem} retry={list.reload} />
      ) : (
        <Waiting lines={3} label="Reading the list of backups" />
      )}
    </section>
  );
}

export function Store() {
  const stats = useResource<Stats>("/v1/stats", 5_000);
  const options = useResource<Record<string, unknown>>("/v1/options");
  return (
    <>
      <header class="view-head">
        <h1 tabIndex={-1}>Store</h1>
        <span class="data note store-path">{stats.data?.path ?? ""}</span>
      </header>
      <div class="pair is-even">
        <HealthPanel />
        <VerifyPanel />
      </div>
      <BackupPanel />
      <div class="pair is-even">
        <FactTable title="Figures" source={stats} />
        <FactTable title="Settings" source={options} />
      </div>
    </>
  );
}
