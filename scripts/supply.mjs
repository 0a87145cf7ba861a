#!/usr/bin/env node
// Checks licences, sources and versions of crates by deny.toml, and looks up known vulnerabilities of crates and npm
// packages. Prints a line where a database does not answer.
import { fileURLToPath } from "node:url";
import { cargoDeny } from "./lib/cargo-deny.mjs";
import { run, SetupError, say } from "./lib/run.mjs";

const PROJECT = fileURLToPath(new URL("..", import.meta.url));
const NOT_REACHED =
  /failed to fetch advisory database|audit endpoint returned an error|ENOTFOUND|ECONNREFUSED/;

/**
 * Looks up known vulnerabilities, where the database answers.
 *
 * @param {string} what
 * @param {string} command
 * @param {string[]} args
 */
async function lookUp(what, command, args) {
  try {
    await run(command, args, { cwd: PROJECT, timeoutMs: 60_000 });
    console.log(`${what}: no known faults`);
  } catch (error) {
    const text = /** @type {Error} */ (error).message;
    if (!NOT_REACHED.test(text)) throw error;
    console.log(`${what}: NOT looked up for known faults, as the database did not answer`);
  }
}

async function main() {
  const deny = await cargoDeny();
  await run(deny, ["--offline", "check", "bans", "licenses", "sources"], { cwd: PROJECT });
  console.log("crates: licences, sources and versions are as deny.toml has them");
  await lookUp("crates", deny, ["check", "advisories"]);
  await lookUp("npm packages", "npm", ["audit"]);
}

main().catch((error) => {
  say(error instanceof SetupError ? error.message : error.stack);
  process.exitCode = 1;
});
