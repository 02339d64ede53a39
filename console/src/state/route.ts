/** Where the reader is: a view and what it shows, in the address after `#`, so that back, forward and links work. */
import { useEffect, useState } from "preact/hooks";

export const VIEWS = ["overview", "keys", "sizes", "watch", "slow", "store"] as const;
export type View = (typeof VIEWS)[number];

export interface Route {
  view: View;
  query: URLSearchParams;
}

export function readRoute(hash: string): Route {
  const [name = "", query = ""] = hash.replace(/^#\/?/, "").split("?", 2);
  const view = VIEWS.find((one) => one === name) ?? "overview";
  return { view, query: new URLSearchParams(query) };
}

export function linkTo(view: View, query: Record<string, string> = {}): string {
  const text = new URLSearchParams(Object.entries(query).filter(([, value]) => value !== "")).toString();
  return `#/${view}${text === "" ? "" : `?${text}`}`;
}

export function goTo(view: View, query: Record<string, string> = {}): void {
  location.hash = linkTo(view, query);
}

export function useRoute(): Route {
  const [hash, setHash] = useState(location.hash);
  useEffect(() => {
    const listener = (): void => setHash(location.hash);
    addEventListener("hashchange", listener);
    return () => removeEventListener("hashchange", listener);
  }, []);
  return readRoute(hash);
}
