#!/usr/bin/env node
import { pathToFileURL } from "node:url";
import { cacheRoot } from "./lib/cache.mjs";
import { chromium } from "./lib/chromium.mjs";
import { nodeRuntime } from "./lib/node-runtime.mjs";
import { npmDependencies } from "./lib/npm-dependencies.mjs";
import { openclaw } from "./lib/openclaw.mjs";
import { SetupError, say } from "./lib/run.mjs";
import { wasmToolchain } from "./lib/wasm-toolchain.mjs";
import { wasmTools } from "./lib/wasm-tools.mjs";

export { nodeFor } from "./lib/openclaw.mjs";
export { chromium, nodeRuntime, npmDependencies, openclaw, wasmToolchain, wasmTools };

/** The oldest and the newest gateway that the tests run against. */
export const OPENCLAW_VERSIONS = ["2026.3.13", "2026.9.6"];

/** @type {Record<string, (args: string[]) => Promise<unknown>>} */
const STEPS = {
  npm: npmDependencies,
  wasm: wasmToolchain,
  tools: wasmTools,
  node: (majors) => each(majors.length > 0 ? majors.map(Number) : [22, 24], nodeRuntime),
  openclaw: (versions) => each(versions.length > 0 ? versions : OPENCLAW_VERSIONS, openclaw),
  chromium,
};

/**
 * Runs work for each item in succession: all share a network and a few cores.
 *
 * @template T
 * @param {any[]} items
 * @param {(item: any) => Promise<T>} work
 */
async function each(items, work) {
  const results = [];
  for (const item of items) results.push(await work(item));
  return results;
}

/** @param {string[]} args */
async function main([step = "", ...args]) {
  if (step !== "all" && !STEPS[step]) {
    throw new SetupError(
      `usage: node scripts/setup.mjs all | ${Object.keys(STEPS).join(" | ")}\nCache: ${cacheRoot()}`,
    );
  }
  const names = step === "all" ? Object.keys(STEPS) : [step];
  for (const name of names) console.log(`${name}: ${JSON.stringify(await STEPS[name]?.(args))}`);
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  main(process.argv.slice(2)).catch((error) => {
    say(error instanceof SetupError ? error.message : error.stack);
    process.exitCode = 1;
  });
}
