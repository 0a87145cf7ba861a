#!/usr/bin/env node
// Answers of the receiver to other clients while one client holds connections or guesses the token:
// node tests/bench/receiver-hostile.mjs [--binary target/release/agentwatch-receiver] [--connections 1100] [--wait 150]
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { request } from "node:http";
import { connect } from "node:net";
import { performance } from "node:perf_hooks";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { quantile, report } from "./lib/figures.mjs";

const TOKEN = "a-token-of-the-benchmark";
/** Requests of a well-behaved client, each on its own connection. */
const ASKED = 100;
const PATIENCE_MS = 10_000;
const GUESSERS = 64;
const GUESSING_MS = 2_000;

const { values } = parseArgs({
  options: {
    binary: {
      type: "string",
      default: fileURLToPath(new URL("../../target/release/agentwatch-receiver", import.meta.url)),
    },
    connections: { type: "string", default: "1100" },
    wait: { type: "string", default: "150" },
  },
});
const count = Number(values.connections);

/** The default limit of open files is 1,024 on Linux. */
async function start() {
  const child = spawn("sh", ["-c", 'ulimit -n 1024; exec "$0" --port 0 --db :memory:', values.binary], {
    stdio: ["ignore", "pipe", "inherit"],
    env: { ...process.env, AGENTWATCH_TOKEN: TOKEN },
  });
  for await (const line of createInterface({ input: child.stdout })) {
    const port = /http:\/\/[^/]*:(\d+)\//.exec(line)?.[1];
    if (port) return { child, port: Number(port) };
  }
  throw new Error("the receiver did not start");
}

/** The status, or 0 without an answer in time. @param {number} port @param {string} token @param {string} path */
function ask(port, token, path = "/api/model-stats") {
  return new Promise((resolve) => {
    const asked = request(
      { port, host: "127.0.0.1", path, agent: false, headers: { authorization: `Bearer ${token}` } },
      (answer) => {
        answer.resume();
        answer.on("end", () => resolve(answer.statusCode ?? 0));
      },
    );
    asked.setTimeout(PATIENCE_MS, () => asked.destroy());
    asked.on("error", () => resolve(0));
    asked.end();
  });
}

/** Holds connections that begin with `text`, and counts those that the receiver closes. @param {number} port @param {string} text */
async function hold(port, text) {
  let ended = 0;
  let connected = 0;
  /** @type {import("node:net").Socket[]} */
  const sockets = [];
  // Some at a time: the system retries connections above its queue seconds later.
  while (sockets.length < count) {
    const socket = connect({ port, host: "127.0.0.1", allowHalfOpen: true }, () => {
      connected++;
      if (text) socket.write(text);
    });
    socket.on("error", () => {});
    let isOpen = true;
    for (const event of ["end", "close"])
      socket.on(event, () => {
        if (isOpen) ended++;
        isOpen = false;
      });
    // Without reading, the end of a connection is not noticed.
    socket.resume();
    sockets.push(socket);
    if (sockets.length % 50 === 0) await sleep(20);
  }
  for (let waited = 0; connected < count && waited < 100; waited++) await sleep(100);
  await sleep(1_000);
  return {
    ended: () => ended,
    stop: () => {
      for (const socket of sockets) socket.destroy();
    },
  };
}

/** @param {number} ms */
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** @param {string} name @param {string} text @param {number} wait seconds */
async function held(name, text, wait) {
  const { child, port } = await start();
  const attack = await hold(port, text);
  const times = [];
  let answered = 0;
  // Gives up after three requests without an answer.
  while (times.length < ASKED && times.length - answered < 3) {
    const begun = performance.now();
    if ((await ask(port, TOKEN)) === 200) answered++;
    times.push(performance.now() - begun);
  }
  const memory = Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${child.pid}/status`, "utf8"))?.[1]);
  const begun = performance.now();
  while (attack.ended() < count && performance.now() - begun < wait * 1_000) await sleep(500);
  /** @type {import("./lib/figures.mjs").Figures} */
  const figures = {
    [`${name}: answered to another client`]: [(100 * answered) / times.length, "%"],
    [`${name}: its slowest answer`]: [quantile(times, 0.999), "ms"],
    [`${name}: resident memory`]: [memory / 1024, "MiB"],
    [`${name}: ended within ${wait} s`]: [attack.ended(), `of ${count}`],
  };
  attack.stop();
  child.kill();
  return figures;
}

async function guesses() {
  const { child, port } = await start();
  const begun = performance.now();
  let judged = 0;
  const guess = async (/** @type {unknown} */ _, /** @type {number} */ guesser) => {
    for (let n = 0; performance.now() - begun < GUESSING_MS; n++)
      if ((await ask(port, `guess-${guesser}-${n}`)) === 401) judged++;
  };
  await Promise.all(Array.from({ length: GUESSERS }, guess));
  const after = performance.now();
  while ((await ask(port, TOKEN)) !== 200) await sleep(50);
  const waited = performance.now() - after;
  child.kill();
  return /** @type {const} */ ({
    "guesses judged in 2 s": [judged, ""],
    "the owner's wait after them": [waited, "ms"],
  });
}

const wait = Number(values.wait);
report({
  ...(await held("silent connections", "", wait)),
  ...(await held("heads that stall", "GET /health HTTP/1.1\r\nhost:", wait)),
  ...(await held(
    "bodies that stall",
    `POST /api/v1/ingest/batch HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer ${TOKEN}\r\ncontent-length: 999\r\n\r\n{`,
    wait,
  )),
  ...(await guesses()),
});
