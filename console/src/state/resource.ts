/** Something read from the server, read again when asked to or every so often. What was there stays while it is. */
import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import { asProblem, getJson, isAbort, type Problem } from "../api/http";

export interface Resource<T> {
  data: T | null;
  problem: Problem | null;
  isLoading: boolean;
  reload: () => void;
}

/** `path` null reads nothing. `every_ms` 0 reads once. A new path forgets what the old one gave. */
export function useResource<T>(path: string | null, every_ms = 0): Resource<T> {
  const [state, setState] = useState<{ path: string | null; data: T | null; problem: Problem | null }>({
    path,
    data: null,
    problem: null,
  });
  const [isLoading, setLoading] = useState(path !== null);
  const [turn, setTurn] = useState(0);
  const reload = useCallback(() => setTurn((count) => count + 1), []);
  useEffect(() => {
    if (path === null) return undefined;
    const controller = new AbortController();
    let timer: ReturnType<typeof setTimeout> | undefined;
    const read = async (): Promise<void> => {
      setLoading(true);
      try {
        const data = await getJson<T>(path, controller.signal);
        setState({ path, data, problem: null });
      } catch (error) {
        if (isAbort(error)) return;
        setState((before) => ({ path, data: before.path === path ? before.data : null, problem: asProblem(error) }));
      }
      setLoading(false);
      if (every_ms > 0) timer = setTimeout(() => void read(), every_ms);
    };
    void read();
    return () => {
      controller.abort();
      clearTimeout(timer);
    };
  }, [path, every_ms, turn]);
  const isOwn = state.path === path;
  return { data: isOwn ? state.data : null, problem: isOwn ? state.problem : null, isLoading, reload };
}

/** An action with a button: what it waits for, and how it went wrong. */
export function useAction(): { isBusy: boolean; problem: Problem | null; run: (work: () => Promise<void>) => void; clear: () => void } {
  const [isBusy, setBusy] = useState(false);
  const [problem, setProblem] = useState<Problem | null>(null);
  const busy = useRef(false);
  const run = useCallback((work: () => Promise<void>) => {
    if (busy.current) return;
    busy.current = true;
    setBusy(true);
    setProblem(null);
    work()
      .catch((error: unknown) => setProblem(asProblem(error)))
      .finally(() => {
        busy.current = false;
        setBusy(false);
      });
  }, []);
  const clear = useCallback(() => setProblem(null), []);
  return { isBusy, problem, run, clear };
}
