/** Drawn for this console, on a grid of 20, in the colour of the text. */
import type { View } from "../state/route";
import type { Theme } from "../state/theme";

const PATHS: Record<View | Theme, string> = {
  overview: "M3 15.500h14M5 12.500l3-4 3 2.500 4-6",
  keys: "M4 5h12M4 10h12M4 15h7",
  sizes: "M4 4.500h12v3.500H4zM4 11h7.500v4.500H4z",
  watch: "M2.500 10s2.800-4.800 7.500-4.800S17.500 10 17.500 10s-2.800 4.800-7.500 4.800S2.500 10 2.500 10zM10 8a2 2 0 1 1 0 4 2 2 0 0 1 0-4z",
  slow: "M10 3.500a6.500 6.500 0 1 1 0 13 6.500 6.500 0 0 1 0-13zM10 6.500V10l2.500 2",
  store: "M4 5.500c0-3 12-3 12 0v9c0 3-12 3-12 0zM4 5.500c0 3 12 3 12 0M4 10c0 3 12 3 12 0",
  system: "M3 4.500h14v9H3zM7.500 16.500h5",
  light: "M10 6.500a3.500 3.500 0 1 1 0 7 3.500 3.500 0 0 1 0-7zM10 2v1.500M10 16.500V18M2 10h1.500M16.500 10H18M4.300 4.300l1.100 1.100M14.600 14.600l1.100 1.100M4.300 15.700l1.100-1.100M14.600 5.400l1.100-1.100",
  dark: "M16 11.500A6.500 6.500 0 1 1 8.500 4a5 5 0 0 0 7.500 7.500z",
};

export function Icon({ name }: { name: View | Theme }) {
  return (
    <svg class="icon" viewBox="0 0 20 20" width="20" height="20" fill="none" stroke="currentColor" stroke-width="1.500" stroke-linecap="round" stroke-linejoin="round" aria-hidden="true">
      <path d={PATHS[name]} />
    </svg>
  );
}

export function Mark() {
  return (
    <svg class="mark" viewBox="0 0 22 22" width="22" height="22" aria-hidden="true">
      <path class="mark-live" d="M2 3h18v4H2zM2 9h11v4H2zM2 15h6v4H2z" />
      <path class="mark-dead" d="M14 9h6v4h-6z" />
    </svg>
  );
}
