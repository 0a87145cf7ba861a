#!/usr/bin/env node
// Builds the drop-in hook: a directory to copy into an OpenClaw hooks folder.
import { copyFile, mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { exists, say } from "./lib/run.mjs";

const PROJECT = fileURLToPath(new URL("..", import.meta.url));
const SOURCE = join(PROJECT, "examples", "openclaw-hook");
const TARGET = join(SOURCE, "agentwatch");
const DIST = join(PROJECT, "dist");

/** A module's file, and the files that it imports or starts as a worker. @param {string} file @param {Set<string>} found */
async function imported(file, found = new Set()) {
  if (found.has(file)) return found;
  found.add(file);
  const text = await readFile(join(DIST, file), "utf8");
  for (const [, next = ""] of text.matchAll(/(?:from|import\(|new URL\()\s*"\.\/([\w.-]+\.js)"/g))
    await imported(next, found);
  return found;
}

/** Builds the directory, and `dist/` where it is missing. @returns {Promise<string>} The directory. */
export async function buildHook() {
  if (!(await exists(join(DIST, "hook.js")))) {
    const { build } = await import("./build.mjs");
    await build();
  }
  await rm(TARGET, { recursive: true, force: true });
  await mkdir(TARGET, { recursive: true });
  for (const file of [...(await imported("hook.js")), "agentwatch.wasm", "prices.br"])
    await copyFile(join(DIST, file), join(TARGET, file));
  for (const file of ["HOOK.md", "handler.js"]) await copyFile(join(SOURCE, file), join(TARGET, file));
  const { version } = JSON.parse(await readFile(join(PROJECT, "package.json"), "utf8"));
  // Tells Node that the files are ES modules.
  await writeFile(
    join(TARGET, "package.json"),
    `${JSON.stringify({ name: "agentwatch-openclaw-hook", version, private: true, type: "module" })}\n`,
  );
  return TARGET;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const folder = await buildHook();
  say(`the hook is in ${folder}: copy it to <state>/hooks/agentwatch`);
}
