// The proxy passes every byte as it came, at the pace of the slower side, and tells what calls used.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { Agent, createServer, request as httpRequest } from "node:http";
import { connect, createServer as createTcpServer } from "node:net";
import { describe, test } from "node:test";
import * as zlib from "node:zlib";
import { asking, chat, get, pause, portOf, proxyTo, world } from "./upstream.mjs";

const CHAT = "/v1/chat/completions";
const MB = 1024 * 1024;

/** @param {string[]} raw */
const pairsOf = (raw) =>
  raw.flatMap((name, index) => (index % 2 ? [] : [`${name.toLowerCase()}: ${raw[index + 1]}`]));
/** Fields of one connection. */
const OWN = /^(connection|keep-alive|transfer-encoding):/;

/** @param {Buffer | string} bytes */
const sha = (bytes) => createHash("sha256").update(bytes).digest("hex");

describe("bytes", () => {
  /** What is asked for both ways, and must be the same. @type {Record<string, import("node:http").RequestListener>} */
  const answers = {
    plain: (_, response) =>
      response.writeHead(200, "Fine", { "content-length": 5, "X-Case": "a" }).end("hello"),
    chunked: (_, response) => {
      response.writeHead(200, ["Set-Cookie", "a=1", "Set-Cookie", "b=2", "X-Latin", "\xe9"]);
      for (const part of ["one", "two", "three"]) response.write(part);
      response.end();
    },
    trailers: (request, response) => {
      if (request.method === "HEAD") return void response.end();
      response.writeHead(200, { trailer: "x-sum", "content-type": "text/plain" });
      response.write("body");
      response.addTrailers({ "x-sum": "7" });
      response.end();
    },
    empty: (_, response) => response.writeHead(200, { "content-length": 0 }).end(),
    none: (_, response) => response.writeHead(204).end(),
    unchanged: (_, response) => response.writeHead(304, { etag: '"a"' }).end(),
    moved: (_, response) => response.writeHead(302, { location: "/elsewhere" }).end("moved"),
    failed: (_, response) =>
      response.writeHead(529, "Overloaded", { "retry-after": "3" }).end('{"error":{}}'),
    gzip: (_, response) =>
      response.writeHead(200, { "content-encoding": "gzip" }).end(zlib.gzipSync("a".repeat(99_999))),
    untilClose: (_, response) => {
      response.useChunkedEncodingByDefault = false;
      response.shouldKeepAlive = false;
      response.writeHead(200).end("until close");
    },
  };
  for (const [name, answer] of Object.entries(answers)) {
    for (const method of ["GET", "HEAD", "POST"]) {
      test(`${method} ${name}`, async () => {
        const at = await world(answer);
        try {
          const body = method === "POST" ? "body" : undefined;
          const ways = await Promise.all(
            [at.direct, at.url].map((url) => get(`${url}/x?a=%2F&b`, { method, body })),
          );
          const [direct, passed] = ways.map((got) => ({
            ...got,
            rawHeaders: pairsOf(got.rawHeaders).filter(
              (field) => !OWN.test(field) && !field.startsWith("date:"),
            ),
            headers: undefined,
          }));
          assert.deepEqual(passed, direct);
        } finally {
          await at.close();
        }
      });
    }
  }

  test("the upstream gets the request as the client sent it", async () => {
    /** @type {any[]} */
    const seen = [];
    const at = await world(
      async (request, response) => {
        const chunks = [];
        for await (const chunk of request) chunks.push(chunk);
        const { method, url, rawHeaders, rawTrailers } = request;
        seen.push({
          method,
          url,
          fields: pairsOf(rawHeaders),
          trailers: rawTrailers,
          body: sha(Buffer.concat(chunks)),
        });
        response.end();
      },
      { path: "/base" },
    );
    const body = Buffer.alloc(300_000, "é");
    try {
      await get(`${at.url}/v1/x?q=1&q=%20`, {
        method: "PUT",
        headers: {
          "X-Api-Key": "k",
          "Content-Length": body.length,
          Connection: "x-mine, close",
          "X-Mine": "1",
        },
        body,
      });
      await get(`${at.url}`, { method: "POST", headers: { te: "trailers" }, body: [body] });
      await get(`${at.url}/`, { method: "DELETE" });
      await get(`${at.url}/empty`, { method: "POST", headers: { "content-length": "0" } });
      assert.deepEqual(
        seen.map(({ method, url }) => `${method} ${url}`),
        ["PUT /base/v1/x?q=1&q=%20", "POST /base", "DELETE /base/", "POST /base/empty"],
      );
      assert.deepEqual([seen[0].body, seen[1].body], [sha(body), sha(body)]);
      const host = `host: ${at.direct.replace("http://", "")}`;
      assert.deepEqual(seen[0].fields, [
        host,
        "x-api-key: k",
        `content-length: ${body.length}`,
        "connection: keep-alive",
      ]);
      assert.ok(
        seen[1].fields.includes("transfer-encoding: chunked") && seen[1].fields.includes("te: trailers"),
      );
      assert.ok(
        !seen[2].fields.some((/** @type {string} */ field) =>
          /^(transfer-encoding|content-length)/.test(field),
        ),
      );
    } finally {
      await at.close();
    }
  });

  test("100 MB each way", async () => {
    const block = Buffer.from(Array.from({ length: MB }, (_, index) => (index * 7919) % 251));
    const expected = createHash("sha256");
    for (let count = 0; count < 100; count += 1) expected.update(block);
    const sum = expected.digest("hex");
    let arrived = "";
    const at = await world(async (request, response) => {
      const hash = createHash("sha256");
      for await (const chunk of request) hash.update(chunk);
      arrived = hash.digest("hex");
      response.writeHead(200, { "content-type": "application/json" });
      for (let count = 0; count < 100; count += 1)
        if (!response.write(block)) await new Promise((resolve) => response.once("drain", resolve));
      response.end();
    });
    try {
      const body = Array.from({ length: 100 }, () => block);
      const { hash } = await get(`${at.url}${CHAT}`, { method: "POST", body });
      assert.deepEqual([arrived, hash], [sum, sum]);
    } finally {
      await at.close();
    }
  });

  test("Expect: 100-continue, early hints, and an answer before the body", async () => {
    const at = await world(() => {});
    at.upstream.on("checkContinue", (request, response) => {
      if (request.url === "/no") return void response.writeHead(417).end("no");
      response.writeEarlyHints({ link: "</a.css>; rel=preload" });
      response.writeContinue();
      request.on("data", () => {}).on("end", () => response.end("taken"));
    });
    try {
      /** @type {number[]} */
      const informed = [];
      const { body } = await get(`${at.url}/yes`, {
        method: "POST",
        headers: { expect: "100-continue", "content-length": 4 },
        onRequest: (request) =>
          request.on("information", ({ statusCode }) => informed.push(statusCode)).flushHeaders(),
        body: "body",
      });
      assert.equal(body.toString(), "taken");
      assert.deepEqual(informed, [103, 100]);
      const refused = await new Promise((resolve, reject) => {
        const headers = { expect: "100-continue", "content-length": 4 };
        const request = httpRequest(`${at.url}/no`, { method: "POST", headers }, (answer) =>
          resolve(answer.resume()),
        );
        request.on("error", reject).flushHeaders();
      });
      assert.equal(refused.statusCode, 417);
      assert.equal(refused.headers.connection, "close");
    } finally {
      await at.close();
    }
  });
});

describe("calls", () => {
  const ENCODERS = /** @type {Record<string, (text: string) => Buffer>} */ ({
    identity: (text) => Buffer.from(text),
    gzip: zlib.gzipSync,
    deflate: zlib.deflateSync,
    br: zlib.brotliCompressSync,
    zstd: zlib.zstdCompressSync,
  });
  for (const [encoding, encode] of Object.entries(ENCODERS)) {
    test(`a stream in ${encoding} is read and passes as it is`, async () => {
      const bytes = encode(chat().join(""));
      const at = await world((request, response) => {
        request.resume();
        const encoded = encoding === "identity" ? {} : { "content-encoding": encoding };
        response.writeHead(200, { "content-type": "text/event-stream", "x-request-id": "req_1", ...encoded });
        // In pieces that have nothing to do with events.
        for (let index = 0; index < bytes.length; index += 23)
          response.write(bytes.subarray(index, index + 23));
        response.end();
      });
      try {
        const { hash } = await get(`${at.url}${CHAT}`, asking());
        assert.equal(hash, sha(bytes));
        const [call] = await at.told(1);
        const { started, ended, duration, ttfb, ttft, ...told } = call;
        assert.deepEqual(told, {
          provider: "up",
          model: "m",
          response_model: "m-2026",
          response_id: "chatcmpl-1",
          request_id: "req_1",
          status: 200,
          input: 30,
          output: 5,
          cache_read: null,
          cache_write: null,
          reasoning: null,
          cost: null,
          usage_source: "reported",
          outcome: "completed",
        });
        assert.ok(0 <= ttfb && ttfb <= ttft && ttft <= duration && started <= ended, JSON.stringify(call));
        assert.deepEqual(at.proxy.unread, {});
      } finally {
        await at.close();
      }
    });
  }

  test("what is no call of a model is passed and not told", async () => {
    const at = await world((_, response) => response.end("{}"));
    try {
      await get(`${at.url}/v1/models`);
      await get(`${at.url}/v1/embeddings`, { method: "POST", body: "{}" });
      await get(`${at.url}/v1/messages/count_tokens`, { method: "POST", body: "{}" });
      await pause(20);
      assert.deepEqual(at.calls, []);
    } finally {
      await at.close();
    }
  });

  test("an answer that cannot be read is passed, told as such and counted", async () => {
    const bytes = Buffer.from("this is no gzip");
    const at = await world((request, response) => {
      request.resume();
      response.writeHead(200, { "content-encoding": request.headers["x-encoding"] }).end(bytes);
    });
    try {
      for (const encoding of ["gzip", "sdch"]) {
        const { headers, ...rest } = asking();
        const { hash } = await get(`${at.url}${CHAT}`, {
          ...rest,
          headers: { ...headers, "x-encoding": encoding },
        });
        assert.equal(hash, sha(bytes));
      }
      for (const call of await at.told(2))
        assert.deepEqual([call.usage_source, call.outcome], ["broken", "completed"]);
      assert.deepEqual(at.proxy.unread, { undecodable: 1, unknown_encoding: 1 });
    } finally {
      await at.close();
    }
  });

  test("a module that traps costs a reading, not the stream, and not the next reading", async () => {
    const { instantiate: makeInstance } = await import("../../dist/base.js");
    let made = 0;
    const instantiate = () => {
      made += 1;
      const io = makeInstance();
      if (made > 1) return io;
      const trap = () => {
        throw new WebAssembly.RuntimeError("unreachable");
      };
      const AnswerReader = class {
        feed = trap;
        finish = trap;
        free = trap;
      };
      return { ...io, AnswerReader };
    };
    const at = await world((_, response) => response.end(chat().join("")), { instantiate });
    try {
      for (let count = 1; count <= 2; count += 1) {
        const { hash } = await get(`${at.url}${CHAT}`, asking());
        assert.equal(hash, sha(chat().join("")));
        await at.told(count);
      }
      assert.deepEqual(
        at.calls.map(({ model, usage_source }) => [model, usage_source]),
        [
          ["m", "broken"],
          ["m", "reported"],
        ],
      );
      assert.deepEqual(at.proxy.unread, { trap: 1 });
      assert.equal(made, 2);
    } finally {
      await at.close();
    }
  });

  test("usage is asked for where told to, with nothing else changed", async () => {
    /** @type {{ body: string, length: string | undefined }[]} */
    const seen = [];
    const at = await world(
      async (request, response) => {
        let body = "";
        for await (const chunk of request) body += chunk;
        seen.push({ body, length: request.headers["content-length"] });
        response.end(chat().join(""));
      },
      { options: ",usage=ask,provider=mock" },
    );
    try {
      await get(`${at.url}${CHAT}`, asking());
      const { body, headers, ...rest } = asking({ model: "é" });
      await get(`${at.url}${CHAT}`, { ...rest, headers, body: [Buffer.from(body)] });
      for (const path of ["/v1/messages", "/v1/responses"]) await get(`${at.url}${path}`, asking());
      await get(`${at.url}${CHAT}`, asking({ stream: false }));
      const wish = '"stream_options":{"include_usage":true},';
      const expected = [asking().body, body].map((text) => text.replace("{", `{${wish}`));
      const unchanged = [asking().body, asking().body, asking({ stream: false }).body];
      assert.deepEqual(
        seen.map(({ body }) => body),
        [...expected, ...unchanged],
      );
      for (const { body, length } of seen) if (length) assert.equal(Number(length), Buffer.byteLength(body));
      const calls = await at.told(5);
      assert.deepEqual(
        calls.slice(0, 2).map(({ provider, model }) => `${provider}/${model}`),
        ["mock/m", "mock/é"],
      );
    } finally {
      await at.close();
    }
  });

  test("a body too large to be held passes as it is", async () => {
    let arrived = "";
    const at = await world(
      async (request, response) => {
        const hash = createHash("sha256");
        for await (const chunk of request) hash.update(chunk);
        arrived = hash.digest("hex");
        response.end(chat().join(""));
      },
      { options: ",usage=ask" },
    );
    try {
      const body = Buffer.from(JSON.stringify({ stream: true, messages: ["é".repeat(20 * MB)] }));
      await get(`${at.url}${CHAT}`, { ...asking(), body });
      assert.equal(arrived, sha(body));
      assert.equal(at.proxy.counts.asked_too_large, 1);
    } finally {
      await at.close();
    }
  });
});

describe("ends", () => {
  test("a client that leaves is known to the upstream at once", async () => {
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
      assert.equal(await left, false);
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
        request.on("error", () => {}).write(body);
        await pause(50);
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

  test("a stream that breaks off upstream breaks off at the client", async () => {
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

  test("what cannot be reached is a 502 that says why and what to look at", async () => {
    const silent = createTcpServer((socket) => socket.destroy());
    await new Promise((resolve) => silent.listen(0, "127.0.0.1", () => resolve(undefined)));
    const free = createServer();
    await new Promise((resolve) => free.listen(0, "127.0.0.1", () => resolve(undefined)));
    const port = portOf(free);
    await new Promise((resolve) => free.close(resolve));
    const at = await proxyTo([
      `/refused=http://127.0.0.1:${port}`,
      `/silent=http://127.0.0.1:${portOf(silent)}`,
      "/nowhere=https://nowhere.invalid/v1",
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
        assert.ok(new RegExp(why).test(message) && message.includes(`--upstream /${name}=`), message);
      }
      for (const { outcome, status } of await at.told(4))
        assert.deepEqual([outcome, status], ["failed", null]);
      assert.equal(at.said.length, 4);
    } finally {
      await at.close();
      silent.close();
    }
  });

  test("an upstream that talks nonsense harms nobody", async () => {
    const nonsense = [
      "",
      "hello\r\n\r\n",
      "HTTP/1.1 099 Low\r\ncontent-length: 0\r\n\r\n",
      "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n",
      "HTTP/1.1 103 Hints\r\nlink: nonsense\r\n\r\n",
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

  test("what is no upstream's path is refused", async () => {
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

  test("an upstream that refuses a body before it has come is heard", async () => {
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
  test("a slow client slows the upstream down, and memory stays", async () => {
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
          // What all buffers on the way may hold, the kernel's included.
          assert.ok(sent < 40, `${sent} MB were sent to a client that reads nothing`);
          assert.ok(process.memoryUsage.rss() - before < 100 * MB);
          request.destroy();
          resolve(undefined);
        });
        request.on("error", reject).end();
      });
    } finally {
      await at.close();
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

  test("each piece is passed when it comes", { timeout: 60_000 }, async () => {
    const events = chat({ texts: ["a", "b", "c", "d"] });
    let came = () => {};
    // Nothing goes on before the client has the piece before, so what were held back would be held back for ever.
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

  test("100 streams at once on kept connections", async () => {
    let connections = 0;
    const at = await world(async (request, response) => {
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
    at.upstream.on("connection", () => {
      connections += 1;
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
      assert.ok(connections <= 100, `${connections} connections`);
    } finally {
      agent.destroy();
      await at.close();
    }
  });
});

test("no key and no text of a conversation is in anything that is told", async () => {
  const at = await world((request, response) => {
    request.resume();
    response.writeHead(request.url === CHAT ? 200 : 401, { "x-echo": "sk-secret-of-the-client" });
    response.end(chat({ texts: ["the answer's text"] }).join(""));
  });
  try {
    await get(`${at.url}${CHAT}?key=sk-secret-of-the-client`, asking({ messages: ["the question's text"] }));
    await get(`${at.url}/v1/messages`, asking());
    await get(`${at.origin}/sk-secret-of-the-client`, asking());
    at.upstream.closeAllConnections();
    await new Promise((resolve) => at.upstream.close(resolve));
    await get(`${at.url}${CHAT}?key=sk-secret-of-the-client`, asking());
    await at.told(3);
    const told = JSON.stringify([at.calls, at.said, at.proxy.counts, at.proxy.unread]);
    assert.doesNotMatch(told, /sk-secret|the answer|the question/);
  } finally {
    await at.close();
  }
});

describe("paths", () => {
  const DOTS = [
    "..",
    ".",
    "%2e%2e",
    "%2E.",
    ".%2e",
    "%252e%252e",
    "%25252e.",
    "%u002e%u002e",
    "%c0%ae%c0%ae",
  ];
  const WIDE = [
    "%ef%bc%8e%ef%bc%8e",
    "%e2%80%a5",
    "%e0%80%ae.",
    "%ff",
    "..%20",
    "%20..",
    "...",
    ".%20.",
    "..%09",
    "..%00",
  ];
  const CUT = ["..;", "..;a=b", "..%3b", "..%253bx", "..%3fx", "..%23", "%2e%2e%3bx"];
  const SLASHES = ["/", "%2f", "%2F", "\\", "%5c", "%255c", "%252f", "%ef%bc%8f", "%e2%88%95", "%u2215"];

  test("that leave their folder at an upstream that decodes them are refused", async () => {
    /** @type {(string | undefined)[]} */
    const reached = [];
    const at = await world(
      (request, response) => {
        reached.push(request.url);
        response.end();
      },
      { path: "/base" },
    );
    const open = await proxyTo([`/=${at.direct},provider=mock`]);
    try {
      for (const dots of [...DOTS, ...WIDE, ...CUT])
        for (const slash of SLASHES)
          for (const path of [
            `/x${slash}${dots}${slash}secret`,
            `/${dots}${slash}secret`,
            `/x${slash}${dots}`,
          ])
            for (const [port, prefix] of /** @type {[number, string][]} */ ([
              [at.port, "/up"],
              [open.port, ""],
            ])) {
              const answer = await raw(port, rawGet(prefix + path));
              assert.match(answer, /^HTTP\/1\.1 40[04] /, prefix + path);
            }
      assert.deepEqual(reached, []);
    } finally {
      await open.close();
      await at.close();
    }
  });

  test("that name another host, or hold what no path has, are refused", async () => {
    const at = await world((_, response) => response.end("reached"));
    const open = await proxyTo([`/=${at.direct},provider=mock`]);
    try {
      const hosts = [
        "//evil",
        "/\\evil",
        "/%2fevil",
        "/%5cevil",
        "/%255cevil",
        "\\\\evil",
        "http://evil/",
        "evil:80",
        "*",
      ];
      const others = [
        "/a%00b",
        "/a%0d%0ab",
        "/a%250ab",
        "/a%7f",
        "/a%c2%85",
        "/a#b",
        "/a\x80",
        `/%${"25".repeat(9)}2e`,
      ];
      for (const path of [...hosts, ...others])
        assert.doesNotMatch(await raw(open.port, rawGet(path)), /reached/, path);
      for (const path of ["//evil", "/%2fevil", "/\\evil"])
        assert.doesNotMatch(await raw(at.port, rawGet(`/up${path}`)), /reached/, path);
    } finally {
      await open.close();
      await at.close();
    }
  });

  test("of models with odd names pass as they are", async () => {
    const at = await world((request, response) => response.end(request.url));
    try {
      for (const path of [
        "/v1/models/org%2Fname:free",
        "/v1beta/models/gemini-1.5-pro:generateContent?alt=sse&key=..%2f..%2f",
        "/v1//chat/completions",
        "/a..b/.hidden/v1.0./x;y=1/100%25/a%20b/%E4%B8%AD%E6%96%87/@cf/m+n",
        "/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21&x=//evil",
      ])
        assert.ok((await raw(at.port, rawGet(`/up${path}`))).endsWith(`\r\n\r\n${path}`), path);
    } finally {
      await at.close();
    }
  });
});

test("cookies, which know no ports, stay here: they are other servers'", async () => {
  /** @type {string[][]} */
  const seen = [];
  const at = await world((request, response) => {
    request.resume();
    seen.push(pairsOf(request.rawHeaders));
    response.end();
  });
  try {
    const headers = {
      Cookie: ["agentwatch_session=secret", "other=1"],
      COOKIE2: "$Version=1",
      Connection: "x-kept-not",
      "x-kept": "1",
    };
    await get(`${at.url}/x`, { headers });
    await get(`${at.url}${CHAT}`, { ...asking(), headers });
    assert.doesNotMatch(seen.join(), /cookie|secret/i);
    assert.equal(seen.filter((fields) => fields.includes("x-kept: 1")).length, 2);
  } finally {
    await at.close();
  }
});

test("hints before an answer pass without what frames a message", async () => {
  const upstream = createTcpServer((socket) => {
    socket
      .on("error", () => {})
      .once("data", () => {
        const hint =
          "HTTP/1.1 103 Early Hints\r\nlink: </a>; rel=preload\r\nconnection: x-own\r\nx-own: 1\r\n";
        socket.write(
          `${hint}transfer-encoding: chunked\r\ncontent-length: 9\r\n\r\n`.replace(
            "content-length: 9\r\n",
            "",
          ),
        );
        socket.end("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
      });
  });
  await new Promise((resolve) => upstream.listen(0, "127.0.0.1", () => resolve(undefined)));
  const at = await proxyTo([`/up=http://127.0.0.1:${portOf(upstream)}`]);
  try {
    const answer = await raw(at.port, rawGet("/up/x"));
    const [hint = "", rest = ""] = answer.split("\r\n\r\n");
    assert.match(hint, /^HTTP\/1\.1 103 [^]*link: <\/a>/i);
    assert.doesNotMatch(hint, /transfer-encoding|x-own|connection/i);
    assert.match(rest, /^HTTP\/1\.1 200 OK/);
  } finally {
    await at.close();
    upstream.close();
  }
});

/** @param {string} target */
const rawGet = (target) => `GET ${target} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n`;

/** What a server answers to these very bytes. @param {number} port @param {string} bytes @returns {Promise<string>} */
function raw(port, bytes) {
  return new Promise((resolve, reject) => {
    let answer = "";
    const socket = connect(port, "127.0.0.1", () => socket.write(bytes, "latin1"));
    socket.setTimeout(3_000, () => socket.destroy(new Error("no answer")));
    socket.on("data", (data) => {
      answer += data;
    });
    socket.on("close", () => resolve(answer)).on("error", reject);
  });
}
