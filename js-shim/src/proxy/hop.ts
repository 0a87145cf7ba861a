/** Header fields that a proxy forwards: in their order and case, without the fields of one connection. */

/**
 * Fields of one connection (RFC 9110 section 7.6.1), and cookies: a browser sends the cookies of one port to every port of
 * a host, so cookies that arrive here belong to other servers, and an upstream's would reach them.
 */
const NOT_FORWARDED = new Set([
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
  "set-cookie",
  "set-cookie2",
]);

/** Fields that a `Connection` list cannot remove, since they describe the body, the target or the client. */
const ALWAYS_FORWARDED =
  /^(host|content-.*|accept(-.*)?|authorization|.*(api-?key|token|request-id|call-id).*|(anthropic|openai|x-goog|x-amz|x-ms)-.*|cache-control|date|etag|location|retry-after|vary|www-authenticate)$/;

/** Names and values in turn, as in Node's `rawHeaders`. */
export type RawHeaders = string[];

/** The forwarded fields. @param without further fields that are not forwarded, in lower case */
export function endToEnd(raw: readonly string[], without: readonly string[] = []): RawHeaders {
  const named = namedByConnection(raw).filter((name) => !ALWAYS_FORWARDED.test(name));
  const removed = new Set([...NOT_FORWARDED, ...without, ...named]);
  const forwarded: RawHeaders = [];
  for (const [name, value] of pairs(raw)) if (!removed.has(name.toLowerCase())) forwarded.push(name, value);
  return forwarded;
}

/** The trailer fields that are forwarded; none that a receiver could merge into the header. */
export function trailing(raw: readonly string[]): Array<[name: string, value: string]> {
  return pairs(raw).filter(([field]) => {
    const name = field.toLowerCase();
    return !NOT_FORWARDED.has(name) && name !== "trailer" && !ALWAYS_FORWARDED.test(name);
  });
}

/** The fields as pairs of name and value. */
export function pairs(raw: readonly string[]): Array<[name: string, value: string]> {
  const all: Array<[string, string]> = [];
  for (let index = 0; index + 1 < raw.length; index += 2) all.push([raw[index] ?? "", raw[index + 1] ?? ""]);
  return all;
}

/** The framing of a message's body. */
export type Framing = { by: "nothing" } | { by: "length"; length: number } | { by: "chunks" };

/**
 * The framing of a message by its fields; undefined where two readers may disagree about it. Stricter than Node's parser,
 * which accepts `gzip, chunked`, and more with `--insecure-http-parser`.
 */
export function framing(raw: readonly string[]): Framing | undefined {
  const values = (name: string) =>
    pairs(raw).flatMap(([of, value]) => (of.toLowerCase() === name ? value : []));
  // CGI and WSGI take `_` for `-`.
  if (pairs(raw).some(([name]) => /^(content_length|transfer_encoding)$/i.test(name))) return undefined;
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
