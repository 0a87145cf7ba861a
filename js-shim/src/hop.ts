/** Header fields as they pass a proxy: in their order and case, without those that belong to one connection. */

/** Fields of one connection, RFC 9110 section 7.6.1. `Trailer` stays where trailers do. */
const HOP_BY_HOP = new Set([
  "connection",
  "keep-alive",
  "proxy-authenticate",
  "proxy-authorization",
  "proxy-connection",
  "te",
  "transfer-encoding",
  "upgrade",
]);

/** Names and values in turn, as Node has them in `rawHeaders`. */
export type RawHeaders = string[];

/** The fields that pass; those in `without` (lower case) do not. */
export function endToEnd(raw: readonly string[], without: readonly string[] = []): RawHeaders {
  const gone = new Set([...HOP_BY_HOP, ...without, ...namedByConnection(raw)]);
  const passed: RawHeaders = [];
  for (const [name, value] of pairs(raw)) if (!gone.has(name.toLowerCase())) passed.push(name, value);
  return passed;
}

/** The same as pairs. */
export function pairs(raw: readonly string[]): Array<[name: string, value: string]> {
  const all: Array<[string, string]> = [];
  for (let index = 0; index + 1 < raw.length; index += 2) all.push([raw[index] ?? "", raw[index + 1] ?? ""]);
  return all;
}

function namedByConnection(raw: readonly string[]): string[] {
  return pairs(raw)
    .filter(([name]) => name.toLowerCase() === "connection")
    .flatMap(([, value]) => value.toLowerCase().split(","))
    .map((name) => name.trim());
}
