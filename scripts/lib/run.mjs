import { spawn } from "node:child_process";
import { createWriteStream } from "node:fs";
import { access, constants, stat } from "node:fs/promises";
import { delimiter, join } from "node:path";

/** A step that cannot go on, with a message meant for the person at the terminal: no stack is shown. */
export class SetupError extends Error {
  /** @param {string} message */
  constructor(message) {
    super(message);
    this.name = "SetupError";
  }
}

/** Progress goes to standard error, so that standard output stays usable for results. @param {string} text */
export function say(text) {
  process.stderr.write(`setup: ${text}\n`);
}

/**
 * Says what is being done and, every ten seconds, that it is still being done: a quiet minute looks like a hang.
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
 * @property {string} [log] A file that receives all output; its path is named when the command fails.
 * @property {number} [timeoutMs] The command is stopped after it.
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
    child.on("error", (error) => reject(new SetupError(`${command} did not start: ${error.message}`)));
    child.on("close", (code, signal) => {
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
 * The first of a command's places on PATH, or undefined.
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
