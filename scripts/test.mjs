#!/usr/bin/env node
// All tests, quick ones first. `npm test -- --list` names the steps, `npm test -- types unit-24` runs some,
// `npm test -- quick` those that a change is tried with.
import { say } from "./lib/run.mjs";
import { runSteps } from "./lib/steps.mjs";
import { preparations, steps } from "./lib/test-steps.mjs";

/** @param {string[]} names */
function chosen(names) {
  // Side by side: each waits for something else most of the time.
  if (names.join() === "quick")
    return steps.filter(({ isQuick }) => isQuick).map((step) => ({ ...step, group: "quick" }));
  const unknown = names.filter((name) => !steps.some((step) => step.name === name));
  if (unknown.length > 0) {
    say(`no such step: ${unknown.join(", ")}; there are ${steps.map(({ name }) => name).join(", ")}`);
    process.exit(2);
  }
  const wanted = (/** @type {import("./lib/steps.mjs").Step} */ { name, isOnRequest }) =>
    names.length > 0 ? names.includes(name) : !isOnRequest;
  return steps.filter(wanted);
}

/** @param {string[]} args */
async function main(args) {
  if (args.includes("--list")) {
    for (const { name, about, isQuick } of steps)
      console.log(`${name.padEnd(20)} ${isQuick ? "quick" : "     "} ${about}`);
    return;
  }
  const begun = Date.now();
  const results = await runSteps(chosen(args), preparations);
  console.log("\n=== summary");
  for (const { name, seconds, error } of results)
    console.log(
      `${error ? "FAILED" : "passed"}  ${name.padEnd(14)} ${String(seconds).padStart(5)} s${error ? `  ${error}` : ""}`,
    );
  // A log is often read from its end, far behind the failure.
  for (const { name, end } of results)
    if (end !== undefined) console.log(`\n=== ${name} ended with\n${end}\n`);
  const failed = results.filter(({ error }) => error !== undefined).length;
  const total = Math.round((Date.now() - begun) / 1000);
  console.log(`${results.length - failed} of ${results.length} steps passed in ${total} s`);
  process.exitCode = failed > 0 ? 1 : 0;
}

// Without these handlers a signal would leave the step's command running.
for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, () => process.exit(1));

await main(process.argv.slice(2));
