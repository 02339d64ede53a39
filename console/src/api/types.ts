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
  report?: Record<string, unknown> | null;
  error?: unknown;
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
  compaction?: unknown;
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

export interface Biggest {
  keys: { key?: string; key_b64?: string; value_bytes: number }[];
  prefixes: { prefix?: string; prefix_b64?: string; keys: number; bytes: number }[];
}
