/** What the server answers, as far as the console reads it; docs/http.md describes all of it. */

export interface Item {
  key?: string;
  key_b64?: string;
  lsn?: number;
  value_bytes?: number;
  expires_at?: number | null;
}

export interface Page {
  items: Item[];
  cursor: string | null;
}

export interface Segment {
  id: number;
  state: "active" | "spare" | "sealed" | "compacting";
  bytes: number;
  live_bytes: number;
  dead_bytes: number;
  records?: number;
}

export interface Job {
  state: "idle" | "running" | "done" | "failed" | "cancelled";
  progress?: number;
  bytes_done?: number;
  bytes_total?: number;
  report?: Record<string, unknown>;
  error?: { detail?: string };
  /** Of `/v1/live`: the store's own, which is no job and cannot be cancelled. */
  is_background?: boolean;
}

export interface Live {
  at: number;
  ops: Record<string, number>;
  latency_us: { p50: number | null; p99: number | null; max: number | null };
  bytes_in: number;
  bytes_out: number;
  connections: number;
  keys: number;
  live_bytes: number;
  dead_bytes: number;
  compaction: Job;
}

export type Stats = Record<string, unknown> & {
  path?: string;
  keys?: number;
  disk_bytes?: number;
  server?: Record<string, unknown>;
};

export interface Slow {
  at: number;
  duration_ms: number;
  method: string;
  key?: string;
  key_b64?: string;
  path?: string;
  status: number;
  bytes?: number;
  client?: string;
}

export interface SlowLog {
  threshold_ms: number;
  requests: Slow[];
}

export interface Backup {
  name: string;
  bytes: number;
  made_at: number;
}

export interface Biggest {
  keys: { key?: string; key_b64?: string; value_bytes: number }[];
  prefixes: { prefix?: string; prefix_b64?: string; keys: number; bytes: number }[];
  /** The scan ended before it had seen every key. */
  is_cut_short?: boolean;
}
