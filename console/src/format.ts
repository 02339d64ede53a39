/** Figures as people read them: short, of steady width, never with digits that mean nothing. */

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];

function three(value: number): string {
  return value >= 99.95 ? value.toFixed(0) : value >= 9.995 ? value.toFixed(1) : value.toFixed(2);
}

export function formatBytes(bytes: number): string {
  let value = bytes;
  let unit = 0;
  while (value >= 1023.5 && unit < UNITS.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return unit === 0 ? `${Math.round(value)} B` : `${three(value)} ${UNITS[unit]}`;
}

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

export function formatCount(count: number): string {
  return whole.format(count);
}

/** A rate: whole from ten up, shortened from ten thousand up. */
export function formatRate(rate: number): string {
  if (rate >= 999_500) return `${three(rate / 1e6)} M`;
  if (rate >= 9_999.5) return `${three(rate / 1e3)} k`;
  if (rate >= 9.95 || rate === 0) return whole.format(rate);
  return rate.toFixed(1);
}

export function formatMicroseconds(us: number): string {
  if (us < 999.5) return `${us < 9.95 ? us.toFixed(1) : us.toFixed(0)} µs`;
  if (us < 999_500) return `${three(us / 1e3)} ms`;
  return `${three(us / 1e6)} s`;
}

export function formatPercent(ratio: number): string {
  const percent = ratio * 100;
  return `${percent > 0 && percent < 9.95 ? percent.toFixed(1) : percent.toFixed(0)} %`;
}

const STEPS: [number, string][] = [
  [86_400, "d"],
  [3_600, "h"],
  [60, "m"],
  [1, "s"],
];

/** A duration in its two greatest units: `2h 5m`, `45s`. */
export function formatDuration(seconds: number): string {
  let rest = Math.max(0, Math.round(seconds));
  const parts: string[] = [];
  for (const [size, unit] of STEPS) {
    const count = Math.floor(rest / size);
    rest -= count * size;
    if (count > 0 || (unit === "s" && parts.length === 0)) parts.push(`${count}${unit}`);
    else if (parts.length > 0) break;
    if (parts.length === 2) break;
  }
  return parts.join(" ");
}

/** Seconds of a duration as it was typed (`90`, `15m`, `1h 30m`, `2.5s`), or null where it is none. */
export function readDuration(text: string): number | null {
  const parts = text.trim().toLowerCase().match(/\d+(?:\.\d+)?\s*[dhms]?/g);
  if (parts === null || parts.join("").replace(/\s/g, "") !== text.replace(/\s/g, "").toLowerCase()) return null;
  let total = 0;
  for (const part of parts) {
    const unit = part.at(-1) ?? "";
    const size = STEPS.find(([, name]) => name === unit)?.[0];
    if (size === undefined && parts.length > 1) return null;
    total += parseFloat(part) * (size ?? 1);
  }
  return total > 0 && Number.isFinite(total) ? total : null;
}

/** The time of day of an instant in seconds since 1970. */
export function formatTime(at: number): string {
  return new Date(at * 1000).toLocaleTimeString("en-GB", { hour12: false });
}

export function formatDate(at: number): string {
  return new Date(at * 1000).toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "short" });
}
