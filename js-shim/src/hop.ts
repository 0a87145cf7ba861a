/** Header fields as they pass a proxy: in their order and case, without those that belong to one connection. */

/**
 * Fields of one connection, RFC 9110 section 7.6.1; and a client's cookies: a browser sends those of one port to every
 * port of this machine, so the ones that come here are other servers'.
 */
const STAYS = new Set([
  "connection",
  "keep-alive",
  "proxy-authenticate",
  "proxy-authorization",
  "proxy-connection",
  "te",
  "transfer-encoding",
  "upgrade",
  "cookie",
  "cookie2",
]);

/** Fields that a `Connection` list cannot remove: what they say of body, target or client would be lost on the way. */
const PASSES =
  /^(host|content-.*|accept(-.*)?|authorization|.*(api-?key|token|request-id|call-id).*|(anthropic|openai|x-goog|x-amz|x-ms)-.*|cache-control|date|etag|location|retry-after|vary|www-authenticate)$/;

/** Names and values in turn, as Node has them in `rawHeaders`. */
export type RawHeaders = string[];

/** The fields that pass; those in `without` (lower case) do not. */
export function endToEnd(raw: readonly string[], without: readonly string[] = []): RawHeaders {
  const named = namedByConnection(raw).filter((name) => !PASSES.test(name));
  const gone = new Set([...STAYS, ...without, ...named]);
  const passed: RawHeaders = [];
  for (const [name, value] of pairs(raw)) if (!gone.has(name.toLowerCase())) passed.push(name, value);
  return passed;
}

/** Fields that may stand behind a body: nobody is to take them for the head's. */
export function trailing(raw: readonly string[]): Array<[name: string, value: string]> {
  return pairs(raw).filter(
    ([name]) =>
      !STAYS.has(name.toLowerCase()) && name.toLowerCase() !== "trailer" && !PASSES.test(name.toLowerCase()),
  );
}

/** The same as pairs. */
export function pairs(raw: readonly string[]): Array<[name: string, value: string]> {
  const all: Array<[string, string]> = [];
  for (let index = 0; index + 1 < raw.length; index += 2) all.push([raw[index] ?? "", raw[index + 1] ?? ""]);
  return all;
}

/** How a message says where its body ends. */
export type Framing = { by: "nothing" } | { by: "length"; length: number } | { by: "chunks" };

/**
 * The framing of a message, from its fields alone; nothing where two readers of it may differ. Stricter than Node's
 * parser, which takes `gzip, chunked`, and which `--insecure-http-parser` makes take more.
 */
export function framing(raw: readonly string[]): Framing | undefined {
  const values = (name: string) =>
    pairs(raw).flatMap(([of, value]) => (of.toLowerCase() === name ? value : []));
  const [length, ...lengths] = values("content-length");
  const [coding, ...codings] = values("transfer-encoding");
  if (lengths.length > 0 || codings.length > 0) return undefined;
  if (length !== undefined && coding !== undefined) return undefined;
  if (coding !== undefined) return coding.toLowerCase() === "chunked" ? { by: "chunks" } : undefined;
  if (length === undefined) return { by: "nothing" };
  return /^\d{1,15}$/.test(length) ? { by: "length", length: Number(length) } : undefined;
}

function namedByConnection(raw: readonly string[]): string[] {
  return pairs(raw)
    .filter(([name]) => name.toLowerCase() === "connection")
    .flatMap(([, value]) => value.toLowerCase().split(","))
    .map((name) => name.trim());
}
