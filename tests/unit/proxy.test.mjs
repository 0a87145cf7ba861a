// The proxy forwards every byte unchanged, refuses ambiguous paths, keeps cookies back, and logs no content.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { request as httpRequest } from "node:http";
import { connect, createServer as createTcpServer } from "node:net";
import { describe, test } from "node:test";
import * as zlib from "node:zlib";
import { asking, chat, get, portOf, proxyTo, world } from "./upstream.mjs";

const CHAT = "/v1/chat/completions";

const MB = 1024 * 1024;

/** @param {string[]} raw */
const pairsOf = (raw) =>
  raw.flatMap((name, index) => (index % 2 ? [] : [`${name.toLowerCase()}: ${raw[index + 1]}`]));

/** Fields of one connection, and cookies. */
const OWN = /^(connection|keep-alive|transfer-encoding|set-cookie):/;

/** @param {Buffer | string} bytes */
const sha = (bytes) => createHash("sha256").update(bytes).digest("hex");

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

describe("bytes", () => {
  /** Requests that are made directly and through the proxy; the answers must be equal. @type {Record<string, import("node:http").RequestListener>} */
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
        request.setTimeout(120_000, () => request.destroy(new Error("no answer")));
        request.on("error", reject).flushHeaders();
      });
      assert.equal(refused.statusCode, 417);
      assert.equal(refused.headers.connection, "close");
    } finally {
      await at.close();
    }
  });
});

test("no key and no text of a conversation is in logs or records", async () => {
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
    "..%e2%80%8b",
    "%e2%80%8b..",
    ".%c2%ad.",
  ];
  const CUT = [
    "..;",
    "..;a=b",
    "..%3b",
    "..%253bx",
    "..%3fx",
    "..%23",
    "%2e%2e%3bx",
    "..::$INDEX_ALLOCATION",
    "..~1",
  ];
  const SLASHES = ["/", "%2f", "%2F", "\\", "%5c", "%255c", "%252f", "%ef%bc%8f", "%e2%88%95", "%u2215"];
  /** Signs that Windows' code pages have at the place of a backslash. */
  const MONEY = ["%c2%a5", "%ef%bf%a5", "%e2%82%a9", "%ef%bf%a6"];

  test("that leave their folder when an upstream decodes them are refused", async () => {
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
        for (const slash of [...SLASHES, ...MONEY])
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

  test("of many dots take no time", async () => {
    const at = await world((_, response) => response.end("reached"));
    try {
      const began = performance.now();
      for (const end of ["a", "", " a".repeat(9)])
        await raw(at.port, rawGet(`/up/${".".repeat(60_000)}${encodeURIComponent(end)}`));
      assert.ok(performance.now() - began < 1_000, `${performance.now() - began} ms`);
    } finally {
      await at.close();
    }
  });

  test("that name another host or have invalid characters are refused", async () => {
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

  test("of models with unusual names pass unchanged", async () => {
    const at = await world((request, response) => response.end(request.url));
    try {
      for (const path of [
        "/v1/models/org%2Fname:free",
        "/v1beta/models/gemini-1.5-pro:generateContent?alt=sse&key=..%2f..%2f",
        "/v1//chat/completions",
        "/.well-known/..x/...y/v1./a..",
        "/a..b/.hidden/v1.0./x;y=1/100%25/a%20b/%E4%B8%AD%E6%96%87/@cf/m+n",
        "/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21&x=//evil",
      ])
        assert.ok((await raw(at.port, rawGet(`/up${path}`))).endsWith(`\r\n\r\n${path}`), path);
    } finally {
      await at.close();
    }
  });
});

test("cookies, which browsers send to every port of a host, are not forwarded", async () => {
  /** @type {string[][]} */
  const seen = [];
  const at = await world((request, response) => {
    request.resume();
    seen.push(pairsOf(request.rawHeaders));
    response
      .writeHead(200, { "Set-Cookie": ["agentwatch_session=planted", "b=2"], "set-cookie2": "c=3" })
      .end();
  });
  try {
    const headers = {
      Cookie: ["agentwatch_session=secret", "other=1"],
      COOKIE2: "$Version=1",
      Connection: "x-kept-not",
      "x-kept": "1",
    };
    for (const asked of [{ headers }, { ...asking(), headers }]) {
      const { status, rawHeaders } = await get(`${at.url}${CHAT}`, asked);
      assert.equal(status, 200);
      assert.doesNotMatch(rawHeaders.join(), /cookie|planted/i);
    }
    assert.doesNotMatch(seen.join(), /cookie|secret/i);
    assert.equal(seen.filter((fields) => fields.includes("x-kept: 1")).length, 2);
  } finally {
    await at.close();
  }
});

test("early hints pass without framing fields", async () => {
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
