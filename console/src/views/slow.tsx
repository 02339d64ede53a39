/** The slow log: requests that took longer than the server's threshold. */
import { useState } from "preact/hooks";
import { fieldBytes, showKey } from "../api/bytes";
import { sendJson } from "../api/http";
import type { Slow, SlowLog } from "../api/types";
import { formatBytes, formatMicroseconds, formatTime } from "../format";
import { Confirm } from "../parts/dialog";
import { Empty, Failure, Inline, Waiting } from "../parts/states";
import { useAction, useResource } from "../state/resource";

function targetOf(row: Slow): string {
  const key = fieldBytes(row, "key");
  return key === null ? (row.path ?? "") : showKey(key);
}

function Row({ row, most }: { row: Slow; most: number }) {
  return (
    <tr>
      <td class="figure">{formatTime(row.at)}</td>
      <td class="figure slow-duration">
        {formatMicroseconds(row.duration_ms * 1000)}
        <span class="bar" aria-hidden="true">
          <span class="strip-live" style={{ width: `${(100 * row.duration_ms) / most}%` }} />
        </span>
      </td>
      <td class="data slow-target">{targetOf(row)}</td>
      <td>{row.method}</td>
      <td class="figure">{row.status}</td>
      <td class="figure">{row.bytes === undefined || row.bytes === null ? "" : formatBytes(row.bytes)}</td>
      <td class="figure">{row.client ?? ""}</td>
    </tr>
  );
}

export function SlowRequests() {
  const log = useResource<SlowLog>("/v1/slowlog?limit=200", 5_000);
  const [isAsking, setAsking] = useState(false);
  const action = useAction();
  const rows = log.data?.requests ?? null;
  const most = Math.max(...(rows ?? []).map((row) => row.duration_ms), 0.001);
  const empty = (): void =>
    action.run(async () => {
      await sendJson("DELETE", "/v1/slowlog");
      log.reload();
    });
  return (
    <>
      <header class="view-head">
        <h1 tabIndex={-1}>
          Slow log <span class="unit figure">{rows?.length ?? ""}</span>
        </h1>
        <div class="buttons">
          <button type="button" onClick={log.reload}>
            Refresh
          </button>
          <button type="button" disabled={!rows?.length || action.isBusy} onClick={() => setAsking(true)}>
            Empty
          </button>
        </div>
      </header>
      <Inline problem={action.problem} />
      <section class="panel" aria-label="Slow requests">
        {rows === null ? (
          log.problem ? <Failure problem={log.problem} retry={log.reload} /> : <Waiting lines={8} label="Reading the slow log" />
        ) : rows.length === 0 ? (
          <Empty title="No slow request">None has taken {log.data?.threshold_ms ?? 0} ms or more.</Empty>
        ) : (
          <div class="scroll" tabIndex={0} role="region" aria-label="Table of slow requests">
            <table>
              <thead>
                <tr>
                  {["Time", "Duration", "Key or path", "Method", "Status", "Bytes", "Client"].map((name) => (
                    <th key={name} scope="col">
                      {name}
                    </th>
                  ))}
                </tr>
              </thead>
              <tbody>
                {rows.map((row, at) => (
                  <Row key={`${row.at}.${at}`} row={row} most={most} />
                ))}
              </tbody>
            </table>
          </div>
        )}
      </section>
      {isAsking && (
        <Confirm
          title="Empty the slow log?"
          text="Its entries are forgotten. Requests from now on are noted as before."
          action="Empty it"
          onClose={() => setAsking(false)}
          onConfirm={empty}
        />
      )}
    </>
  );
}
