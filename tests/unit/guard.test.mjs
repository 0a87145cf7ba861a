// Who may ask a server of ours: no web page, by whatever name or origin; and how much at once.
import assert from "node:assert/strict";
import { connect } from "node:net";
import { describe, test } from "node:test";
import { asking, chat, get, pause, proxyTo, world } from "./upstream.mjs";

const { LitellmEndpoint } = await import(new URL("../../dist/serve.js", import.meta.url).href);
const { instantiateIo } = await import(new URL("../../dist/base.js", import.meta.url).href);

/** Every answer until the connection ends. @param {number} port @param {string} bytes @param {number} [ms] @returns {Promise<string>} */
function raw(port, bytes, ms = 3_000) {
  return new Promise((resolve) => {
    let text = "";
    const socket = connect(port, "127.0.0.1", () => socket.write(bytes, "latin1"));
    socket.setTimeout(ms, () => socket.destroy());
    socket
      .on("data", (data) => {
        text += data;
      })
      .on("error", () => {})
      .on("close", () => resolve(text));
  });
}

/** The servers, each with how often what it protects was reached. */
const SERVERS = {
  proxy: async (/** @type {string[]} */ hosts) => {
    let reached = 0;
    const up = await world((_, response) => {
      reached += 1;
      response.end("reached");
    });
    const at = await proxyTo([`/up=${up.direct}`], instantiateIo, { hosts });
    const close = async () => {
      await at.close();
      await up.close();
    };
    return { port: at.port, path: "/up/v1/chat/completions", reached: () => reached, close };
  },
  litellm: async (/** @type {string[]} */ hosts) => {
    let reached = 0;
    const endpoint = new LitellmEndpoint({
      host: "127.0.0.1",
      port: 0,
      hosts,
      token: undefined,
      provider: "litellm",
      accept: async () => {
        reached += 1;
      },
      instantiateIo,
      log: { info: () => {}, warn: () => {} },
      mono: () => performance.now(),
    });
    const { port } = await endpoint.listen();
    return { port, path: "/", reached: () => reached, close: () => endpoint.close(0) };
  },
};

const GOOD = (/** @type {number} */ port) => [
  `Host: 127.0.0.1:${port}`,
  `Host: LOCALHOST:${port}`,
  `Host: [::1]:${port}`,
  "Host: 127.9.9.9",
  `Host: 127.0.0.1:${port}\r\nOrigin: http://127.0.0.1:${port}\r\nSec-Fetch-Site: same-origin`,
  `Host: localhost:${port}\r\nSec-Fetch-Site: none`,
  `Host: allowed.test:${port}`,
];
const BAD = (/** @type {number} */ port) => [
  `Host: localhost.evil.com:${port}`,
  `Host: 127.0.0.1.nip.io:${port}`,
  `Host: localhost.:${port}`,
  `Host: evil.com`,
  `Host: 0.0.0.0:${port}`,
  `Host: 192.168.1.1:${port}`,
  `Host: 2130706433:${port}`,
  `Host: 0x7f.1:${port}`,
  `Host: [::ffff:10.0.0.1]:${port}`,
  `Host: user@127.0.0.1:${port}`,
  `Host: 127.0.0.1:${port}\r\nHost: evil.com`,
  "Host:",
  "X-Host: none",
  `Host: 127.0.0.1:${port}\r\nOrigin: http://evil.com`,
  `Host: 127.0.0.1:${port}\r\nOrigin: null`,
  `Host: 127.0.0.1:${port}\r\nOrigin:`,
  `Host: 127.0.0.1:${port}\r\nOrigin: http://127.0.0.1:${port + 1}`,
  `Host: 127.0.0.1:${port}\r\nOrigin: http://localhost:${port}`,
  `Host: 127.0.0.1:${port}\r\nOrigin: https://127.0.0.1:${port}`,
  `Host: 127.0.0.1:${port}\r\nOrigin: http://127.0.0.1:${port}\r\nOrigin: http://evil.com`,
  `Host: 127.0.0.1:${port}\r\nSec-Fetch-Site: cross-site`,
  `Host: 127.0.0.1:${port}\r\nSec-Fetch-Site: same-site`,
  `Host: 127.0.0.1:${port}\r\nSec-Fetch-Site: none\r\nSec-Fetch-Site: cross-site`,
];

for (const [name, open] of Object.entries(SERVERS))
  describe(name, () => {
    test("a program of this machine and a configured name may ask", async () => {
      const server = await open(["allowed.test"]);
      try {
        for (const fields of GOOD(server.port)) {
          const before = server.reached();
          const head = `POST ${server.path} HTTP/1.1\r\n${fields}\r\nconnection: close\r\ncontent-length: 2\r\n\r\n`;
          assert.match(await raw(server.port, `${head}[]`), /^HTTP\/1.1 200 /, fields);
          assert.equal(server.reached(), before + 1, fields);
        }
      } finally {
        await server.close();
      }
    });

    test("a web page may not, nor who asks by another name", async () => {
      const server = await open(["allowed.test"]);
      try {
        for (const method of ["POST", "GET", "OPTIONS", "DELETE"])
          for (const fields of BAD(server.port)) {
            const head = `${method} ${server.path} HTTP/1.1\r\n${fields}\r\ncontent-length: 2\r\n\r\n`;
            const answer = await raw(server.port, `${head}[]`);
            assert.match(answer, /^HTTP\/1.1 40[03] /, fields);
            assert.doesNotMatch(answer, /access-control-allow/i);
          }
        const target = `POST http://127.0.0.1:${server.port}${server.path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 2\r\n\r\n[]`;
        assert.match(await raw(server.port, target), /^HTTP\/1.1 403 /);
        assert.equal(server.reached(), 0);
      } finally {
        await server.close();
      }
    });
  });

describe("bounds", () => {
  const SHORT = { headersMs: 300, requestMs: 600, idleMs: 300 };

  test("connections that say nothing, and bodies that stall, are closed", async () => {
    const at = await world((_, response) => response.end("reached"), { bounds: SHORT });
    try {
      const host = "host: 127.0.0.1\r\n";
      const slow = ["", "POST /up/x HT", `POST /up/x HTTP/1.1\r\n${host}`];
      const stalled = [`POST /up/x HTTP/1.1\r\n${host}content-length: 9\r\n\r\nhalf`];
      const idle = [`GET /up/x HTTP/1.1\r\n${host}\r\n`];
      await Promise.all(
        [...slow, ...stalled, ...idle].map(async (bytes) => {
          const begun = performance.now();
          await raw(at.port, bytes, 20_000);
          assert.ok(performance.now() - begun < 15_000, bytes);
        }),
      );
    } finally {
      await at.close();
    }
  });

  test("an answer that is silent for longer than that passes", async () => {
    const at = await world(
      async (request, response) => {
        request.resume();
        response.writeHead(200).write("begin ");
        await pause(1_500);
        response.end("end");
      },
      { bounds: SHORT },
    );
    try {
      const { body } = await get(`${at.url}/v1/x`, { method: "POST", body: "x" });
      assert.equal(body.toString(), "begin end");
    } finally {
      await at.close();
    }
  });

  test("an upstream that is silent for too long is told", async () => {
    const at = await world(() => {}, { bounds: { silentMs: 300 } });
    try {
      const { status, body } = await get(`${at.url}/v1/x`);
      assert.equal(status, 502);
      assert.match(body.toString(), /nothing came for/);
    } finally {
      await at.close();
    }
  });

  test("more connections than the most are closed unread, which is said, and there is room again behind them", async () => {
    const at = await world((_, response) => response.end("reached"), { bounds: { connections: 3 } });
    const sockets = [1, 2, 3].map(() => connect(at.port, "127.0.0.1"));
    try {
      await pause(100);
      const host = "GET /up/x HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n";
      assert.equal(await raw(at.port, host), "");
      assert.ok(at.said.some((line) => line.includes("3 already")));
      for (const socket of sockets) socket.destroy();
      await pause(100);
      assert.match(await raw(at.port, host), /reached$/m);
    } finally {
      for (const socket of sockets) socket.destroy();
      await at.close();
    }
  });

  test("bodies that are held to be changed have a bound together: one without room passes as it is", async () => {
    /** @type {string[]} */
    const bodies = [];
    let goOn = () => {};
    const held = new Promise((resolve) => {
      goOn = () => resolve(undefined);
    });
    const at = await world(
      async (request, response) => {
        let body = "";
        for await (const chunk of request) body += chunk;
        bodies.push(body);
        response.writeHead(200, { "content-type": "text/event-stream" }).end(chat().join(""));
      },
      { options: ",usage=ask", bounds: { heldTogether: 40_000 } },
    );
    try {
      const url = `${at.url}/v1/chat/completions`;
      const ask = asking({ messages: [{ role: "user", content: "x".repeat(30_000) }] });
      const half = ask.body.length / 2;
      // The first one stays within its body, and holds half of it.
      const first = get(url, {
        ...ask,
        body: "",
        headers: { ...ask.headers, "content-length": ask.body.length },
        onRequest: (request) => {
          const { end } = request;
          request.write(ask.body.slice(0, half));
          request.end = /** @type {any} */ (() => request);
          void held.then(() => end.call(request, ask.body.slice(half)));
        },
      });
      await pause(100);
      await get(url, ask);
      assert.doesNotMatch(bodies[0] ?? "", /include_usage/);
      assert.equal(at.proxy.counts.asked_no_room, 1);
      goOn();
      await first;
      assert.match(bodies[1] ?? "", /include_usage/);
      await get(url, ask);
      assert.match(bodies[2] ?? "", /include_usage/, "there is room again");
    } finally {
      await at.close();
    }
  });

  test("cookies of other servers of this machine stay here", async () => {
    /** @type {import("node:http").IncomingHttpHeaders[]} */
    const seen = [];
    const at = await world((request, response) => {
      seen.push(request.headers);
      response.end();
    });
    try {
      await get(`${at.url}/v1/x`, { headers: { cookie: "agentwatch=secret", Cookie2: "a", "x-kept": "1" } });
      assert.equal(seen[0]?.cookie, undefined);
      assert.equal(seen[0]?.cookie2, undefined);
      assert.equal(seen[0]?.["x-kept"], "1");
    } finally {
      await at.close();
    }
  });
});
