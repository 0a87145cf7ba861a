// Request smuggling: no framing makes a client's bytes part of another client's request.
import assert from "node:assert/strict";
import { Agent } from "node:http";
import { connect, createServer } from "node:net";
import { describe, test } from "node:test";
import { firstAnswer, strictUpstream } from "./strict.mjs";
import { get, pause, proxyTo } from "./upstream.mjs";

const METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"];
/** A body that would be a request if the upstream read the framing in another way. */
const EVIL = "POST /evil HTTP/1.1\r\nhost: x\r\ncontent-length: 900\r\n\r\n";
const CHUNKED = `${EVIL.length.toString(16)}\r\n${EVIL}\r\n0\r\n\r\n`;
const LENGTH = `content-length: ${EVIL.length}\r\n`;
const TE = "transfer-encoding: chunked\r\n";

/** Framing fields, and the bytes that a client sends. */
const FRAMINGS = /** @type {Record<string, [fields: string, body: string]>} */ ({
  none: ["", ""],
  length: [LENGTH, EVIL],
  "no length": ["content-length: 0\r\n", ""],
  chunked: [TE, CHUNKED],
  both: [LENGTH + TE, CHUNKED],
  "both, turned": [TE + LENGTH, CHUNKED],
  "length twice": [LENGTH + LENGTH, EVIL],
  "two lengths": [`${LENGTH}content-length: 3\r\n`, EVIL],
  "a list of lengths": [`content-length: ${EVIL.length}, ${EVIL.length}\r\n`, EVIL],
  "a signed length": [`content-length: +${EVIL.length}\r\n`, EVIL],
  "chunked twice": [TE + TE, CHUNKED],
  "chunked in capitals": ["Transfer-Encoding: CHUNKED\r\n", CHUNKED],
  "two codings": ["transfer-encoding: gzip, chunked\r\n", CHUNKED],
  "an unknown coding": ["transfer-encoding: xchunked\r\n", CHUNKED],
  "a coding behind chunked": ["transfer-encoding: chunked, identity\r\n", CHUNKED],
  "a folded coding": ["transfer-encoding:\r\n chunked\r\n", CHUNKED],
  "a folded field": [`x-fold: a\r\n content-length: 3\r\n${LENGTH}`, EVIL],
  trailers: [TE, `${EVIL.length.toString(16)}\r\n${EVIL}\r\n0\r\ncontent-length: 9\r\nhost: evil\r\n\r\n`],
  "a length behind more fields than Node keeps": [`${"a:\r\n".repeat(2_500)}${LENGTH}`, EVIL],
  "a coding behind more fields than Node keeps": [`${"a:\r\n".repeat(2_500)}${TE}`, CHUNKED],
});

/** The same under names that CGI and WSGI take for the fields'. */
const UNDERSCORED = /** @type {typeof FRAMINGS} */ ({
  "a length with an underscore": [`Content_Length: 3\r\n${LENGTH}`, EVIL],
  "a length with an underscore alone": [`content_length: ${EVIL.length}\r\n`, EVIL],
  "a coding with an underscore": [`TRANSFER_ENCODING: chunked\r\n${LENGTH}`, EVIL],
});

const HOSTILE = [
  "",
  "Connection: content-length\r\n",
  "Connection: transfer-encoding\r\n",
  "Connection: close, Content-Length , transfer-encoding,host\r\n",
  "Connection: keep-alive\r\nConnection: CONTENT-LENGTH\r\nconnection:\ttransfer-encoding\t\r\n",
  "Connection: host, authorization, x-api-key, content-type\r\n",
  "Trailer: content-length, transfer-encoding\r\nTE: trailers, chunked;q=0.5\r\nConnection: te, trailer\r\n",
  "Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\nConnection: Upgrade, HTTP2-Settings, content-length\r\n",
  "Upgrade: websocket\r\nConnection: upgrade\r\n",
  "Expect: 100-continue\r\nConnection: expect, content-length\r\n",
  "Expect: 200-ok\r\nConnection: content-length\r\n",
  "Proxy-Connection: content-length\r\nKeep-Alive: timeout=5, content-length\r\nConnection: proxy-connection\r\n",
];

const VERSIONS = ["1.1", "1.0"];

describe("every framing and every hostile list leaves the next request whole", { concurrency: true }, () => {
  for (const method of METHODS) {
    test(method, async () => {
      const upstream = await strictUpstream();
      const at = await proxyTo([`/up=${upstream.url}`]);
      const agent = new Agent({ keepAlive: true });
      const host = `host: 127.0.0.1:${at.port}`;
      let turn = 0;
      try {
        for (const [name, [fields, body]] of Object.entries(FRAMINGS))
          for (const hostile of HOSTILE)
            for (const version of hostile === "Connection: content-length\r\n" ? VERSIONS : ["1.1"]) {
              turn += 1;
              const what = `${name}, ${JSON.stringify(hostile)}, HTTP/${version}`;
              const own = "authorization: Bearer own\r\nx-api-key: own\r\ncontent-type: text/own\r\n";
              const before = upstream.requests.length;
              const head = `${method} /up/attack/${turn} HTTP/${version}\r\n${host}\r\n${own}${hostile}${fields}\r\n`;
              await firstAnswer(at.port, head + body, 250);
              const victim = await get(`http://127.0.0.1:${at.port}/up/victim/${turn}`, {
                method: "POST",
                headers: { authorization: "Bearer secret", "content-length": 6 },
                body: "prompt",
                agent,
                onRequest: (request) =>
                  request.setTimeout(30_000, () => request.destroy(new Error(`no answer: ${what}`))),
              });
              assert.equal(victim.status, 200, what);
              assert.deepEqual(upstream.problems, [], what);
              const arrived = upstream.requests.slice(before);
              const [attack, ...others] = arrived.filter(({ target }) => target !== `/victim/${turn}`);
              assert.deepEqual(others, [], what);
              const [whole] = arrived.filter(({ target }) => target === `/victim/${turn}`);
              assert.equal(whole?.body, "prompt", what);
              assert.ok(
                whole?.fields.some(([, value]) => value === "Bearer secret"),
                what,
              );
              if (!attack) continue;
              assert.equal(attack.target, `/attack/${turn}`, what);
              assert.equal(attack.body, body === "" ? "" : EVIL, what);
              assert.deepEqual(
                ["host", "authorization", "x-api-key", "content-type"].map((name) =>
                  attack.fields.filter(([of]) => of === name).map(([, value]) => value),
                ),
                [[upstream.url.slice(7)], ["Bearer own"], ["Bearer own".slice(7)], ["text/own"]],
                what,
              );
            }
      } finally {
        agent.destroy();
        await at.close();
        upstream.close();
      }
    });
  }
});

describe("framing that is in doubt", () => {
  for (const name of [
    "both",
    "length twice",
    "two lengths",
    "a list of lengths",
    "a signed length",
    "chunked twice",
    "two codings",
    "an unknown coding",
    "a coding behind chunked",
    ...Object.keys(UNDERSCORED),
  ]) {
    test(`${name} is refused, and the connection ends`, async () => {
      const upstream = await strictUpstream();
      const at = await proxyTo([`/up=${upstream.url}`]);
      try {
        const [fields, body] = { ...FRAMINGS, ...UNDERSCORED }[name] ?? ["", ""];
        const next = `GET /up/next HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n`;
        const text = await all(
          at.port,
          `POST /up/x HTTP/1.1\r\nhost: 127.0.0.1\r\n${fields}\r\n${body}${next}`,
        );
        assert.match(text, /^HTTP\/1\.1 400 [^]*connection: close/i);
        assert.equal(text.match(/HTTP\/1\.1/g)?.length, 1);
        assert.deepEqual(upstream.requests, []);
      } finally {
        await at.close();
        upstream.close();
      }
    });
  }

  test("chunks from an HTTP/1.0 client are refused", async () => {
    const upstream = await strictUpstream();
    const at = await proxyTo([`/up=${upstream.url}`]);
    try {
      const text = await all(at.port, `POST /up/x HTTP/1.0\r\nhost: 127.0.0.1\r\n${TE}\r\n${CHUNKED}`);
      assert.match(text, /^HTTP\/1\.1 400 /);
      assert.deepEqual(upstream.requests, []);
    } finally {
      await at.close();
      upstream.close();
    }
  });

  test("a connection to an upstream that answered early is not reused", async () => {
    const answered = "HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\n\r\n";
    /** @type {Record<number, string>} */
    const seen = {};
    let count = 0;
    const server = createServer((socket) => {
      count += 1;
      const number = count;
      socket.on("error", () => {}).setEncoding("latin1");
      socket.on("data", (data) => {
        const isFirst = seen[number] === undefined;
        seen[number] = (seen[number] ?? "") + data;
        if (isFirst) socket.write(answered);
      });
    });
    await new Promise((resolve) => server.listen(0, "127.0.0.1", () => resolve(undefined)));
    const { port } = /** @type {import("node:net").AddressInfo} */ (server.address());
    const at = await proxyTo([`/up=http://127.0.0.1:${port}`]);
    const slow = connect(at.port, "127.0.0.1");
    slow.on("error", () => {}).resume();
    try {
      slow.write("POST /up/slow HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 10\r\n\r\nabc");
      for (let tries = 0; tries < 200 && count === 0; tries += 1) await pause(5);
      await pause(50);
      slow.write("defghij");
      await pause(50);
      const { status } = await get(`http://127.0.0.1:${at.port}/up/next`);
      assert.equal(status, 413);
      assert.equal(count, 2);
      assert.match(seen[2] ?? "", /^GET \/next HTTP/);
    } finally {
      slow.destroy();
      await at.close();
      server.close();
    }
  });

  test("a client that leaves within its body ends the upstream's connection", async () => {
    const upstream = await strictUpstream();
    const at = await proxyTo([`/up=${upstream.url}`]);
    try {
      for (const [fields, body] of [
        ["content-length: 400\r\n", "half"],
        ["transfer-encoding: chunked\r\n", "4\r\nhalf\r\n"],
      ])
        for (const method of ["GET", "POST"]) {
          const socket = connect(at.port, "127.0.0.1");
          socket
            .on("error", () => {})
            .write(`${method} /up/cut HTTP/1.1\r\nhost: 127.0.0.1\r\n${fields}\r\n${body}`);
          await pause(30);
          socket.destroy();
          await pause(10);
          assert.equal((await get(`http://127.0.0.1:${at.port}/up/next`)).status, 200);
        }
      assert.deepEqual([...new Set(upstream.requests.map(({ target }) => target))], ["/next"]);
      assert.deepEqual(upstream.problems, []);
    } finally {
      await at.close();
      upstream.close();
    }
  });

  test("pipelined requests are served one after another", async () => {
    const upstream = await strictUpstream(
      ({ target }) => `HTTP/1.1 200 OK\r\ncontent-length: ${target.length}\r\n\r\n${target}`,
    );
    const at = await proxyTo([`/up=${upstream.url}`]);
    try {
      const one = (/** @type {number} */ n) =>
        `GET /up/${n} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 1\r\n\r\n${n}`;
      const last = "GET /up/last HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n";
      const text = await all(at.port, `${one(1)}${one(2)}${one(3)}${last}`);
      assert.deepEqual(text.match(/\/(\d|last)$|\/\d(?=HTTP)/gm), ["/1", "/2", "/3", "/last"]);
      assert.deepEqual(
        upstream.requests.map(({ target, body }) => [target, body]),
        [
          ["/1", "1"],
          ["/2", "2"],
          ["/3", "3"],
          ["/last", ""],
        ],
      );
      assert.ok(upstream.requests.every(({ connection }) => connection === 1));
    } finally {
      await at.close();
      upstream.close();
    }
  });
});

/** The bytes of all answers until the connection ends. @param {number} port @param {string} bytes @returns {Promise<string>} */
function all(port, bytes) {
  return new Promise((resolve) => {
    let text = "";
    const socket = connect(port, "127.0.0.1", () => socket.write(bytes, "latin1"));
    socket.setTimeout(30_000, () => socket.destroy());
    socket
      .on("data", (data) => {
        text += data.toString("latin1");
      })
      .on("error", () => {})
      .on("close", () => resolve(text));
  });
}
