// Connections through the proxy: ends of either side, slow sides, many streams at once.
import assert from "node:assert/strict";
import { once } from "node:events";
import { Agent, createServer, request as httpRequest } from "node:http";
import { connect, createServer as createTcpServer } from "node:net";
import { describe, test } from "node:test";
import { within } from "./faulty-receiver.mjs";
import { asking, chat, get, pause, portOf, proxyTo, world } from "./upstream.mjs";

const CHAT = "/v1/chat/completions";

const MB = 1024 * 1024;

/** @param {string} target */
const rawGet = (target) => `GET ${target} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n`;

/** The answer of a server to exactly these bytes. @param {number} port @param {string} bytes @returns {Promise<string>} */
function raw(port, bytes) {
  return new Promise((resolve, reject) => {
    let answer = "";
    const socket = connect(port, "127.0.0.1", () => socket.write(bytes, "latin1"));
    socket.setTimeout(30_000, () => socket.destroy(new Error("no answer")));
    socket.on("data", (data) => {
      answer += data;
    });
    socket.on("close", () => resolve(answer)).on("error", reject);
  });
}

describe("ends", () => {
  test("the upstream's connection closes at once when the client leaves", async () => {
    /** @type {(value: unknown) => void} */
    let gone = () => {};
    const left = new Promise((resolve) => {
      gone = resolve;
    });
    const at = await world((request, response) => {
      request.resume();
      response.on("close", () => gone(response.writableFinished));
      response.write(chat()[0]);
    });
    try {
      const request = httpRequest(`${at.url}${CHAT}`, asking(), (answer) => {
        answer.once("data", () => request.destroy());
        answer.on("error", () => {});
      });
      request.on("error", () => {}).end(asking().body);
      assert.equal(await within(left, "the upstream's connection closes"), false);
      const [call] = await at.told(1);
      assert.deepEqual([call.outcome, call.usage_source, call.status], ["aborted", "missing", 200]);
      assert.equal(at.proxy.counts.left, 1);
    } finally {
      await at.close();
    }
  });

  test("a client that leaves before the answer, and one in the middle of its own request", async () => {
    let closed = 0;
    const at = await world((request) => {
      request.resume().on("close", () => {
        closed += 1;
      });
    });
    try {
      for (const [length, body] of [
        [4, "{}  "],
        [1000, "{"],
      ]) {
        const request = httpRequest(`${at.url}${CHAT}`, {
          method: "POST",
          headers: { "content-length": length },
        });
        const arrived = once(at.upstream, "request");
        request.on("error", () => {}).write(body);
        await within(arrived, "the request arrives");
        request.destroy();
      }
      const calls = await at.told(2);
      assert.deepEqual(
        calls.map(({ outcome, status }) => [outcome, status]),
        [
          ["aborted", null],
          ["aborted", null],
        ],
      );
      for (let tries = 0; closed < 2 && tries < 100; tries += 1) await pause(5);
      assert.equal(closed, 2);
    } finally {
      await at.close();
    }
  });

  test("a stream that breaks off at the upstream breaks off at the client", async () => {
    const at = await world((request, response) => {
      request.resume();
      response.writeHead(200, request.headers["x-length"] ? { "content-length": 10_000 } : {});
      response.write(chat()[0], () => response.destroy());
    });
    try {
      for (const headers of [{}, { "x-length": "1" }])
        await assert.rejects(
          get(`${at.url}${CHAT}`, { method: "POST", headers, body: '{"model":"m"}' }),
          /aborted|hang up|ECONNRESET/,
        );
      for (const { outcome, usage_source } of await at.told(2))
        assert.deepEqual([outcome, usage_source], ["failed", "missing"]);
      assert.equal(at.proxy.counts.cut, 2);
    } finally {
      await at.close();
    }
  });

  test("an unreachable upstream is a 502 with the reason and what to check", async () => {
    const silent = createTcpServer((socket) => socket.destroy());
    await new Promise((resolve) => silent.listen(0, "127.0.0.1", () => resolve(undefined)));
    const free = createServer();
    await new Promise((resolve) => free.listen(0, "127.0.0.1", () => resolve(undefined)));
    const port = portOf(free);
    await new Promise((resolve) => free.close(resolve));
    const at = await proxyTo([
      `/refused=http://127.0.0.1:${port}`,
      `/silent=http://127.0.0.1:${portOf(silent)}`,
      "/nowhere=https://nowhere.invalid/sk-secret/v1",
      `/plain=https://127.0.0.1:${portOf(silent)}`,
    ]);
    try {
      for (const [name, why] of [
        ["refused", "ECONNREFUSED"],
        ["silent", "E(CONNRESET|PIPE)"],
        ["nowhere", "nowhere.invalid"],
        ["plain", "E(CONNRESET|PIPE)"],
      ]) {
        const { status, body } = await get(`${at.origin}/${name}${CHAT}`, {
          ...asking(),
          body: Buffer.alloc(MB, " "),
        });
        const { message, code } = JSON.parse(body.toString()).error;
        assert.equal(status, 502, name);
        assert.equal(code, "upstream_unreachable");
        assert.ok(new RegExp(why).test(message) && message.includes(`--upstream /${name}=http`), message);
        assert.doesNotMatch(message, /sk-secret/);
      }
      for (const { outcome, status } of await at.told(4))
        assert.deepEqual([outcome, status], ["failed", null]);
      assert.equal(at.said.length, 4);
      assert.doesNotMatch(at.said.join(), /sk-secret/);
    } finally {
      await at.close();
      silent.close();
    }
  });

  test("invalid answers of an upstream end only their own request", async () => {
    const nonsense = [
      "",
      "hello\r\n\r\n",
      "HTTP/1.1 099 Low\r\ncontent-length: 0\r\n\r\n",
      "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n",
      "HTTP/1.1 103 Hints\r\nlink: nonsense\r\n\r\n",
      // Node's own check of it would take a day.
      `HTTP/1.1 103 Hints\r\nlink: </a>${";a=b=c".repeat(25)} "\r\n\r\n`,
      "HTTP/1.1 103 Hints\r\nlink: </a>\r\n__proto__: x\r\nconstructor: x\r\n\r\n",
      "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
      "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
      "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello",
      `HTTP/1.1 200 OK\r\nx: ${"y".repeat(200_000)}\r\n\r\n`,
      "HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 3\r\n\r\n\x1f\x8b\x08",
      "HTTP/1.0 200\r\n\r\ndata: {",
    ];
    let turn = 0;
    const upstream = createTcpServer((socket) => {
      socket
        .on("error", () => {})
        .once("data", () => {
          socket.end(nonsense[turn]);
          turn += 1;
        });
    });
    await new Promise((resolve) => upstream.listen(0, "127.0.0.1", () => resolve(undefined)));
    const at = await proxyTo([`/up=http://127.0.0.1:${portOf(upstream)}`]);
    try {
      for (const _ of nonsense) await get(`${at.origin}/up${CHAT}`, asking()).catch(() => {});
      assert.equal(turn, nonsense.length);
      const calls = await at.told(nonsense.length);
      assert.deepEqual(
        calls.filter(({ usage_source }) => usage_source === "reported"),
        [],
      );
      assert.equal((await get(`${at.origin}/other`)).status, 404);
    } finally {
      await at.close();
      upstream.close();
    }
  });

  test("names of Object.prototype are names like others", async () => {
    const hint = "HTTP/1.1 103 Hints\r\nlink: </a>\r\n__proto__: x\r\nconstructor: y\r\n\r\n";
    const upstream = createTcpServer((socket) => {
      socket
        .on("error", () => {})
        .once("data", (data) => {
          const [, coding] = /^GET \/(\w+)/.exec(data.toString()) ?? [];
          const fields = `content-encoding: ${coding}\r\n__proto__: x\r\ncontent-length: 2\r\n`;
          socket.end(`${hint}HTTP/1.1 200 OK\r\n${fields}\r\nok`);
        });
    });
    await new Promise((resolve) => upstream.listen(0, "127.0.0.1", () => resolve(undefined)));
    const at = await proxyTo([`/up=http://127.0.0.1:${portOf(upstream)}`]);
    try {
      for (const coding of ["__proto__", "constructor", "toString"]) {
        const answer = await raw(at.port, rawGet(`/up/${coding}/v1/responses/resp_1`));
        assert.match(
          answer,
          /^HTTP\/1\.1 103 [^]*__proto__: x\r\nconstructor: y\r\n\r\nHTTP\/1\.1 200 [^]*\r\n\r\nok$/,
        );
      }
    } finally {
      await at.close();
      upstream.close();
    }
  });

  test("a path of no upstream is refused", async () => {
    const at = await world((_, response) => response.end("reached"));
    try {
      for (const path of ["/", "/upx/v1", "/other/v1", "//up/x", "/%75p/x", "/up%2f..%2fother"]) {
        const answer = await raw(at.port, rawGet(path));
        assert.match(answer, /^HTTP\/1\.1 404 /, path);
        assert.match(answer, /no upstream has this path; there are \/up\./);
      }
      for (const target of [at.direct, "*"])
        assert.doesNotMatch(await raw(at.port, rawGet(`${target}/`)), /reached/);
      const tunnel = await raw(at.port, `CONNECT ${at.direct.slice(7)} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n`);
      assert.doesNotMatch(tunnel, /200/);
    } finally {
      await at.close();
    }
  });

  test("a stream that the end of the proxy cuts is reported before the end, and no further request is served", async () => {
    const at = await world((request, response) => {
      request.resume();
      response.write(chat()[0]);
    });
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    try {
      const begun = new Promise((resolve) => {
        const request = httpRequest(`${at.url}${CHAT}`, { ...asking(), agent }, (answer) => {
          answer.on("error", () => {}).once("data", resolve);
        });
        request.on("error", () => {}).end(asking().body);
      });
      await within(begun, "the stream begins");
      await at.proxy.close(100);
      assert.deepEqual(
        at.calls.map(({ outcome }) => outcome),
        ["aborted"],
      );
      await assert.rejects(get(`${at.url}${CHAT}`, { ...asking(), agent }));
    } finally {
      agent.destroy();
      await at.close();
    }
  });

  test("a client that sends everything before it reads gets an upstream's early refusal", async () => {
    // This upstream answers at once, and reads nothing of the body.
    const upstream = createTcpServer((socket) => {
      socket
        .on("error", () => {})
        .once("data", () => {
          socket.pause();
          socket.write("HTTP/1.1 413 Too Large\r\ncontent-length: 9\r\n\r\ntoo large");
        });
    });
    await new Promise((resolve) => upstream.listen(0, "127.0.0.1", () => resolve(undefined)));
    const at = await proxyTo([`/up=http://127.0.0.1:${portOf(upstream)}`]);
    const client = connect(at.port, "127.0.0.1");
    let answer = "";
    client.setEncoding("latin1").pause();
    client.setTimeout(120_000, () => client.destroy(new Error("nothing for two minutes")));
    try {
      const size = 24 * MB;
      client.write(`POST /up${CHAT} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: ${size}\r\n\r\n`);
      const written = new Promise((resolve) => client.write(Buffer.alloc(size, " "), resolve));
      await within(written, "the whole body is written");
      for await (const text of client) {
        answer += text;
        if (answer.endsWith("too large")) break;
      }
      assert.match(answer, /^HTTP\/1\.1 413 [^]*too large$/);
    } finally {
      client.destroy();
      await at.close();
      upstream.close();
    }
  });

  test("an upstream's refusal before the body has come reaches the client", async () => {
    const at = await world((_, response) => response.writeHead(413).end("too large"));
    try {
      const { status, body } = await get(`${at.url}${CHAT}`, {
        method: "POST",
        body: Array(40).fill(Buffer.alloc(MB)),
      });
      assert.deepEqual([status, body.toString()], [413, "too large"]);
    } finally {
      await at.close();
    }
  });
});

describe("pace", () => {
  test("a slow client slows the upstream down, and memory stays bounded", async () => {
    const block = Buffer.alloc(MB, "x");
    let sent = 0;
    const at = await world(async (_, response) => {
      response.on("error", () => {});
      for (let count = 0; count < 200 && !response.destroyed; count += 1) {
        sent += 1;
        if (!response.write(block))
          await new Promise((resolve) => response.once("drain", resolve).once("close", resolve));
      }
      response.end();
    });
    try {
      const before = process.memoryUsage.rss();
      await new Promise((resolve, reject) => {
        const request = httpRequest(`${at.url}${CHAT}`, { method: "POST" }, async (answer) => {
          answer.on("error", () => {});
          answer.pause();
          await pause(500);
          // The size of all buffers between, the kernel's included.
          assert.ok(sent < 40, `${sent} MB were sent to a client that reads nothing`);
          assert.ok(process.memoryUsage.rss() - before < 100 * MB);
          request.destroy();
          resolve(undefined);
        });
        request.setTimeout(120_000, () => request.destroy(new Error("no answer")));
        request.on("error", reject).end();
      });
    } finally {
      await at.close();
    }
  });

  test("hints without end are dropped where the client reads nothing", async () => {
    const hint = `HTTP/1.1 103 Hints\r\nlink: </${"x".repeat(8_000)}>; rel=preload\r\n\r\n`;
    let sent = 0;
    const upstream = createTcpServer((socket) => {
      socket
        .on("error", () => {})
        .once("data", async () => {
          for (; sent < 10_000; sent += 1)
            if (!socket.write(hint)) await new Promise((resolve) => socket.once("drain", resolve));
          socket.end("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
        });
    });
    await new Promise((resolve) => upstream.listen(0, "127.0.0.1", () => resolve(undefined)));
    const at = await proxyTo([`/up=http://127.0.0.1:${portOf(upstream)}`]);
    const socket = connect(at.port, "127.0.0.1").pause();
    socket.setTimeout(120_000, () => socket.destroy(new Error("nothing for two minutes")));
    try {
      socket.write(rawGet("/up/x"));
      for (let tries = 0; sent < 10_000 && tries < 1_000; tries += 1) await pause(10);
      let [bytes, end] = [0, ""];
      for await (const data of socket) {
        bytes += data.length;
        end = (end + data).slice(-100);
      }
      assert.match(end, /\r\n\r\nok$/);
      assert.ok(bytes < 40 * MB, `${bytes} of ${sent * hint.length} bytes`);
    } finally {
      socket.destroy();
      await at.close();
      upstream.close();
    }
  });

  test("a slow upstream slows the client down", async () => {
    const at = await world((request) => void request.pause());
    try {
      const request = httpRequest(`${at.url}/v1/upload`, { method: "POST" });
      request.on("error", () => {});
      let sent = 0;
      const block = Buffer.alloc(MB);
      while (sent < 200 && request.write(block)) sent += 1;
      for (let idle = 0; idle < 10 && sent < 200; idle += 1) {
        await Promise.race([new Promise((resolve) => request.once("drain", resolve)), pause(50)]);
        while (sent < 200 && !request.writableNeedDrain) {
          request.write(block);
          sent += 1;
          idle = 0;
        }
      }
      assert.ok(sent < 60, `${sent} MB were taken for an upstream that reads nothing`);
      request.destroy();
    } finally {
      await at.close();
    }
  });

  test("each piece is forwarded when it comes", { timeout: 60_000 }, async () => {
    const events = chat({ texts: ["a", "b", "c", "d"] });
    let came = () => {};
    // The upstream waits until the client has the piece before, so a piece that is held back is never forwarded.
    const next = () =>
      new Promise((resolve) => {
        came = () => resolve(undefined);
      });
    const at = await world(async (_, response) => {
      response.writeHead(200, { "content-type": "text/event-stream" });
      const started = next();
      response.flushHeaders();
      await started;
      for (const event of events) {
        await pause(30);
        const passed = next();
        response.write(event);
        await passed;
      }
      response.end();
    });
    try {
      const pieces = await new Promise((resolve, reject) => {
        const request = httpRequest(`${at.url}${CHAT}`, asking(), (answer) => {
          let pieces = 0;
          came();
          answer.on("data", () => {
            pieces += 1;
            came();
          });
          answer.on("end", () => resolve(pieces));
        });
        request.on("error", reject).end(asking().body);
      });
      assert.equal(pieces, events.length);
      const [call] = await at.told(1);
      assert.ok(call.ttfb >= 25 && call.ttft >= 25 && call.duration >= 150, JSON.stringify(call));
    } finally {
      await at.close();
    }
  });

  test("100 streams at once on persistent connections", async () => {
    /** When a connection was used last. @type {Map<import("node:net").Socket, number>} */
    const used = new Map();
    /** How long those that were closed had been idle, in ms. @type {number[]} */
    const idle = [];
    const at = await world(async (request, response) => {
      response.on("finish", () => used.set(request.socket, performance.now()));
      let body = "";
      for await (const chunk of request) body += chunk;
      const { prompt } = JSON.parse(body);
      response.writeHead(200, { "content-type": "text/event-stream" });
      for (const event of chat({ prompt, completion: prompt + 1, texts: Array(20).fill("text") })) {
        response.write(event);
        await pause(1);
      }
      response.end();
    });
    // The proxy alone closes idle connections. On a busy machine a connection may be idle for that long between two rounds.
    at.upstream.keepAliveTimeout = 0;
    at.upstream.on("connection", (socket) => {
      used.set(socket, performance.now());
      socket.on("close", () => idle.push(performance.now() - (used.get(socket) ?? 0)));
    });
    const agent = new Agent({ keepAlive: true });
    try {
      for (let round = 0; round < 3; round += 1) {
        const asked = Array.from({ length: 100 }, (_, index) => {
          const prompt = round * 100 + index + 1;
          return get(`${at.url}${CHAT}`, { ...asking({ prompt }), agent });
        });
        for (const { status } of await Promise.all(asked)) assert.equal(status, 200);
      }
      const calls = await at.told(300);
      const prompts = calls.map(({ input, output }) => [input, output]).sort(([a], [b]) => a - b);
      assert.deepEqual(
        prompts,
        Array.from({ length: 300 }, (_, index) => [index + 1, index + 2]),
      );
      assert.ok(used.size - idle.length <= 100, `${used.size} connections, ${idle.length} closed`);
      for (const ms of idle) assert.ok(ms >= 3_900, `closed after ${ms} ms`);
    } finally {
      agent.destroy();
      await at.close();
    }
  });
});
