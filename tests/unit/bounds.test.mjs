// The proxy's bounds in number, size and time.
import assert from "node:assert/strict";
import { connect } from "node:net";
import { describe, test } from "node:test";
import { until } from "./faulty-receiver.mjs";
import { asking, chat, get, pause, world } from "./upstream.mjs";

const { Readers } = await import(new URL("../../dist/serve.js", import.meta.url).href);
const { MetricsServer } = await import(new URL("../../dist/serve.js", import.meta.url).href);
const { instantiate } = await import(new URL("../../dist/base.js", import.meta.url).href);

/** The bytes that a server sends until the connection ends. @param {number} port @param {string} bytes @param {number} [ms] @returns {Promise<string>} */
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

describe("bounds", () => {
  const SHORT = { headersMs: 300, requestMs: 600, idleMs: 300 };

  test("connections without a request, and bodies that stall, are closed", async () => {
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

  test("an answer that sends nothing for longer than the request bound passes", async () => {
    const at = await world(
      async (request, response) => {
        request.resume();
        await pause(800);
        response.writeHead(200).write("begin ");
        await pause(800);
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

  test("a client that reads nothing of its answer loses its place, and a slow one keeps it", async () => {
    const block = Buffer.alloc(1024 * 1024);
    const at = await world(
      async (request, response) => {
        response.on("error", () => {});
        if (request.url !== "/large") return void response.end("reached");
        for (let count = 0; count < 40 && !response.destroyed; count += 1)
          if (!response.write(block))
            await new Promise((resolve) => response.once("drain", resolve).once("close", resolve));
        response.end();
      },
      // Longer, since the second client is refused while the first has its place, and the slow one may be paused.
      { bounds: { ...SHORT, requestMs: 4_000, idleMs: 4_000, connections: 1 } },
    );
    const ask = (/** @type {string} */ path) =>
      `GET /up${path} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n`;
    try {
      const slow = connect(at.port, "127.0.0.1", () => slow.write(ask("/large")));
      let bytes = 0;
      const began = performance.now();
      for await (const data of slow) {
        bytes += data.length;
        if (performance.now() - began < 1_500) await pause(10);
      }
      assert.ok(bytes > 40 * block.length, `${bytes} bytes`);
      assert.ok(performance.now() - began > 900);
      const deaf = connect(at.port, "127.0.0.1", () => deaf.pause().write(ask("/large")));
      deaf.on("error", () => {});
      await pause(200);
      assert.equal(await raw(at.port, ask("/x")), "");
      await until(async () => /reached$/.test(await raw(at.port, ask("/x"))));
      deaf.destroy();
    } finally {
      await at.close();
    }
  });

  test("the same holds for /metrics", async () => {
    const text = () => "x".repeat(40 * 1024 * 1024);
    const more = { warn: () => {}, mono: () => performance.now() };
    const server = new MetricsServer({ port: 0, text, bounds: { connections: 1, idleMs: 4_000 }, ...more });
    const port = Number(new URL(await server.listen()).port);
    const ask = "GET /metrics HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n";
    const deaf = connect(port, "127.0.0.1", () => deaf.pause().write(ask));
    deaf.on("error", () => {});
    try {
      await pause(200);
      assert.equal(await raw(port, ask), "");
      const head = ask.replace("GET", "HEAD");
      await until(async () => /^HTTP\/1\.1 200 /.test(await raw(port, head)));
    } finally {
      deaf.destroy();
      await server.close(0);
    }
  });

  test("requests that wait for answers have a bound on a connection and on all together", async () => {
    const at = await world((_, response) => response.writeHead(200).flushHeaders());
    /** @type {import("node:net").Socket[]} */
    const sockets = [];
    const open = () => sockets.filter(({ destroyed }) => !destroyed).length;
    const ask = (host = "127.0.0.1") => `GET /up/x HTTP/1.1\r\nhost: ${host}\r\n\r\n`;
    const send = async (/** @type {string} */ bytes) => {
      const socket = connect(at.port, "127.0.0.1", () => socket.write(bytes));
      sockets.push(socket.on("error", () => {}).resume());
      await new Promise((resolve) => socket.once("data", resolve).once("close", resolve));
      await pause(20);
    };
    try {
      await send(ask() + ask().repeat(17));
      assert.equal(open(), 0);
      await send(ask() + ask("evil.example").repeat(17));
      assert.equal(open(), 0, "refused ones wait, too");
      for (let count = 0; count < 16; count += 1) await send(ask() + ask().repeat(16));
      assert.equal(open(), 16);
      await send(ask());
      assert.equal(open(), 17, "one request at a time needs no room");
      await send(ask() + ask());
      assert.equal(open(), 17);
      assert.ok(at.said.some((line) => line.includes("without waiting for answers")));
      sockets[2]?.destroy();
      // There is room again.
      await until(async () => {
        await send(ask() + ask());
        return open() === 17;
      });
    } finally {
      for (const socket of sockets) socket.destroy();
      await at.close();
    }
  });

  test("an upstream that sends nothing for too long is answered 502 with the reason", async () => {
    const at = await world(() => {}, { bounds: { silentMs: 300 } });
    try {
      const { status, body } = await get(`${at.url}/v1/x`);
      assert.equal(status, 502);
      assert.match(body.toString(), /no data for/);
    } finally {
      await at.close();
    }
  });

  test("connections above the bound are closed and logged, and there is room again afterwards", async () => {
    const at = await world((_, response) => response.end("reached"), { bounds: { connections: 3 } });
    const sockets = [1, 2, 3].map(() => connect(at.port, "127.0.0.1"));
    try {
      const host = "GET /up/x HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n";
      assert.equal(await raw(at.port, host), "");
      assert.ok(at.said.some((line) => line.includes("3 connections are open")));
      for (const socket of sockets) socket.destroy();
      await until(async () => /reached$/m.test(await raw(at.port, host)));
    } finally {
      for (const socket of sockets) socket.destroy();
      await at.close();
    }
  });

  test("held bodies have a common bound: a body above it passes unchanged", async () => {
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
      // The first client stops in its body, and half of the body is held.
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
      // The beginning of its body comes with its head.
      await until(() => at.proxy.counts.requests === 1);
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

  test("a client that leaves while its body is held is counted, and its memory is free again", async () => {
    const at = await world((_, response) => response.end(), {
      options: ",usage=ask",
      bounds: { heldTogether: 3_000 },
    });
    try {
      const head =
        "POST /up/v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n";
      for (let count = 1; count <= 3; count += 1) {
        const socket = connect(at.port, "127.0.0.1");
        socket.on("error", () => {}).write(`${head}content-length: 5000\r\n\r\n${" ".repeat(2_000)}`);
        await until(() => at.proxy.counts.requests === count);
        socket.destroy();
        const calls = await at.told(count);
        assert.equal(calls.length, count);
        assert.equal(calls.at(-1).outcome, "aborted");
      }
      assert.equal(at.proxy.counts.asked_no_room, 0);
    } finally {
      await at.close();
    }
  });

  test("a body in small pieces is changed in the same way at every cut", async () => {
    /** @type {string[]} */
    const bodies = [];
    const at = await world(
      async (request, response) => {
        let body = "";
        for await (const chunk of request) body += chunk;
        bodies.push(body);
        response.end(chat().join(""));
      },
      { options: ",usage=ask" },
    );
    try {
      const body = ` ${JSON.stringify({ model: "é", stream: true, stream_options: { a: 1 } })} `;
      const bytes = Buffer.from(body);
      for (let cut = 1; cut < bytes.length; cut += 1)
        await get(`${at.url}/v1/chat/completions`, {
          ...asking(),
          headers: { "content-type": "application/json", "transfer-encoding": "chunked" },
          body: [bytes.subarray(0, cut), bytes.subarray(cut)],
        });
      assert.equal(new Set(bodies).size, 1);
      assert.equal(JSON.parse(bodies[0] ?? "").stream_options.include_usage, true);
    } finally {
      await at.close();
    }
  });
});

test("requests that name their model last or never have a common bound", async () => {
  const readers = new Readers(instantiate);
  const begin = Buffer.from('{"messages":"');
  const filler = Buffer.alloc(2 ** 20, "x");
  const readings = Array.from({ length: 20 }, () => readers.open("POST", "/v1/chat/completions"));
  for (const reading of readings) {
    reading.request(begin);
    for (let mib = 0; mib < 7; mib += 1) reading.request(filler);
  }
  assert.ok(readers.heldBytes <= 64 * 2 ** 20, String(readers.heldBytes));
  for (const reading of readings) {
    reading.request(Buffer.from('","model":"m"}'));
    await reading.finish("whole");
  }
  assert.equal(readers.heldBytes, 0);
  assert.equal(readings[0]?.model, "m");
});
