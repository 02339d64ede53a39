/**
 * JSON laid out anew without being read into values: every number and string stays as it was written, so that looking
 * at a value and saving it cannot change 12345678901234567890 or 1.10.
 */

const TOKEN = /"(?:[^"\\]|\\.)*"|[{}[\],:]|[^\s{}[\],:"]+/gsu;

/** Whether the text is one JSON value, and if not, why. */
export function jsonFault(text: string): string | null {
  try {
    JSON.parse(text);
    return null;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

function lines(tokens: string[], indent: string): string {
  let depth = 0;
  let out = "";
  tokens.forEach((token, at) => {
    const isEmpty = (token === "{" || token === "[") && (tokens[at + 1] === "}" || tokens[at + 1] === "]");
    const closesEmpty = (token === "}" || token === "]") && (tokens[at - 1] === "{" || tokens[at - 1] === "[");
    if (token === "{" || token === "[") {
      out += token;
      if (isEmpty) return;
      depth += 1;
      out += `\n${indent.repeat(depth)}`;
    } else if (token === "}" || token === "]") {
      if (!closesEmpty) {
        depth -= 1;
        out += `\n${indent.repeat(depth)}`;
      }
      out += token;
    } else if (token === ",") out += `,\n${indent.repeat(depth)}`;
    else out += token === ":" ? ": " : token;
  });
  return out;
}

/** `text` has to be JSON. A line for each member. */
export function layOut(text: string): string {
  return lines(text.match(TOKEN) ?? [], "  ");
}

/** `text` has to be JSON. Without any white space between tokens. */
export function compact(text: string): string {
  return (text.match(TOKEN) ?? []).join("");
}
