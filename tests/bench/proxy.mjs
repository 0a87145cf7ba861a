#!/usr/bin/env node
// What the proxy adds to a stream: the time from an event's writing at the provider to its arrival at the client,
// directly and through the proxy, in turn, several times each. Prints medians and their spread; asserts nothing.
// Provider, proxy and client are processes of their own. `node tests/bench/proxy.mjs [seconds a run]`, after a build.
import { fork, spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { Agent, createServer, request } from "node:http";
import { cpus, tmpdir } from "node:os";
import { setTimeout as pause } from "node:timers/promises";
import { fileURLToPath } from "node:url";

const CLI = fileURLToPath(new URL("../../dist/cli.js", import.meta.url));
const PATH = "/v1/chat/completions";
const CHUNKS_PER_SECOND = 50;
const ROUNDS = 5;
/** Clock ticks of Linux a second, in which /proc tells CPU time. */
const TICKS = 100;

/** ms of a clock that all processes of a machine have in common. */
const now = () => Number(process.hrtime.bigint()) / 1e6;

/** Answers with so many events a second for so many seconds, as the request says. */
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

const agent = new Agent({ keepAlive: true });

/** One stream; pushes each event's time on its way. @param {string} origin @param {number} seconds @param {number[]} times */
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
const median = (values) => sorted(values)[values.length >> 1] ?? 0;
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

/** @param {string} direct @param {string} proxied @param {number} pid @param {number} streams @param {number} seconds */
async function compare(direct, proxied, pid, streams, seconds) {
  /** @type {Record<"p50" | "p99", { direct: number[], proxied: number[], added: number[] }>} */
  const all = {
    p50: { direct: [], proxied: [], added: [] },
    p99: { direct: [], proxied: [], added: [] },
  };
  let events = 0;
  let cpu = 0;
  for (let round = 0; round < ROUNDS; round += 1) {
    const without = await measure(direct, streams, seconds);
    const before = cpuMs(pid);
    const through = await measure(proxied, streams, seconds);
    cpu += cpuMs(pid) - before;
    events += through.events;
    for (const name of /** @type {const} */ (["p50", "p99"])) {
      all[name].direct.push(without[name]);
      all[name].proxied.push(through[name]);
      all[name].added.push(through[name] - without[name]);
    }
  }
  console.log(
    `\n${streams} streams of ${CHUNKS_PER_SECOND} events/s, ${ROUNDS} rounds of ${seconds} s each way`,
  );
  for (const [name, { direct, proxied, added }] of Object.entries(all))
    console.log(`  ${name}: added ${shown(added)}; direct ${shown(direct)}, proxied ${shown(proxied)}`);
  console.log(`  CPU of the proxy: ${((cpu * 1000) / events).toFixed(0)} µs an event`);
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
  }
}

async function main() {
  const seconds = Number(process.argv[2] ?? 4);
  const provider = fork(fileURLToPath(import.meta.url), ["provide"]);
  const [port] = await once(provider, "message");
  const direct = `http://127.0.0.1:${port}`;
  const args = [CLI, "proxy", "--port", "0", "--upstream", `/up=${direct}`];
  const env = { PATH: process.env.PATH, HOME: tmpdir(), AGENTWATCH_URL: "http://127.0.0.1:9" };
  const proxy = spawn(process.execPath, args, { env, stdio: ["ignore", "ignore", "pipe"] });
  try {
    const [line] = await once(proxy.stderr.setEncoding("utf8"), "data");
    const proxied = `${/http:\S+?(?=:? )/.exec(String(line))?.[0].replace(/:$/, "")}/up`;
    const pid = proxy.pid ?? 0;
    console.log(`Node ${process.version}, ${cpus().length} × ${cpus()[0]?.model}`);
    await measure(proxied, 10, 1);
    for (const streams of [1, 100]) await compare(direct, proxied, pid, streams, seconds);
    console.log("");
    await memory(proxied, pid);
  } finally {
    proxy.kill("SIGTERM");
    provider.disconnect();
    agent.destroy();
  }
}

if (process.argv[2] === "provide") provide();
else await main();
