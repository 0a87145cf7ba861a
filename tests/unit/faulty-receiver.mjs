// A receiver with the faults of servers and networks, and pipelines with a folder that send to it.
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { instantiate, priceTable } from "../../dist/base.js";
import { Pipeline } from "../../dist/pipeline.js";

/** A random generator, the same for the same seed. @param {number} seed */
export function random(seed) {
  let state = seed >>> 0 || 1;
  return (/** @type {number} */ below) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    state >>>= 0;
    return state % below;
  };
}

/** The faults; `well` is none. */
export const FAULTS = /** @type {const} */ ([
  "refuse",
  "hang",
  "half",
  "lose",
  "slow-down",
  "too-large",
  "token",
  "away",
  "garbage",
  "elsewhere",
  "slow",
  "well",
]);

/** Beside these an old receiver, which has no list of all records. @typedef {typeof FAULTS[number] | "no-batch"} Fault */

/**
 * A receiver that knows record ids, or a stock one, which stores costs, then usage, one by one. A second cost with the same id
 * is answered 500, and the records before it stay stored.
 */
export class FaultyReceiver {
  /** @type {Fault} */
  fault = "well";
  /** Number of stored records by prompt tokens, which identify the calls of a test. @type {Map<number, number>} */
  counted = new Map();
  /** Prompt tokens in the order of arrival. @type {number[]} */
  order = [];
  /** Stored usage records in the order of arrival. @type {any[]} */
  usage = [];
  /** @type {Set<string>} */
  costs = new Set();
  /** @type {Set<string>} */
  ids = new Set();
  /** Whether records are kept; off in tests of memory. */
  keepsRecords = true;
  /** Other records of accepted batches, by list. @type {Record<string, any[]>} */
  taken = {};
  /** Number of requests or connections with each fault. @type {Record<string, number>} */
  met = {};
  /** Prompt tokens of records whose batch is answered 422. @type {Set<number>} */
  poison = new Set();
  /** Number of requests at the target of a redirect. */
  elsewhere = 0;
  requests = 0;
  url = "";
  #server = createServer((request, response) => void this.#answer(request, response));
  /** @param {"ids" | "stock"} kind @param {(below: number) => number} below */
  constructor(kind, below) {
    this.kind = kind;
    this.below = below;
    this.#server.on("connection", (socket) => {
      if (this.fault !== "refuse") return;
      this.#meet("refuse");
      socket.destroy();
    });
  }

  /** @param {"ids" | "stock"} kind @param {(below: number) => number} [below] */
  static async open(kind, below = random(1)) {
    const faulty = new FaultyReceiver(kind, below);
    await new Promise((resolve) => faulty.#server.listen(0, "127.0.0.1", () => resolve(undefined)));
    const { port } = /** @type {import("node:net").AddressInfo} */ (faulty.#server.address());
    faulty.url = `http://127.0.0.1:${port}`;
    return faulty;
  }

  /** @param {string} fault */
  #meet(fault) {
    this.met[fault] = (this.met[fault] ?? 0) + 1;
  }

  /** @param {import("node:http").IncomingMessage} request @param {import("node:http").ServerResponse} response */
  async #answer(request, response) {
    const { fault } = this;
    const path = request.url ?? "";
    this.requests += 1;
    response.on("error", () => {});
    const chunks = [];
    try {
      for await (const chunk of request) chunks.push(chunk);
    } catch {
      return;
    }
    const body = Buffer.concat(chunks).toString();
    if (path.startsWith("/elsewhere")) this.elsewhere += 1;
    const say = (/** @type {number} */ status, /** @type {string} */ text, headers = {}) => {
      response.writeHead(status, { "content-type": "application/json", ...headers });
      response.end(text);
    };
    if (fault !== "well") this.#meet(fault);
    switch (fault) {
      case "refuse":
        return request.socket.destroy();
      case "hang":
        return;
      case "slow-down":
        return say(429, "{}", { "retry-after": "2" });
      case "token":
        return say(401, "{}");
      // A proxy while the receiver behind it starts.
      case "away":
        return say(404, "not found");
      case "garbage":
        return say(200, "<html>welcome</html>");
      case "elsewhere":
        return say(307, "", { location: `${this.url}/elsewhere` });
      case "too-large":
        if (body.length > 2_000) return say(413, "{}");
        break;
      default:
    }
    const [status, text] = this.#act(path, body, fault);
    if (fault === "lose") return request.socket.destroy();
    if (fault !== "slow") return say(status, text);
    response.writeHead(status, { "content-type": "application/json" });
    for (const letter of text.slice(0, 20)) {
      response.write(letter);
      await new Promise((resolve) => setTimeout(resolve, 2));
    }
    response.end(text.slice(20));
  }

  /** @param {string} path @param {string} body @param {Fault} fault @returns {[number, string]} */
  #act(path, body, fault) {
    if (path.endsWith("/capabilities"))
      return this.kind === "ids" ? [200, '{"features":["record_ids"]}'] : [404, "{}"];
    if (path.startsWith("/api/costs/usage"))
      return [200, JSON.stringify([...this.costs].map((id) => ({ id })))];
    if (path.endsWith("/batch") && fault === "no-batch") return [404, "{}"];
    if (!path.endsWith("/batch")) return [200, '{"status":"ok"}'];
    const { costs = [], model_usage: usage = [], ...lists } = JSON.parse(body);
    if (usage.some((/** @type {any} */ record) => this.poison.has(record.prompt_tokens))) return [422, "{}"];
    const breaks = fault === "half" && usage.length > 0;
    if (this.kind === "ids") {
      // It stores a whole batch or nothing.
      if (breaks) return [500, "{}"];
      for (const record of usage) {
        if (!this.ids.has(record.id)) this.#count(record);
        this.ids.add(record.id);
      }
      this.#keep(lists);
      return [200, '{"status":"ok"}'];
    }
    let left = breaks ? this.below(2 * costs.length) : Number.POSITIVE_INFINITY;
    for (const { id } of costs) {
      if (left-- <= 0 || this.costs.has(id)) return [500, "{}"];
      this.costs.add(id);
    }
    for (const record of usage) {
      if (left-- <= 0) return [500, "{}"];
      this.#count(record);
    }
    this.#keep(lists);
    return [200, '{"status":"ok"}'];
  }

  /** @param {Record<string, any[]>} lists */
  #keep(lists) {
    for (const [list, records] of Object.entries(lists))
      if (this.keepsRecords) this.taken[list] = [...(this.taken[list] ?? []), ...records];
  }

  /** @param {any} record */
  #count(record) {
    const { prompt_tokens: tokens } = record;
    if (this.keepsRecords) this.usage.push(record);
    this.counted.set(tokens, (this.counted.get(tokens) ?? 0) + 1);
    this.order.push(tokens);
  }

  /** Closes hanging connections. */
  release() {
    this.#server.closeAllConnections();
  }

  close() {
    this.#server.closeAllConnections();
    this.#server.close();
  }
}

/** A clock that may run faster than the real one, and whose wall clock may be set. */
export class Clock {
  #begun = performance.now();
  #wall = 1_795_000_000_000;
  #mono = 1_000;
  /** @param {number} rate */
  constructor(rate = 1) {
    this.rate = rate;
  }
  #passed() {
    return (performance.now() - this.#begun) * this.rate;
  }
  wall = () => Math.floor(this.#wall + this.#passed());
  mono = () => this.#mono + this.#passed();
  /** Sets the wall clock alone. @param {number} ms */
  jump(ms) {
    this.#wall += ms;
  }
  /** Lets time pass. @param {number} ms */
  pass(ms) {
    this.#wall += ms;
    this.#mono += ms;
  }
}

/** A pipeline on a folder, with its log. */
export class Run {
  /** @type {string[]} */
  log = [];
  /** @type {any} */
  #last;
  /** @param {string} folder @param {string} url @param {{ clock?: Clock, settings?: object, host?: object }} [more] */
  constructor(folder, url, { clock = new Clock(), settings = {}, host = {} } = {}) {
    this.clock = clock;
    this.folder = folder;
    const say = (/** @type {string} */ text) => void this.log.push(text);
    this.pipeline = new Pipeline(
      {
        instantiate,
        priceTable,
        log: { info: say, warn: say },
        wall: clock.wall,
        mono: clock.mono,
        folder,
        ...host,
      },
      { url, token: "top-secret", flushIntervalMs: 50, identityKey: "00".repeat(16), ...settings },
    );
  }

  /** Records a call by its message. @param {number} tokens prompt tokens */
  call(tokens) {
    const usage = { input: tokens, output: 1, cacheRead: 0, cacheWrite: 0, cost: { total: 0.25 } };
    const timestamp = this.clock.wall() - 50;
    const message = { role: "assistant", provider: "p", model: "m", stopReason: "stop", usage, timestamp };
    this.pipeline.accept("before_message_write", [
      { message },
      { agentId: "main", sessionKey: "agent:main:s" },
    ]);
  }

  get status() {
    return this.#last ?? /** @type {any} */ (this.pipeline.status());
  }

  /** Makes every call final and sends everything, in several attempts. @param {number} [ms] time limit */
  async settle(ms = 10_000) {
    const until = performance.now() + ms;
    do {
      await this.pipeline.stop(2_000);
      this.clock.pass(400_000);
    } while (Number(this.status.waiting) + Number(this.status.open) > 0 && performance.now() < until);
  }

  /** Stops and closes the pipeline, as a gateway does. @param {number} [ms] */
  async end(ms = 1_500) {
    await this.pipeline.stop(ms);
    // A closed pipeline has no status.
    this.#last ??= this.pipeline.status();
    await this.pipeline.close();
  }
}

/** Runs a function with a temporary folder. @param {(folder: string) => Promise<void>} use */
export async function inFolder(use) {
  const folder = mkdtempSync(join(tmpdir(), "agentwatch-faults-"));
  try {
    await use(folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** @param {number} ms */
export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Waits until a condition holds, at most `most` ms. @param {() => unknown} condition */
export async function until(condition, most = 30_000) {
  for (const end = performance.now() + most; ; await sleep(10)) {
    if (await condition()) return;
    if (performance.now() > end) throw new Error(`never: ${condition}`);
  }
}

/** What a promise brings; an error where that takes more than `most` ms. @template T @param {Promise<T>} promise @param {string} what @returns {Promise<T>} */
export async function within(promise, what, most = 120_000) {
  /** @type {NodeJS.Timeout | undefined} */
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`never: ${what}`)), most);
  });
  try {
    return await Promise.race([promise, /** @type {Promise<never>} */ (late)]);
  } finally {
    clearTimeout(timer);
  }
}

/** The calls of `1..count` that are not counted once, each with its count. @param {FaultyReceiver} faulty @param {number} count */
export function wrong(faulty, count) {
  const found = [];
  for (let tokens = 1; tokens <= count; tokens += 1)
    if (faulty.counted.get(tokens) !== 1) found.push([tokens, faulty.counted.get(tokens) ?? 0]);
  return found;
}
