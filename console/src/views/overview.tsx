/** The store at a glance: figures, the last minutes, and the log on disk. */
import { useEffect, useMemo } from "preact/hooks";
import type { Live, Segment, Stats } from "../api/types";
import { formatBytes, formatCount, formatMicroseconds, formatPercent, formatRate } from "../format";
import { BackupButton } from "../parts/backup";
import { Chart, type Series } from "../parts/chart";
import { Compaction, useCompaction } from "../parts/compaction";
import { SegmentKey, Segments } from "../parts/segments";
import { Empty, Failure, Waiting } from "../parts/states";
import { usePulse } from "../state/live";
import { useResource } from "../state/resource";

const RATES: Series[] = [
  { label: "reads", color: "--accent", fill: true },
  { label: "writes", color: "--ink" },
  { label: "other", color: "--ink-3", dash: [3, 3] },
];
const LATENCIES: Series[] = [
  { label: "p50", color: "--accent", fill: true },
  { label: "p99", color: "--ink" },
  { label: "max", color: "--ink-3", dash: [3, 3] },
];

function total(ops: Record<string, number>): number {
  return Object.values(ops).reduce((sum, rate) => sum + rate, 0);
}

function ratesOf(samples: readonly Live[]): (number | null)[][] {
  const writes = (one: Live): number => (one.ops.write ?? 0) + (one.ops.delete ?? 0);
  return [
    samples.map((one) => one.at),
    samples.map((one) => one.ops.read ?? 0),
    samples.map(writes),
    samples.map((one) => total(one.ops) - (one.ops.read ?? 0) - writes(one)),
  ];
}

function latenciesOf(samples: readonly Live[]): (number | null)[][] {
  return [
    samples.map((one) => one.at),
    // A second without requests has no latency.
    ...(["p50", "p99", "max"] as const).map((name) => samples.map((one) => one.latency_us[name] || null)),
  ];
}

function Figure({ label, value, note }: { label: string; value: string | null; note?: string }) {
  return (
    <div class="fact">
      <dt>
        {label} <span class="fact-note">{note ?? ""}</span>
      </dt>
      <dd class="figure">{value ?? "–"}</dd>
    </div>
  );
}

function Figures({ newest, stats }: { newest: Live | undefined; stats: Stats | null }) {
  const dead = newest && newest.live_bytes + newest.dead_bytes > 0 ? newest.dead_bytes / (newest.live_bytes + newest.dead_bytes) : 0;
  return (
    <dl class="facts" aria-label="Figures">
      <Figure label="Keys" value={newest ? formatCount(newest.keys) : null} />
      <Figure label="Live" value={newest ? formatBytes(newest.live_bytes) : null} />
      <Figure label="Dead" value={newest ? formatBytes(newest.dead_bytes) : null} {...(newest && { note: formatPercent(dead) })} />
      <Figure label="On disk" value={typeof stats?.disk_bytes === "number" ? formatBytes(stats.disk_bytes) : null} />
      <Figure label="Requests" value={newest ? formatRate(total(newest.ops)) : null} note="/s" />
      <Figure label="Connections" value={newest ? formatCount(newest.connections) : null} />
    </dl>
  );
}

function LogPanel({ newest }: { newest: Live | undefined }) {
  const live = newest?.compaction.state === "running" ? newest.compaction : null;
  const background = live?.is_background ? live : null;
  const job = useCompaction(live !== null && background === null);
  const isRunning = job.data?.state === "running" || background !== null;
  const segments = useResource<{ segments: Segment[] }>("/v1/segments", isRunning ? 500 : 5_000);
  // What the end of a compaction left is shown at once.
  useEffect(() => segments.reload(), [job.data?.state, background !== null]);
  const list = segments.data?.segments;
  return (
    <section class="panel" aria-label="Log">
      <header class="panel-head">
        <h2>
          Segments <span class="unit figure">{list ? list.length : ""}</span>
        </h2>
        <SegmentKey />
      </header>
      <Compaction job={job} background={background} />
      {list ? (
        list.length > 0 ? <Segments segments={list} /> : <Empty title="The log is empty">Its first segment comes with the first write.</Empty>
      ) : segments.problem ? (
        <Failure problem={segments.problem} retry={segments.reload} />
      ) : (
        <Waiting lines={3} label="Reading the segments" />
      )}
    </section>
  );
}

export function Overview() {
  const { samples, problem } = usePulse();
  const stats = useResource<Stats>("/v1/stats", 5_000);
  const newest = samples.at(-1);
  const rates = useMemo(() => ratesOf(samples), [samples]);
  const latencies = useMemo(() => latenciesOf(samples), [samples]);
  const waiting = samples.length > 0 ? null : problem ? problem.message : "Waiting for the first second";
  return (
    <>
      <header class="view-head">
        <h1 tabIndex={-1}>Overview</h1>
        <div class="buttons">
          <BackupButton />
        </div>
      </header>
      <Figures newest={newest} stats={stats.data} />
      <div class="pair">
        <Chart title="Throughput" unit="requests/s" series={RATES} data={rates} format={formatRate} waiting={waiting} />
        <Chart title="Latency" unit="per request" series={LATENCIES} data={latencies} format={formatMicroseconds} isLog waiting={waiting} />
      </div>
      <LogPanel newest={newest} />
    </>
  );
}
