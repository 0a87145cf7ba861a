import { spawn } from "node:child_process";
import { chmod, mkdir, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { delimiter, dirname, join } from "node:path";
import { nodeRuntime } from "../../scripts/lib/node-runtime.mjs";
import { nodeFor, openclaw } from "../../scripts/lib/openclaw.mjs";

/** A command of OpenClaw may take 20 s on a busy machine. */
const COMMAND_WITHIN_MS = 240_000;

/** @typedef {Awaited<ReturnType<typeof terminal>>} Terminal */

/**
 * A user's terminal: `openclaw` on the PATH, a home folder with `~/.openclaw`, a working folder, and no other settings of
 * this machine.
 *
 * @param {{ version: string, folder: string, env?: Record<string, string> }} options
 */
export async function terminal({ version, folder, env: more = {} }) {
  const [home, cwd, bin] = ["home", "work", "bin"].map((name) => join(folder, name));
  if (!home || !cwd || !bin) throw new Error("no folder");
  const stateDir = join(home, ".openclaw");
  for (const path of [stateDir, cwd, bin]) await mkdir(path, { recursive: true });
  const node = await nodeRuntime(nodeFor(version));
  const program = join(bin, "openclaw");
  await writeFile(program, `#!/bin/sh\nexec "${node}" "${await openclaw(version)}" "$@"\n`);
  await chmod(program, 0o755);
  // Where `npm install --global` puts programs.
  const prefix = join(home, ".npm-global");
  /** @type {Record<string, string>} */
  const env = {
    PATH: [bin, join(prefix, "bin"), dirname(node), process.env.PATH].join(delimiter),
    HOME: home,
    TMPDIR: tmpdir(),
    NPM_CONFIG_PREFIX: prefix,
    NPM_CONFIG_UPDATE_NOTIFIER: "false",
    OPENCLAW_HIDE_BANNER: "1",
    NO_COLOR: "1",
    ...more,
  };
  return {
    home,
    cwd,
    stateDir,
    env,
    /**
     * Runs a command line to its end.
     *
     * @param {string} line
     * @param {{ mayFail?: boolean }} [options]
     * @returns {Promise<{ code: number, output: string, ms: number }>}
     */
    async run(line, { mayFail = false } = {}) {
      const begun = performance.now();
      const child = spawn("bash", ["-eu", "-o", "pipefail", "-c", line], {
        cwd,
        env,
        stdio: ["ignore", "pipe", "pipe"],
        timeout: COMMAND_WITHIN_MS,
      });
      let output = "";
      for (const stream of [child.stdout, child.stderr])
        stream.setEncoding("utf8").on("data", (text) => {
          output += text;
        });
      const code = await new Promise((resolve) => {
        child.on("error", () => resolve(-1));
        child.on("close", (code) => resolve(code ?? -1));
      });
      if (code !== 0 && !mayFail) throw new Error(`$ ${line}\nended with ${code}:\n${output.slice(-3000)}`);
      return { code, output, ms: performance.now() - begun };
    },
    /**
     * Starts a command that runs until it is stopped.
     *
     * @param {string} line
     */
    stay(line) {
      const child = spawn("bash", ["-c", `exec ${line}`], { cwd, env, stdio: ["ignore", "pipe", "pipe"] });
      let output = "";
      for (const stream of [child.stdout, child.stderr])
        stream.setEncoding("utf8").on("data", (text) => {
          output += text;
        });
      const sweep = () => child.kill("SIGKILL");
      process.once("exit", sweep);
      const ended = new Promise((resolve) =>
        child.on("close", (code) => {
          process.off("exit", sweep);
          resolve(code);
        }),
      );
      return {
        output: () => output,
        stop: async () => {
          child.kill("SIGTERM");
          return ended;
        },
      };
    },
  };
}
