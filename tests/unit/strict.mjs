// An upstream with a strict parser of RFC 9112, and clients that send raw bytes.
import { connect, createServer } from "node:net";
import { portOf } from "./upstream.mjs";

const TOKEN = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/;

/**
 * @typedef {object} Request
 * @property {number} connection
 * @property {string} method
 * @property {string} target
 * @property {[name: string, value: string][]} fields Names in lower case.
 * @property {string} body
 */

/**
 * Reads one request from the beginning of bytes.
 *
 * @param {string} text
 * @returns {{ request: Omit<Request, "connection">, rest: string } | undefined} Undefined where bytes are missing.
 * @throws where RFC 9112 does not allow the bytes
 */
export function parse(text) {
  const end = text.indexOf("\r\n\r\n");
  if (end < 0) return undefined;
  const [line = "", ...lines] = text.slice(0, end).split("\r\n");
  const start = /^([A-Z-]+) (\/[\x21-\x7e]*) HTTP\/1\.1$/.exec(line);
  if (!start) throw new Error(`request line ${JSON.stringify(line)}`);
  const fields = lines.map((text) => {
    const field = /^([^:]+): ?([\x20-\x7e\x80-\xff\t]*)$/.exec(text);
    if (!field || !TOKEN.test(field[1] ?? "")) throw new Error(`field ${JSON.stringify(text)}`);
    return /** @type {[string, string]} */ ([field[1]?.toLowerCase(), field[2]]);
  });
  const values = (/** @type {string} */ name) =>
    fields.filter(([of]) => of === name).map(([, value]) => value);
  const [lengths, codings] = [values("content-length"), values("transfer-encoding")];
  if (values("host").length !== 1) throw new Error(`${values("host").length} hosts`);
  if (lengths.length + codings.length > 1)
    throw new Error(`framed by ${[...lengths, ...codings].join(" and ")}`);
  const request = { method: start[1] ?? "", target: start[2] ?? "", fields, body: "" };
  const after = text.slice(end + 4);
  if (lengths.length > 0) {
    if (!/^\d+$/.test(lengths[0] ?? "")) throw new Error(`content-length ${lengths[0]}`);
    const length = Number(lengths[0]);
    if (after.length < length) return undefined;
    return { request: { ...request, body: after.slice(0, length) }, rest: after.slice(length) };
  }
  if (codings.length === 0) return { request, rest: after };
  if (codings[0] !== "chunked") throw new Error(`transfer-encoding ${codings[0]}`);
  return parseChunks(request, after);
}

/** @param {Omit<Request, "connection">} request @param {string} text */
function parseChunks(request, text) {
  for (let rest = text, body = ""; ; ) {
    const end = rest.indexOf("\r\n");
    if (end < 0) return undefined;
    const size = rest.slice(0, end);
    if (!/^[0-9a-fA-F]+$/.test(size)) throw new Error(`chunk size ${JSON.stringify(size)}`);
    const length = Number.parseInt(size, 16);
    rest = rest.slice(end + 2);
    if (rest.length < length + 2) return undefined;
    if (rest.slice(length, length + 2) !== "\r\n") throw new Error("a chunk without an end, or trailers");
    body += rest.slice(0, length);
    rest = rest.slice(length + 2);
    if (length === 0) return { request: { ...request, body }, rest };
  }
}

/**
 * @param {(request: Request) => string} [answer]
 */
export async function strictUpstream(answer = () => "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok") {
  /** @type {Request[]} */
  const requests = [];
  /** @type {string[]} */
  const problems = [];
  /** @type {Set<import("node:net").Socket>} */
  const sockets = new Set();
  let connections = 0;
  const server = createServer((socket) => {
    connections += 1;
    const connection = connections;
    sockets.add(socket);
    let text = "";
    const read = () => {
      for (;;) {
        const found = parse(text);
        if (!found) return;
        text = found.rest;
        const request = { connection, ...found.request };
        requests.push(request);
        const reply = answer(request);
        socket.write(
          request.method === "HEAD" ? reply.slice(0, reply.indexOf("\r\n\r\n") + 4) : reply,
          "latin1",
        );
      }
    };
    socket
      .setEncoding("latin1")
      .on("data", (data) => {
        text += data;
        try {
          read();
        } catch (error) {
          problems.push(`${/** @type {Error} */ (error).message}, in ${JSON.stringify(text.slice(0, 200))}`);
          socket.destroy();
        }
      })
      .on("error", () => {})
      .on("close", () => sockets.delete(socket));
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", () => resolve(undefined)));
  return {
    requests,
    problems,
    url: `http://127.0.0.1:${portOf(server)}`,
    close: () => {
      for (const socket of sockets) socket.destroy();
      server.close();
    },
  };
}

/**
 * Sends bytes, and returns the answer until the first complete header section, the end of the connection, or the time limit
 * has passed.
 *
 * @param {number} port
 * @param {string} bytes
 * @param {number} [withinMs]
 * @returns {Promise<string>}
 */
export function firstAnswer(port, bytes, withinMs = 1_000) {
  return new Promise((resolve) => {
    let text = "";
    const socket = connect(port, "127.0.0.1", () => socket.write(bytes, "latin1"));
    const timer = setTimeout(() => socket.destroy(), withinMs);
    socket
      .setEncoding("latin1")
      .on("data", (data) => {
        text += data;
        const isOver = /^(HTTP\/1\.1 1\d\d [^]*?\r\n\r\n)*HTTP\/1\.1 [2-5][^]*?\r\n\r\n/.test(text);
        if (isOver) socket.destroy();
      })
      .on("error", () => {})
      .on("close", () => {
        clearTimeout(timer);
        resolve(text);
      });
  });
}
