/** The log as it lies on disk: a strip for each segment, as long as the segment is big, live bytes filled, dead ones
 * hatched. What a compaction is at is marked. */
import type { Segment } from "../api/types";
import { formatBytes, formatPercent } from "../format";

function widthOf(part: number, most: number): { width: string } {
  return { width: `${most > 0 ? (100 * part) / most : 0}%` };
}

function describe(one: Segment): string {
  const dead = one.bytes > 0 ? formatPercent(one.dead_bytes / one.bytes) : "nothing";
  return `Segment ${one.id}, ${one.state}, ${formatBytes(one.bytes)}, ${dead} dead`;
}

function Strip({ one, most }: { one: Segment; most: number }) {
  return (
    <li class={`segment is-${one.state}`} aria-label={describe(one)} title={describe(one)} data-id={one.id}>
      <span class="segment-head">
        <span class="figure">{one.id}</span>
        <span class="segment-state">{one.state}</span>
        <span class="figure segment-size">{formatBytes(one.bytes)}</span>
      </span>
      <span class="strip" aria-hidden="true">
        <span class="strip-live" style={widthOf(one.live_bytes, most)} />
        <span class="strip-dead" style={widthOf(one.dead_bytes, most)} />
      </span>
    </li>
  );
}

/** Beyond this many, strips are drawn small and without words. */
const LABELLED_MAX = 96;

export function Segments({ segments }: { segments: Segment[] }) {
  const most = Math.max(...segments.map((one) => one.bytes), 1);
  const order = [...segments].sort((a, b) => a.id - b.id);
  return (
    <ul class={`segments${segments.length > LABELLED_MAX ? " is-dense" : ""}`} aria-label="Segments">
      {order.map((one) => (
        <Strip key={one.id} one={one} most={most} />
      ))}
    </ul>
  );
}

export function SegmentKey() {
  return (
    <ul class="legend" aria-label="Key">
      <li>
        <span class="swatch-box strip-live" aria-hidden="true" />
        <span class="legend-label">live</span>
      </li>
      <li>
        <span class="swatch-box strip-dead" aria-hidden="true" />
        <span class="legend-label">dead</span>
      </li>
      <li>
        <span class="swatch-box swatch-compacting" aria-hidden="true" />
        <span class="legend-label">compacting</span>
      </li>
    </ul>
  );
}
