import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import { SetupError, say } from "./run.mjs";

const PROJECT = fileURLToPath(new URL("../..", import.meta.url));
/** The line of `examples/gateway/process.mjs` for a crash of another project's program. */
const FOREIGN_CRASH = /foreign crash: (.+)/;
/** Steps of a group that run at the same time. With a gateway each waits most of the time: three load two cores. */
const AT_ONCE = 3;
/** Characters of a failed step's output that the summary repeats. */
const END = 4_000;

/**
 * @typedef {object} Step
 * @property {string} name
 * @property {string} about
 * @property {string} [group] Neighbours of the same group run at the same time, at most {@link AT_ONCE} of them.
 * @property {boolean} [isOnRequest] The step runs only where it is named.
 * @property {boolean} [isQuick] The step is one of `npm test -- quick`.
 * @property {boolean} [playsForeign] Other projects' programs run in the step: where one crashes and the step
 *   fails, the step runs once more.
 * @property {string[]} [needs] Names of preparations that must be done before it.
 * @property {(run: Command) => Promise<void>} run
 *
 * @typedef {(command: string, args: string[], options?: CommandOptions) => Promise<void>} Command Runs a command of
 *   the step to its end, without standard input; throws when it fails.
 * @typedef {{ env?: Record<string, string | undefined> }} CommandOptions `undefined` removes a variable.
 *
 * @typedef {{ name: string, seconds: number, error?: string, end?: string }} Result `end` is the end of a failed
 *   step's output.
 * @typedef {Record<string, () => Promise<unknown>>} Preparations In the order in which they are made.
 */

/**
 * Runs steps in their order. Preparations are fetched and built meanwhile, one after the other, so that the first
 * steps do not wait for a network. A step that fails does not end the others.
 *
 * @param {Step[]} steps
 * @param {Preparations} preparations
 * @returns {Promise<Result[]>}
 */
export async function runSteps(steps, preparations) {
  const prepared = prepare(steps, preparations);
  const results = [];
  for (let i = 0; i < steps.length; ) {
    const group = together(steps, i);
    i += group.length;
    results.push(...(await runGroup(group, prepared)));
  }
  return results;
}

/**
 * @param {Step[]} group
 * @param {Map<string, Promise<unknown>>} prepared
 */
async function runGroup(group, prepared) {
  /** @type {Result[]} */
  const results = [];
  const left = [...group.entries()];
  const lane = async () => {
    for (let next = left.shift(); next; next = left.shift())
      results[next[0]] = await runStep(next[1], prepared, group.length === 1);
  };
  await Promise.all(Array.from({ length: AT_ONCE }, lane));
  return results;
}

/** @param {Step[]} steps @param {number} at */
function together(steps, at) {
  const first = steps[at];
  if (!first?.group) return steps.slice(at, at + 1);
  const rest = steps.slice(at);
  const end = rest.findIndex(({ group }) => group !== first.group);
  return end === -1 ? rest : rest.slice(0, end);
}

/**
 * @param {Step[]} steps
 * @param {Preparations} preparations
 * @returns {Map<string, Promise<unknown>>}
 */
function prepare(steps, preparations) {
  const wanted = new Set(steps.flatMap(({ needs = [] }) => needs));
  /** @type {Map<string, Promise<unknown>>} */
  const prepared = new Map();
  let before = /** @type {Promise<unknown>} */ (Promise.resolve());
  for (const [name, work] of Object.entries(preparations)) {
    if (!wanted.has(name)) continue;
    // Once more, since it may be the network.
    const again = (/** @type {Error} */ error) => {
      say(`${name}: once more, after ${error.message}`);
      return work();
    };
    const done = before.then(() => work().catch(again));
    // The steps that need it get the rejection; without a handler it would end the process before.
    before = done.catch(() => {});
    prepared.set(name, done);
  }
  return prepared;
}

/**
 * @param {Step} step
 * @param {Map<string, Promise<unknown>>} prepared
 * @param {boolean} alone Prints the output as it comes, otherwise at the end.
 * @returns {Promise<Result>}
 */
async function runStep({ name, about, needs = [], playsForeign, run }, prepared, alone) {
  const begun = Date.now();
  const seconds = () => Math.round((Date.now() - begun) / 1000);
  /** @type {string[]} */
  const kept = [];
  let end = "";
  /** @type {string | undefined} */
  let crash;
  const write = (/** @type {string} */ text) => {
    crash ??= FOREIGN_CRASH.exec(text)?.[1];
    end = (end + text).slice(-END);
    if (alone) process.stdout.write(text);
    else kept.push(text);
  };
  process.stdout.write(`\n=== ${name}: ${about}\n`);
  const timer = alone ? undefined : setInterval(() => say(`${name} … ${seconds()} s`), 30_000);
  try {
    for (const need of needs) await prepared.get(need);
    const play = () => run((command, args, options) => execute(command, args, write, options));
    await play().catch(async (error) => {
      if (!playsForeign || crash === undefined) throw error;
      write(`\n=== ${name}: FAILED, but ${crash}: it is played once more\n`);
      await play();
    });
    process.stdout.write(`${kept.join("")}=== ${name}: passed in ${seconds()} s\n`);
    return { name, seconds: seconds() };
  } catch (error) {
    const text = error instanceof SetupError ? error.message : String(/** @type {Error} */ (error).stack);
    process.stdout.write(`${kept.join("")}${text}\n=== ${name}: FAILED after ${seconds()} s\n`);
    return { name, seconds: seconds(), error: text.split("\n")[0] ?? "", end: `${end}${text}` };
  } finally {
    clearInterval(timer);
  }
}

/**
 * @param {string} command
 * @param {string[]} args
 * @param {(text: string) => void} write
 * @param {CommandOptions} [options]
 * @returns {Promise<void>}
 */
function execute(command, args, write, { env = {} } = {}) {
  return new Promise((resolve, reject) => {
    const merged = { ...process.env, ...env };
    for (const name of Object.keys(merged)) if (merged[name] === undefined) delete merged[name];
    const child = spawn(command, args, { cwd: PROJECT, env: merged, stdio: ["ignore", "pipe", "pipe"] });
    const sweep = () => child.kill("SIGTERM");
    process.once("exit", sweep);
    for (const stream of [child.stdout, child.stderr]) stream.setEncoding("utf8").on("data", write);
    child.on("error", (error) => reject(new SetupError(`${command} did not start: ${error.message}`)));
    child.on("close", (code, signal) => {
      process.off("exit", sweep);
      if (code === 0) return resolve();
      const line = [command, ...args].map((word) => word.replace(PROJECT, "")).join(" ");
      reject(new SetupError(`${line} ended with ${signal ?? `code ${code}`}`));
    });
  });
}
