/** Light, dark, or as the system has it. The choice is kept; without one the system's is followed as it changes. */
import { useEffect, useState } from "preact/hooks";

export type Theme = "system" | "light" | "dark";
const KEPT = "flash-kv.theme";
const ORDER: Theme[] = ["system", "light", "dark"];
const dark = matchMedia("(prefers-color-scheme: dark)");
const listeners = new Set<() => void>();

function kept(): Theme {
  return ORDER.find((theme) => theme === localStorage.getItem(KEPT)) ?? "system";
}

export function applyTheme(): void {
  const theme = kept();
  if (theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  for (const listener of listeners) listener();
}

export function nextTheme(): void {
  const theme = ORDER[(ORDER.indexOf(kept()) + 1) % ORDER.length]!;
  if (theme === "system") localStorage.removeItem(KEPT);
  else localStorage.setItem(KEPT, theme);
  applyTheme();
}

dark.addEventListener("change", applyTheme);

/** The choice, and whether it comes out dark. */
export function useTheme(): { theme: Theme; isDark: boolean } {
  const read = (): { theme: Theme; isDark: boolean } => {
    const theme = kept();
    return { theme, isDark: theme === "dark" || (theme === "system" && dark.matches) };
  };
  const [seen, setSeen] = useState(read);
  useEffect(() => {
    const listener = (): void => setSeen(read());
    listeners.add(listener);
    return () => void listeners.delete(listener);
  }, []);
  return seen;
}
