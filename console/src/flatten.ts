/** Nested figures as rows of a table. */
import { formatBytes, formatCount, formatDuration } from "./format";

export interface Fact {
  name: string;
  value: string;
}

function say(name: string, value: unknown): string {
  if (value === null || value === undefined) return "none";
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (typeof value === "number") {
    if (/(^|_)bytes(_|$)/.test(name) && value >= 1024) return `${formatBytes(value)} (${formatCount(value)})`;
    if (/_s$/.test(name) && value >= 60) return `${formatDuration(value)} (${formatCount(value)} s)`;
    return Number.isInteger(value) ? formatCount(value) : String(Number(value.toPrecision(4)));
  }
  if (Array.isArray(value)) return value.length === 0 ? "none" : value.map((one) => say("", one)).join(", ");
  return typeof value === "string" ? value : JSON.stringify(value);
}

/** Rows in the order they come; a list of objects, which is a table of its own, counts as its length. */
export function factsOf(value: Record<string, unknown>, before = ""): Fact[] {
  return Object.entries(value).flatMap(([key, one]) => {
    const name = before === "" ? key : `${before}.${key}`;
    if (Array.isArray(one) && typeof one[0] === "object") return [{ name, value: formatCount(one.length) }];
    if (typeof one === "object" && one !== null && !Array.isArray(one)) return factsOf(one as Record<string, unknown>, name);
    return [{ name, value: say(key, one) }];
  });
}
