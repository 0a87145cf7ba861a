import { spawn } from "node:child_process";
import { createWriteStream } from "node:fs";

/** @typedef {ReturnType<typeof launch>} Launched */

/** Signals by which the system, or the code itself, ends a process whose native code is at fault. */
const CRASHES = new Set(["SIGSEGV", "SIGBUS", "SIGILL", "SIGABRT", "SIGFPE", "SIGTRAP"]);
/** Time for the rest of an ended process's output, in ms. */
const PIPES_WITHIN_MS = 5_000;

/**
 * A child process whose last output is at hand, and whose output goes to a file if one is named. Where a program of
 * another project (`foreign`) crashes, standard error says so; `scripts/lib/steps.mjs` then plays the step again.
 *
 * @param {string} command
 * @param {string[]} args
 * @param {{ env: Record<string, string>, cwd?: string, log?: string, foreign?: string }} options `env` is the whole
 *   environment, `foreign` the program's name.
 */
export function launch(command, args, { env, cwd, log, foreign }) {
  const child = spawn(command, args, { env, cwd, stdio: ["ignore", "pipe", "pipe"] });
  const file = log ? createWriteStream(log, { flags: "a" }) : undefined;
  let recent = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding("utf8").on("data", (text) => {
      file?.write(text);
      recent = (recent + text).slice(-200_000);
    });
  }
  // Not even a test that is ended in the middle may leave a gateway behind.
  const sweep = () => child.kill("SIGKILL");
  process.once("exit", sweep);
  /** @type {Promise<{ code: number | null, signal: string | null }>} */
  const ended = new Promise((resolve) => {
    child.on("error", (error) => {
      recent += `\n${error.message}`;
      resolve({ code: -1, signal: null });
    });
    // A grandchild may hold the pipes for longer than its parent lives.
    child.on("exit", () => {
      const release = () => [child.stdout, child.stderr].map((stream) => stream.destroy());
      setTimeout(release, PIPES_WITHIN_MS).unref();
    });
    child.on("close", (code, signal) => {
      process.off("exit", sweep);
      file?.end();
      if (foreign && signal && CRASHES.has(signal))
        console.error(`foreign crash: ${foreign} ended with ${signal}`);
      resolve({ code, signal });
    });
  });
  return {
    pid: child.pid,
    ended,
    recent: () => recent,
    running: () => child.exitCode === null && child.signalCode === null,
    /** SIGTERM, and SIGKILL if that was not enough. @param {number} [graceMs] */
    stop: async (graceMs = 15_000) => {
      child.kill("SIGTERM");
      const timer = setTimeout(() => child.kill("SIGKILL"), graceMs);
      const end = await ended;
      clearTimeout(timer);
      return end;
    },
    kill: async () => {
      child.kill("SIGKILL");
      return ended;
    },
  };
}
