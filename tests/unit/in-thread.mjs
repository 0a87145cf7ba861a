// Runs the plugin's worker in the thread of the test, so that a test can set its clock and make its module trap. The code is
// the worker's own, and so are the ring and the messages; tests/unit/worker.test.mjs has the real thread.
import { createRequire, syncBuiltinESMExports } from "node:module";

const threads = createRequire(import.meta.url)("node:worker_threads");
const { MessageChannel } = threads;

let evaluated = Promise.resolve();
let made = 0;

/** Messages to workers that are held back. @type {{ message: any, send: () => void }[] | undefined} */
let held;

/** Holds messages to workers back, as a worker does that is busy, until `release` is called. */
export function holdMessages() {
  const kept = /** @type {NonNullable<typeof held>} */ ([]);
  held = kept;
  return {
    messages: () => kept.map(({ message }) => message),
    release: () => {
      held = undefined;
      for (const { send } of kept) send();
    },
  };
}

/** As far as the plugin uses it. */
class InThreadWorker {
  /** @type {import("node:worker_threads").MessagePort} */
  #port;

  /** @param {URL} url @param {{ workerData: any }} options */
  constructor(url, { workerData }) {
    const { port1, port2 } = new MessageChannel();
    this.#port = port1;
    // The port keeps the thread alive, but not the process.
    const on = port2.on.bind(port2);
    port2.on = (/** @type {any} */ ...args) => on(...args).unref();
    made += 1;
    const file = `${url.href}?${made}`;
    evaluated = evaluated.then(async () => {
      const { hrtime } = process;
      const now = () => hrtime()[0] * 1_000 + hrtime()[1] / 1e6 - performance.now();
      // Both ends use one clock, which the test may set.
      threads.workerData = Object.defineProperty({ ...workerData }, "clockOffset", { get: now });
      threads.parentPort = port2;
      syncBuiltinESMExports();
      await import(file).catch((error) => {
        this.onError?.(error);
        port2.close();
      });
    });
  }

  /** @type {((error: unknown) => void) | undefined} */
  onError;

  /** @param {string} event @param {(value: any) => void} listener */
  on(event, listener) {
    if (event === "message") this.#port.on("message", listener);
    if (event === "exit") this.#port.on("close", () => listener(0));
    if (event === "error") this.onError = listener;
    // As with a thread, the process stays alive while a request has no answer.
    this.#port.unref();
  }

  /** @param {unknown} message */
  postMessage(message) {
    const send = () => this.#port.postMessage(message);
    if (held) held.push({ message, send });
    else send();
  }

  ref() {
    this.#port.ref();
  }

  unref() {
    this.#port.unref();
  }

  async terminate() {
    this.#port.close();
  }
}

/** Node's class. @type {typeof import("node:worker_threads").Worker} */
export const RealWorker = threads.Worker;

/** Replaces Node's class for workers. @param {any} Worker */
export function makeWorkersBy(Worker) {
  threads.Worker = Worker;
  syncBuiltinESMExports();
}

makeWorkersBy(InThreadWorker);
