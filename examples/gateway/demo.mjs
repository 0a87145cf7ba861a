import { createServer } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { compareTotals } from "./compare.mjs";
import { differing } from "./differing.mjs";
import { startGateway } from "./gateway.mjs";
import { createProvider } from "./provider.mjs";
import { modelCalls, modelStats, startReceiver } from "./receiver.mjs";
import { table } from "./table.mjs";
import { TURNS } from "./turns.mjs";

/** Where AgentWatch listens by default. */
const USUAL_PORT = 8470;
/** So that the page moves while somebody looks at it. */
const TURN_EVERY_MS = 20_000;
/** How long a call may take to be shown. */
const SHOWN_WITHIN_MS = 30_000;

/** @typedef {{ provider: import("./provider.mjs").Provider, receiver: import("./receiver.mjs").Receiver, gateway: import("./gateway.mjs").Gateway }} World */

const out = (/** @type {string} */ text) => process.stdout.write(`${text}\n`);

/** @param {string} version @param {string} tgz @param {string} binary @param {string} folder */
async function start(version, tgz, binary, folder) {
  const provider = await createProvider({ delayMs: 150 });
  closers.push(provider.close);
  const port = (await isFree(USUAL_PORT)) ? USUAL_PORT : 0;
  if (port === 0) out(`Port ${USUAL_PORT} is taken: the receiver takes another one.`);
  const receiver = await startReceiver({ binary, port, args: ["--db", join(folder, "agentwatch.db")] });
  closers.push(receiver.stop);
  out(`Starting OpenClaw ${version} with the packed plugin installed …`);
  const config = { url: receiver.url };
  const plugins = [{ id: "agentwatch", tgz, config }];
  const gateway = await startGateway({ version, providerUrl: provider.baseUrl, plugins });
  closers.push(gateway.stop);
  return { provider, receiver, gateway };
}

/** @param {World["gateway"]} gateway */
async function takeTurns(gateway) {
  out("The first turn of each agent …");
  await gateway.warmUp();
  for (const [what, turn] of TURNS) {
    out(`  ${what}`);
    await turn(gateway);
  }
}

/**
 * Waits until both sides agree, for a while, and returns the table as it is then.
 *
 * @param {World} world
 */
async function settledTable({ provider, receiver }) {
  for (const deadline = Date.now() + SHOWN_WITHIN_MS; ; await sleep(200)) {
    const shown = await modelStats(receiver);
    const sent = provider.totals();
    if (compareTotals(sent, shown).length === 0 || Date.now() > deadline) {
      const timed = sent.map((row) => ({ ...row, avg_latency_ms: averageMs(provider, row.model) }));
      const found = table(shown, timed);
      if (found.isEqual) return found;
      const lines = differing(provider.requests(), await modelCalls(receiver));
      return { ...found, text: [found.text, ...lines].join("\n") };
    }
  }
}

/** @param {World["provider"]} provider @param {string} model `provider/model` */
function averageMs({ ledger }, model) {
  const times = ledger
    .filter((entry) => model.endsWith(`/${entry.model}`) && entry.outcome === "answered")
    .map(({ ms }) => ms ?? 0);
  return times.length > 0 ? times.reduce((sum, ms) => sum + ms, 0) / times.length : null;
}

/** @param {World} world @param {AbortSignal} signal */
async function goOn(world, signal) {
  for (let i = 0; !signal.aborted; i += 1) {
    await sleep(TURN_EVERY_MS, undefined, { signal }).catch(() => {});
    if (signal.aborted) return;
    const [what, turn] = TURNS[i % TURNS.length] ?? [];
    await turn?.(world.gateway).catch((error) => signal.aborted || out(`  ${what}: ${error.message}`));
    if (signal.aborted) return;
    const { isEqual, text } = await settledTable(world);
    const requests = world.provider.totals().reduce((sum, row) => sum + row.requests, 0);
    out(`  ${what}: ${requests} requests, ${isEqual ? "✓ equal" : `✗ DIFFERENT\n${text}`}`);
  }
}

/** @param {number} port @returns {Promise<boolean>} */
function isFree(port) {
  return new Promise((resolve) => {
    const server = createServer().on("error", () => resolve(false));
    server.listen(port, "127.0.0.1", () => server.close(() => resolve(true)));
  });
}

/** What is to be ended, in reverse order. @type {(() => Promise<unknown>)[]} */
const closers = [];
const ending = new AbortController();

/** @param {string[]} args `begun` is when the preparations began, in ms since 1970 */
async function main([version = "", tgz = "", binary = "", folder = "", begun = "", once]) {
  const world = await start(version, tgz, binary, folder);
  await takeTurns(world.gateway);
  const { text, isEqual } = await settledTable(world);
  out(`\n${text}\n`);
  const ready = `Ready after ${Math.round((Date.now() - Number(begun)) / 1_000)} s.`;
  if (once) {
    out(ready);
    out(
      isEqual
        ? "AgentWatch shows what the provider sent."
        : "AgentWatch does not show what the provider sent.",
    );
    process.exitCode = isEqual ? 0 : 1;
    return;
  }
  out(`    Models page:  ${world.receiver.url}/models\n`);
  out(`${ready} A further turn every ${TURN_EVERY_MS / 1000} s, until Ctrl-C.`);
  await goOn(world, ending.signal);
}

for (const signal of ["SIGINT", "SIGTERM"]) {
  process.on(signal, () => {
    if (!ending.signal.aborted) out("\nStopping …");
    ending.abort();
  });
}

const stopped = new Promise((resolve) => ending.signal.addEventListener("abort", () => resolve(undefined)));
try {
  // Ctrl-C must also end it while it starts.
  await Promise.race([main(process.argv.slice(2)), stopped]);
} catch (error) {
  if (!ending.signal.aborted) {
    out(`The demonstration failed: ${/** @type {Error} */ (error).message}`);
    process.exitCode = 1;
  }
} finally {
  for (const close of closers.splice(0).reverse()) await close().catch(() => {});
}
// What was under way when Ctrl-C came must not keep the process.
process.exit();
