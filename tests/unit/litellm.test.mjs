// The endpoint for LiteLLM's logger: it answers 200 only when calls are accepted, and refuses everything else.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { request as httpRequest } from "node:http";
import { connect } from "node:net";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { until, within } from "./faulty-receiver.mjs";
import { get, pause } from "./upstream.mjs";

const DIST = fileURLToPath(new URL("../../dist/", import.meta.url));
const { LitellmEndpoint, MAX_BODY } = await import(`${DIST}serve.js`);
const { instantiate: makeInstance } = await import(`${DIST}base.js`);

const FIXTURES = fileURLToPath(new URL("../fixtures/litellm/", import.meta.url));
/** Logs of a real LiteLLM. @type {Record<string, string>} */
const LOGS = {
  json_array: readFileSync(`${FIXTURES}json_array.body`, "utf8"),
  ndjson: readFileSync(`${FIXTURES}ndjson.body`, "utf8"),
  single: readFileSync(`${FIXTURES}single.body`, "utf8"),
};

/** @param {{ token?: string, accept?: (calls: any[]) => Promise<void>, instantiate?: () => any, bounds?: object }} [options] */
async function open({ token, accept, instantiate = makeInstance, bounds } = {}) {
  /** @type {any[]} */
  const accepted = [];
  /** @type {string[]} */
  const said = [];
  const endpoint = new LitellmEndpoint({
    host: "127.0.0.1",
    port: 0,
    token,
    bounds,
    provider: "litellm",
    accept: accept ?? (async (/** @type {any[]} */ calls) => void accepted.push(...calls)),
    instantiate,
    log: {
      info: (/** @type {string} */ text) => said.push(text),
      warn: (/** @type {string} */ text) => said.push(text),
    },
    mono: () => performance.now(),
  });
  const { port } = await endpoint.listen();
  /** @param {string | Buffer | Buffer[]} body @param {any} [headers] @param {string} [method] */
  const post = async (body, headers = {}, method = "POST") => {
    const got = await get(`http://127.0.0.1:${port}/`, { method, headers, body });
    return { status: got.status, answer: JSON.parse(got.body.toString()) };
  };
  return { endpoint, port, accepted, said, post, close: () => endpoint.close(0) };
}

for (const [format, body] of Object.entries(LOGS)) {
  test(`takes a log in the format ${format}`, async () => {
    const { post, accepted, close } = await open();
    try {
      const { status, answer } = await post(body);
      const count = format === "single" ? 1 : 6;
      assert.deepEqual([status, answer], [200, { accepted: count, skipped: {} }]);
      const { started, ended, duration, request_id, ...call } = accepted[0];
      assert.deepEqual(call, {
        provider: "litellm",
        model: "mock-chat",
        response_model: "openai/mock-chat-1",
        input: 101,
        output: 21,
        cache_read: 601,
        cache_write: null,
        reasoning: null,
        cost: 0.0007983,
        response_id: "chatcmpl-00000001",
        status: null,
        outcome: "completed",
        ttft: null,
        usage_source: "reported",
      });
      assert.ok(ended - started - duration <= 1 && request_id.length === 36);
    } finally {
      await close();
    }
  });
}

test("answers when calls are accepted, and not before", async () => {
  const asked = Promise.withResolvers();
  const taken = Promise.withResolvers();
  const accept = () => {
    asked.resolve(undefined);
    return /** @type {Promise<any>} */ (taken.promise);
  };
  const { post, close } = await open({ accept });
  try {
    let answered = 0;
    const posted = post(LOGS.single ?? "").then(({ status }) => {
      answered = status;
    });
    await within(Promise.race([asked.promise, posted]), "the calls are accepted");
    // A moment, in which an early answer would arrive.
    await pause(50);
    assert.equal(answered, 0);
    taken.resolve(undefined);
    await posted;
    assert.equal(answered, 200);
  } finally {
    await close();
  }
});

test("a log that is not accepted is answered 503", async () => {
  const { post, endpoint, said, close } = await open({
    accept: () => Promise.reject(new Error("disk full")),
  });
  try {
    for (let count = 0; count < 3; count += 1) assert.equal((await post(LOGS.single ?? "")).status, 503);
    assert.equal(endpoint.counts.not_accepted, 3);
    assert.deepEqual(said, ["a log was not accepted: disk full"]);
  } finally {
    await close();
  }
});

test("a client that waits for 100 Continue gets it, unless the log is refused", async () => {
  const { port, accepted, close } = await open({ token: "right" });
  const body = LOGS.single ?? "";
  /** @param {string} token @returns {Promise<[word: boolean, status: number]>} */
  const expecting = (token) =>
    new Promise((resolve, reject) => {
      let word = false;
      const headers = {
        expect: "100-continue",
        authorization: `Bearer ${token}`,
        "content-length": Buffer.byteLength(body),
      };
      const request = httpRequest({ port, host: "127.0.0.1", method: "POST", headers }, (answer) => {
        answer.resume();
        resolve([word, answer.statusCode ?? 0]);
        request.destroy();
      });
      request
        .on("continue", () => {
          word = true;
          request.end(body);
        })
        .on("error", reject)
        .setTimeout(30_000, () => request.destroy(new Error("no word")))
        .flushHeaders();
    });
  try {
    assert.deepEqual(await expecting("right"), [true, 200]);
    assert.deepEqual(await expecting("wrong"), [false, 401]);
    assert.equal(accepted.length, 1);
  } finally {
    await close();
  }
});

describe("refuses", () => {
  test("a wrong token, and names the setting", async () => {
    const { post, accepted, said, close } = await open({ token: "right" });
    try {
      for (const headers of [{}, { authorization: "Bearer wrong" }, { authorization: "right" }])
        assert.equal((await post(LOGS.single ?? "", headers)).status, 401);
      assert.equal((await post(LOGS.single ?? "", { authorization: "bearer right" })).status, 200);
      assert.equal(accepted.length, 1);
      assert.equal(said.length, 1);
      assert.match(said[0] ?? "", /AGENTWATCH_LITELLM_TOKEN/);
      assert.doesNotMatch(said.join(), /right|Bearer w/);
    } finally {
      await close();
    }
  });

  test("guesses of the token: some at once, then a few a second", async () => {
    const { post, accepted, close } = await open({ token: "right" });
    const right = { authorization: "Bearer right" };
    try {
      for (let count = 0; count < 40; count += 1) assert.equal((await post("[]", right)).status, 200);
      const guesses = Array.from({ length: 60 }, async (_, index) => {
        const began = performance.now();
        const { status } = await post("[]", { authorization: `Bearer ${index}` });
        return [status, performance.now() - began];
      });
      const unjudged = (await post("[]", right)).status;
      assert.equal(unjudged, 503, "a right token behind too many is not told from them");
      const answers = await Promise.all(guesses);
      const judged = answers.filter(([status]) => status === 401).map(([, ms = 0]) => ms);
      // Twenty at once and sixteen that wait; on a busy machine the next turns come while others still arrive.
      assert.ok(judged.length >= 36 && judged.length <= 46, `${judged.length} were judged`);
      assert.equal(answers.filter(([status]) => status === 503).length, 60 - judged.length);
      const last = Math.max(...judged);
      assert.ok(last > 2_800 && last < 10_000, `${last} ms`);
      assert.equal((await post(LOGS.single ?? "", right)).status, 200);
      assert.equal(accepted.length, 1);
    } finally {
      await close();
    }
  });

  test("logs for which others that have not arrived leave no room", async () => {
    let read = 0;
    const instantiate = () => ({
      LogReader: class extends makeInstance().LogReader {
        /** @param {Uint8Array} bytes */
        feed(bytes) {
          read += bytes.length;
          return super.feed(bytes);
        }
      },
    });
    const bounds = { heldTogether: 3_000_000 };
    const { port, post, accepted, said, close } = await open({ bounds, instantiate });
    const half = connect(port, "127.0.0.1");
    try {
      half.on("error", () => {}).resume();
      half.write("POST / HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 3000000\r\n\r\n");
      half.write(Buffer.alloc(2_000_000, " "));
      await until(() => read === 2_000_000);
      const large = Buffer.concat([Buffer.alloc(2_000_000, " "), Buffer.from(LOGS.single ?? "")]);
      assert.equal((await post(large)).status, 503);
      assert.match(said.join(), /take all the room/);
      assert.equal((await post(LOGS.single ?? "")).status, 200);
      half.destroy();
      await until(async () => (await post(large)).status === 200);
      for (let count = 0; count < 2; count += 1) assert.equal((await post(large)).status, 200);
      assert.equal(accepted.length, 4);
    } finally {
      half.destroy();
      await close();
    }
  });

  test("100 MB, announced or not", async () => {
    const { post, accepted, endpoint, said, close } = await open();
    try {
      const block = Buffer.alloc(1024 * 1024, " ");
      const blocks = Array(100).fill(block);
      const before = process.memoryUsage.rss();
      assert.equal((await post(blocks, { "content-length": block.length * 100 })).status, 413);
      assert.equal((await post(blocks)).status, 413);
      assert.ok(process.memoryUsage.rss() - before < 150 * 1024 * 1024);
      assert.deepEqual([endpoint.counts.refused, accepted.length], [2, 0]);
      assert.match(said[0] ?? "", /16 MiB .* DEFAULT_BATCH_SIZE/);
    } finally {
      await close();
    }
  });

  test("bodies that are no log", async () => {
    const { post, accepted, endpoint, close } = await open();
    try {
      const whole = LOGS.json_array ?? "";
      for (const body of ["", "hello", whole.slice(0, -5), `${whole}]`, "{]"])
        assert.equal((await post(body)).status, 400);
      assert.equal((await post("{}", { "content-encoding": "gzip" })).status, 415);
      assert.equal((await post("", {}, "PUT")).status, 405);
      assert.deepEqual([accepted.length, endpoint.counts.unreadable, endpoint.counts.refused], [0, 5, 2]);
      assert.deepEqual((await post('[{"call_type":"aembedding"}]')).answer, {
        accepted: 0,
        skipped: { no_model_call: 1 },
      });
    } finally {
      await close();
    }
  });

  test("a client that sends a byte once in a while", { timeout: 30_000 }, async () => {
    const { port, post, close } = await open();
    try {
      const began = performance.now();
      const ended = new Promise((resolve) => {
        const socket = connect(port, "127.0.0.1", () => socket.write("POST / HTTP/1.1\r\n"));
        const drip = setInterval(() => socket.write("x"), 200);
        socket
          .on("error", () => {})
          .on("close", () => {
            clearInterval(drip);
            resolve(undefined);
          });
        socket.resume();
      });
      assert.equal((await post(LOGS.single ?? "")).status, 200);
      await ended;
      assert.ok(performance.now() - began < 15_000);
    } finally {
      await close();
    }
  });
});

test("a body just below the bound is read", async () => {
  const { post, accepted, close } = await open();
  try {
    const single = LOGS.single ?? "";
    const filler = JSON.stringify("é".repeat((MAX_BODY - single.length) / 2 - 100));
    const body = `[{"messages":${filler},${single.trim().slice(1)}]`;
    assert.equal((await post(body)).status, 200);
    assert.equal(accepted[0].response_id, "chatcmpl-00000001");
  } finally {
    await close();
  }
});

test("a trap costs one log, and the module is replaced", async () => {
  let made = 0;
  const instantiate = () => {
    made += 1;
    if (made > 1) return makeInstance();
    const feed = () => {
      throw new WebAssembly.RuntimeError("unreachable");
    };
    return {
      LogReader: class {
        feed = feed;
      },
    };
  };
  const { post, said, close } = await open({ instantiate });
  try {
    assert.equal((await post(LOGS.single ?? "")).status, 500);
    assert.equal((await post(LOGS.single ?? "")).status, 200);
    assert.equal(said.length, 1);
  } finally {
    await close();
  }
});
