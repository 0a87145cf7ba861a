import { spawn } from "node:child_process";
import { createWriteStream } from "node:fs";
import { access, constants, stat } from "node:fs/promises";
import { delimiter, join } from "node:path";

/** An error with a message for the user, which is shown without a stack. */
export class SetupError extends Error {
  /** @param {string} message */
  constructor(message) {
    super(message);
    this.name = "SetupError";
  }
}

/** Prints progress on standard error; standard output is for results. @param {string} text */
export function say(text) {
  process.stderr.write(`setup: ${text}\n`);
}

/**
 * Prints a line at the start and the end of work, and every ten seconds in between.
 *
 * @template T
 * @param {string} what
 * @param {() => Promise<T>} work
 * @returns {Promise<T>}
 */
export async function withProgress(what, work) {
  const begun = Date.now();
  const seconds = () => Math.round((Date.now() - begun) / 1000);
  say(`${what} …`);
  const timer = setInterval(() => say(`${what} … ${seconds()} s`), 10_000);
  try {
    const result = await work();
    say(`${what}: done in ${seconds()} s`);
    return result;
  } finally {
    clearInterval(timer);
  }
}

/**
 * @typedef {object} RunOptions
 * @property {string} [cwd]
 * @property {Record<string, string | undefined>} [env] Added to this process's environment; undefined removes.
 * @property {string} [log] A file for all output; the error names it.
 * @property {number} [timeoutMs] Time after which the command is stopped.
 */

/**
 * Runs a command to its end and returns what it printed. Throws with the end of the output when it fails.
 *
 * @param {string} command
 * @param {string[]} args
 * @param {RunOptions} [options]
 * @returns {Promise<string>}
 */
export function run(command, args, { cwd, env = {}, log, timeoutMs } = {}) {
  return new Promise((resolve, reject) => {
    const merged = { ...process.env, ...env };
    for (const name of Object.keys(merged)) if (merged[name] === undefined) delete merged[name];
    const child = spawn(command, args, {
      cwd,
      env: merged,
      stdio: ["ignore", "pipe", "pipe"],
      timeout: timeoutMs,
    });
    const file = log ? createWriteStream(log, { flags: "a" }) : undefined;
    let stdout = "";
    let tail = "";
    const keep = (/** @type {Buffer} */ chunk) => {
      file?.write(chunk);
      tail = (tail + chunk).slice(-4000);
    };
    child.stdout.on("data", (chunk) => {
      stdout += chunk;
      keep(chunk);
    });
    child.stderr.on("data", keep);
    // A process that ends while the command runs, as after the failure of another one, does not leave it running.
    const sweep = () => child.kill("SIGTERM");
    process.once("exit", sweep);
    child.on("error", (error) => reject(new SetupError(`${command} did not start: ${error.message}`)));
    child.on("close", (code, signal) => {
      process.off("exit", sweep);
      file?.end();
      if (code === 0) return resolve(stdout);
      const where = log ? `\n(all of it: ${log})` : "";
      reject(
        new SetupError(
          `${command} ${args.join(" ")}\nended with ${signal ?? `code ${code}`}:\n${tail}${where}`,
        ),
      );
    });
  });
}

/**
 * The path of a command on PATH, or undefined.
 *
 * @param {string} command
 * @returns {Promise<string | undefined>}
 */
export async function which(command) {
  for (const folder of (process.env.PATH ?? "").split(delimiter)) {
    if (!folder) continue;
    const path = join(folder, command);
    const found = await access(path, constants.X_OK).then(
      () => true,
      () => false,
    );
    if (found) return path;
  }
  return undefined;
}

/** @param {string} path */
export function exists(path) {
  return stat(path).then(
    () => true,
    () => false,
  );
}

/** A PATH with a folder put first. @param {string} folder */
export function pathWith(folder) {
  return `${folder}${delimiter}${process.env.PATH ?? ""}`;
}
