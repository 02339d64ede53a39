/** The one stream of figures a second that charts, header and segments share, and whether the server is well. */
import { useEffect, useState } from "preact/hooks";
import { follow } from "../api/events";
import { asProblem, getJson, type Problem } from "../api/http";
import type { Live } from "../api/types";

/** Five minutes, a sample a second. */
export const SAMPLES_MAX = 300;

export type Health = { state: "waiting" | "ok" } | { state: "ill" | "away"; cause: string };

export interface Pulse {
  samples: readonly Live[];
  health: Health;
  /** Why there is no stream, while there is none. */
  problem: Problem | null;
}

let pulse: Pulse = { samples: [], health: { state: "waiting" }, problem: null };
const listeners = new Set<() => void>();

function change(part: Partial<Pulse>): void {
  pulse = { ...pulse, ...part };
  for (const listener of listeners) listener();
}

async function askHealth(): Promise<void> {
  try {
    await getJson("/readyz");
    change({ health: { state: "ok" } });
  } catch (error) {
    const { status, title, detail } = asProblem(error);
    change({ health: { state: status === 0 ? "away" : "ill", cause: detail || title } });
  }
}

/** Opens the stream and asks for health every few seconds, until the returned function is called. */
export function startPulse(): () => void {
  const stop = follow("/v1/live", {
    onOpen: () => {
      change({ problem: null });
      void askHealth();
    },
    onEvent: (event) => {
      const sample = JSON.parse(event.data) as Live;
      change({ samples: [...pulse.samples.slice(1 - SAMPLES_MAX), sample] });
    },
    onProblem: (problem) => {
      change({ problem });
      void askHealth();
    },
  });
  void askHealth();
  const timer = setInterval(() => void askHealth(), 5_000);
  return () => {
    stop();
    clearInterval(timer);
  };
}

export function usePulse(): Pulse {
  const [seen, setSeen] = useState(pulse);
  useEffect(() => {
    const listener = (): void => setSeen(pulse);
    listeners.add(listener);
    listener();
    return () => void listeners.delete(listener);
  }, []);
  return seen;
}
