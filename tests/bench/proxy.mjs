#!/usr/bin/env node
// Delay that the proxy adds to a stream: the time from an event's writing at the provider to its arrival at the client,
// directly, through the proxy, and through a dozen lines of Node that only pipe, in turn, several times each. Prints
// medians and their spread; asserts nothing. Provider, proxies and client are processes of their own. `node tests/bench/proxy.mjs [seconds a run]`, after a build.
import { fork, spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { Agent, createServer, request } from "node:http";
import { cpus, tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { median, report } from "./lib/figures.mjs";
import { DIST } from "./lib/plugin.mjs";

const CLI = join(DIST, "cli.js");
const PATH = "/v1/chat/completions";
const CHUNKS_PER_SECOND = 50;
const ROUNDS = 5;
/** Clock ticks a second, the unit of CPU time in Linux's /proc. */
const TICKS = 100;

/** ms of a clock that all processes of a machine share. */
const now = () => Number(process.hrtime.bigint()) / 1e6;

/** A provider that streams events at the rate and for the time in the request. */
function provide() {
  const server = createServer((incoming, response) => {
    const seconds = Number(incoming.headers["x-seconds"]);
    incoming.resume();
    response.writeHead(200, { "content-type": "text/event-stream" });
    const head = { id: "chatcmpl-1", object: "chat.completion.chunk", created: 1, model: "m" };
    const event = (/** @type {object} */ more) => `data: ${JSON.stringify({ ...head, ...more })}\n\n`;
    let left = seconds * CHUNKS_PER_SECOND;
    const timer = setInterval(() => {
      const delta = { content: "a few words of text" };
      response.write(event({ sent: now(), choices: [{ index: 0, delta, finish_reason: null }] }));
      left -= 1;
      if (left > 0) return;
      clearInterval(timer);
      response.end(
        `${event({ choices: [], usage: { prompt_tokens: 30, completion_tokens: 5 } })}data: [DONE]\n\n`,
      );
    }, 1000 / CHUNKS_PER_SECOND);
    response.on("close", () => clearInterval(timer));
  });
  server.listen(0, "127.0.0.1", () => {
    process.send?.(/** @type {import("node:net").AddressInfo} */ (server.address()).port);
  });
  process.on("disconnect", () => process.exit());
}

/** A minimal proxy on Node's own HTTP, as the lower bound. @param {number} port */
function pipeOnly(port) {
  const kept = new Agent({ keepAlive: true });
  const server = createServer((incoming, response) => {
    const { method, headers, url = "" } = incoming;
    const path = url.replace("/up", "");
    const options = { host: "127.0.0.1", port, method, headers, path, agent: kept };
    const outgoing = request(options, (answer) => {
      response.writeHead(answer.statusCode ?? 0, answer.headers);
      answer.pipe(response);
    });
    incoming.pipe(outgoing);
  });
  server.listen(0, "127.0.0.1", () => {
    process.send?.(/** @type {import("node:net").AddressInfo} */ (server.address()).port);
  });
  process.on("disconnect", () => process.exit());
}

const agent = new Agent({ keepAlive: true });

/** Reads one stream and records each event's delay. @param {string} origin @param {number} seconds @param {number[]} times */
function stream(origin, seconds, times) {
  return new Promise((resolve, reject) => {
    const headers = { "content-type": "application/json", "x-seconds": seconds };
    const asked = request(`${origin}${PATH}`, { method: "POST", headers, agent }, (answer) => {
      answer.on("data", (bytes) => {
        const at = now();
        for (const [, sent] of String(bytes).matchAll(/"sent":([\d.]+)/g)) times.push(at - Number(sent));
      });
      answer.on("end", resolve).on("error", reject);
    });
    asked.on("error", reject).end('{"model":"m","stream":true,"messages":[]}');
  });
}

/** @param {string} origin @param {number} streams @param {number} seconds */
async function measure(origin, streams, seconds) {
  /** @type {number[]} */
  const times = [];
  const running = [];
  for (let count = 0; count < streams; count += 1) {
    running.push(stream(origin, seconds, times));
    await pause(1000 / CHUNKS_PER_SECOND / streams);
  }
  await Promise.all(running);
  times.sort((a, b) => a - b);
  const at = (/** @type {number} */ share) =>
    times[Math.min(times.length - 1, Math.floor(times.length * share))] ?? 0;
  return { p50: at(0.5), p99: at(0.99), events: times.length };
}

/** @param {number[]} values */
const sorted = (values) => [...values].sort((a, b) => a - b);
/** @param {number[]} values */
const shown = (values) =>
  `${median(values).toFixed(2)} ms (${sorted(values)[0]?.toFixed(2)} to ${sorted(values).at(-1)?.toFixed(2)})`;

/** @param {number} pid */
function cpuMs(pid) {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1]?.split(" ") ?? [];
  return ((Number(fields[11]) + Number(fields[12])) * 1000) / TICKS;
}

/** @param {number} pid */
function rssKb(pid) {
  return Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]);
}

/** @type {import("./lib/figures.mjs").Figures} */
const figures = {};

/**
 * @typedef {{ name: string, origin: string, pid: number | undefined }} Way
 *
 * @param {Way[]} ways The others are compared with the first.
 * @param {number} streams @param {number} seconds
 */
async function compare(ways, streams, seconds) {
  const all = ways.map((way) => ({
    way,
    p50: /** @type {number[]} */ ([]),
    p99: /** @type {number[]} */ ([]),
    cpu: 0,
    events: 0,
  }));
  for (let round = 0; round < ROUNDS; round += 1) {
    for (const sum of all) {
      const { origin, pid } = sum.way;
      const before = pid ? cpuMs(pid) : 0;
      const { p50, p99, events } = await measure(origin, streams, seconds);
      sum.p50.push(p50);
      sum.p99.push(p99);
      sum.events += events;
      sum.cpu += pid ? cpuMs(pid) - before : 0;
    }
  }
  console.log(
    `\n${streams} streams of ${CHUNKS_PER_SECOND} events/s, ${ROUNDS} rounds of ${seconds} s each way`,
  );
  const [direct] = all;
  for (const { way, p50, p99, cpu, events } of all) {
    console.log(`  ${way.name.padEnd(10)} p50 ${shown(p50)}, p99 ${shown(p99)}`);
    if (!way.pid || !direct) continue;
    const added = (/** @type {number[]} */ with_, /** @type {number[]} */ without) =>
      shown(with_.map((ms, round) => ms - (without[round] ?? 0)));
    console.log(`    added    p50 ${added(p50, direct.p50)}, p99 ${added(p99, direct.p99)}`);
    console.log(`    CPU      ${((cpu * 1000) / events).toFixed(0)} µs an event`);
    const of = `${streams} stream${streams > 1 ? "s" : ""}${way.name === "proxy" ? "" : `, ${way.name}`}`;
    const apart = (/** @type {number[]} */ with_, /** @type {number[]} */ without) =>
      median(with_.map((ms, round) => ms - (without[round] ?? 0)));
    figures[`${of}, added p50`] = [apart(p50, direct.p50), "ms"];
    figures[`${of}, added p99`] = [apart(p99, direct.p99), "ms"];
    figures[`${of}, CPU an event`] = [(cpu * 1000) / events, "µs"];
  }
}

/** @param {string} proxied @param {number} pid */
async function memory(proxied, pid) {
  const idle = rssKb(pid);
  for (const streams of [100, 500]) {
    const running = measure(proxied, streams, 6);
    await pause(4_000);
    const busy = rssKb(pid);
    await running;
    console.log(
      `${streams} streams open: ${(busy / 1024).toFixed(0)} MB (idle ${(idle / 1024).toFixed(0)} MB), ${((busy - idle) / streams).toFixed(0)} KB a stream`,
    );
    figures[`memory a stream, ${streams} open`] = [(busy - idle) / streams, "KB"];
  }
}

async function main() {
  const seconds = Number(process.argv[2] ?? 4);
  const provider = fork(fileURLToPath(import.meta.url), ["provide"]);
  const [port] = await once(provider, "message");
  const direct = `http://127.0.0.1:${port}`;
  const piping = fork(fileURLToPath(import.meta.url), ["pipe", String(port)]);
  const [pipePort] = await once(piping, "message");
  const args = [CLI, "proxy", "--port", "0", "--upstream", `/up=${direct}`];
  const env = { PATH: process.env.PATH, HOME: tmpdir(), AGENTWATCH_URL: "http://127.0.0.1:9" };
  const proxy = spawn(process.execPath, args, { env, stdio: ["ignore", "ignore", "pipe"] });
  try {
    const [line] = await once(proxy.stderr.setEncoding("utf8"), "data");
    const proxied = `${/http:\S+?(?=:? )/.exec(String(line))?.[0].replace(/:$/, "")}/up`;
    const pid = proxy.pid ?? 0;
    console.log(`Node ${process.version}, ${cpus().length} × ${cpus()[0]?.model}`);
    await measure(proxied, 10, 1);
    const ways = [
      { name: "direct", origin: direct, pid: undefined },
      { name: "pipe only", origin: `http://127.0.0.1:${pipePort}/up`, pid: piping.pid },
      { name: "proxy", origin: proxied, pid },
    ];
    for (const streams of [1, 100]) await compare(ways, streams, seconds);
    console.log("");
    await memory(proxied, pid);
    console.log("");
    report(figures);
  } finally {
    proxy.kill("SIGTERM");
    provider.disconnect();
    piping.disconnect();
    agent.destroy();
  }
}

if (process.argv[2] === "provide") provide();
else if (process.argv[2] === "pipe") pipeOnly(Number(process.argv[3]));
else await main();
