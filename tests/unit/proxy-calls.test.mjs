// The proxy reads model calls beside the bytes that it forwards.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { connect } from "node:net";
import { describe, test } from "node:test";
import * as zlib from "node:zlib";
import { Decoded, withoutCredentials } from "../../dist/serve.js";
import { asking, chat, get, pause, world } from "./upstream.mjs";

const CHAT = "/v1/chat/completions";

const MB = 1024 * 1024;

/** @param {Buffer | string} bytes */
const sha = (bytes) => createHash("sha256").update(bytes).digest("hex");

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
        // In pieces that do not end where events end.
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
          agent: null,
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

  test("requests that are no model calls pass and are not reported", async () => {
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

  test("an answer that cannot be read passes, is reported as unread and counted", async () => {
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

  test("a trap costs one reading, but neither the stream nor the next reading", async () => {
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

  test("include_usage is added where configured, and nothing else changes", async () => {
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

  test("a body too large to be held passes unchanged", async () => {
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
      // Each of many small chunks takes memory, and going back into the request it takes no time of its own.
      const head = `POST /up${CHAT} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ntransfer-encoding: chunked`;
      const socket = connect(at.port, "127.0.0.1");
      socket.write(`${head}\r\n\r\n${"1\r\nx\r\n".repeat(300_000)}0\r\n\r\n`);
      assert.match(String((await once(socket, "data"))[0]), /^HTTP\/1.1 200 /);
      socket.destroy();
      assert.equal(arrived, sha(Buffer.from("x".repeat(300_000))));
      assert.equal(at.proxy.counts.asked_too_large, 2);
    } finally {
      await at.close();
    }
  });
});

test("compressed chunks that wait are bounded by the memory that they take", () => {
  const decoded = new Decoded("gzip", () => {});
  for (let number = 0; number < 40_000; number += 1) decoded.write(Buffer.of(0x1f));
  assert.equal(decoded.problem, "lagging");
});

test("an error of a forward proxy is told without the user and password of its address", () => {
  const said =
    "Failed to establish tunnel to api.test:443 via http://alice:s3cret@proxy.test:3128/: HTTP/1.1 407";
  const expected = "Failed to establish tunnel to api.test:443 via http://proxy.test:3128/: HTTP/1.1 407";
  assert.equal(withoutCredentials(said), expected);
  assert.equal(withoutCredentials("connect ECONNREFUSED 127.0.0.1:9"), "connect ECONNREFUSED 127.0.0.1:9");
});
