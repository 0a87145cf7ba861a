#!/usr/bin/env node
// Installs, updates and removes the plugin by the documented commands, on several versions of OpenClaw, and writes the
// results into docs/install.md: `node scripts/installs.mjs [--ways file,name] [versions…]`. Other cells are not changed.
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { onNewNode } from "./lib/node-runtime.mjs";
import { openclaw, VERSIONS } from "./lib/openclaw.mjs";
import { buildReceiver, packPlugin } from "./lib/package.mjs";
import { SetupError, say } from "./lib/run.mjs";

const PAGE = fileURLToPath(new URL("../docs/install.md", import.meta.url));
const MARK = "## Tried\n";

/** @param {number} ms */
const seconds = (ms) => `${Math.round(ms / 1000)} s`;

/** @typedef {import("../tests/e2e/ways-to-install.mjs").Place} Place */
/** @typedef {Record<string, string>} Cells By their columns. */

/** The columns of the table. */
const COLUMNS = [
  "OpenClaw",
  "Flags",
  "From a file",
  "Works without a restart",
  "By name",
  "Linked",
  "As a hook's directory",
  "Updated and back",
  "Updated by name",
  "Left behind",
];

/**
 * The ways to install. A failed way throws.
 *
 * @type {Record<string, (place: Place) => Promise<Cells>>}
 */
const WAYS = {
  file: async (place) => {
    const { fromFile, withoutRestart } = await import("../tests/e2e/ways-to-install.mjs");
    const { flags, times, isLive } = await fromFile(place);
    const { commands, restart, turn, shown, total } = times;
    const parts = [commands, restart, turn].map(seconds).join(" + ");
    return {
      Flags: flags,
      "From a file": `${seconds(total)} (${parts} + ${(shown / 1000).toFixed(1)} s)`,
      // The documentation says to restart, so a gateway that needs a restart although it says otherwise is no failure.
      "Works without a restart": !isLive
        ? "no"
        : await withoutRestart(place).catch((error) => {
            say(`${place.version} without a restart: ${error.message}`);
            return "no, though it says so";
          }),
    };
  },
  name: async (place) => {
    const { byName } = await import("../tests/e2e/ways-to-install.mjs");
    const { first, left } = await byName(place);
    return {
      "By name": seconds(first),
      "Updated by name": "none lost, none twice",
      "Left behind": left.join(", ") || "nothing",
    };
  },
  link: async (place) => {
    const { linked } = await import("../tests/e2e/ways-to-install.mjs");
    return { Linked: seconds(await linked(place)) };
  },
  hook: async (place) => {
    const { moved } = await import("../tests/e2e/ways-to-install.mjs");
    return {
      "As a hook's directory": seconds(await moved({ ...place, oldHook: process.env.AGENTWATCH_OLD_HOOK })),
    };
  },
  update: async (place) => {
    const { updated } = await import("../tests/e2e/ways-to-install.mjs");
    const { requests } = await updated(place);
    return { "Updated and back": `${requests} of ${requests} calls, none twice` };
  },
};

/** @param {string} text @returns {Map<string, Cells>} The page's rows, by version. */
function rowsOf(text) {
  const tables = text.slice(text.indexOf(MARK)).match(/^\| 2\d{3}\..*\|$/gm) ?? [];
  return new Map(
    tables.map((line) => {
      const cells = line.split("|").slice(1, -1);
      const named = COLUMNS.map((name, i) => /** @type {const} */ ([name, cells[i]?.trim() ?? ""]));
      return [cells[0]?.trim() ?? "", Object.fromEntries(named)];
    }),
  );
}

/** @param {string} version @param {Cells} cells */
async function write(version, cells) {
  const page = await readFile(PAGE, "utf8");
  const rows = rowsOf(page);
  rows.set(version, { ...rows.get(version), ...cells, OpenClaw: version });
  const line = (/** @type {string[]} */ cells) => `| ${cells.join(" | ")} |`;
  const sorted = [...rows].sort(([a], [b]) => a.localeCompare(b, "en", { numeric: true }));
  const table = [
    line(COLUMNS),
    line(COLUMNS.map(() => "---")),
    ...sorted.map(([, cells]) => line(COLUMNS.map((name) => cells[name] || "not tried"))),
  ];
  const text = `\`node scripts/installs.mjs\` writes this table. It types the commands of this page and of [upgrade.md](upgrade.md) into a
terminal with a home folder of its own, on real gateways. Times are from the first command to the first number on the Models
page, on two busy cores. "From a file" has a gateway that ran already: commands + restart + first turn + time until the call
is shown. "Updated and back" goes to the next version and back, each time with waiting calls. "As a hook's
directory" replaces AgentWatch's own hook, and then the plugin replaces it. "Left behind" lists files beside the state and
OpenClaw's backups of its configuration, for an installation and update by name.

${table.join("\n")}
`;
  await writeFile(PAGE, `${page.slice(0, page.indexOf(MARK))}${MARK}\n${text}`);
}

/** @param {string[]} args */
async function main(args) {
  if (await onNewNode(fileURLToPath(import.meta.url), args)) return;
  const options = /** @type {const} */ ({ ways: { type: "string", default: Object.keys(WAYS).join() } });
  const { values, positionals } = parseArgs({ args, allowPositionals: true, options });
  const folder = await mkdtemp(join(tmpdir(), "agentwatch-installs-"));
  try {
    const { AGENTWATCH_TGZ, AGENTWATCH_RECEIVER } = process.env;
    const tgz = AGENTWATCH_TGZ ?? (await packPlugin(folder));
    const binary = AGENTWATCH_RECEIVER ?? (await buildReceiver());
    for (const version of positionals.length > 0 ? positionals : VERSIONS) {
      await openclaw(version);
      for (const name of values.ways.split(",")) {
        const way = WAYS[name];
        if (!way) throw new SetupError(`no such way: ${name}; there are ${Object.keys(WAYS).join(", ")}`);
        try {
          const cells = await way({ version, tgz, binary });
          await write(version, cells);
          say(`${version} ${name}: ${JSON.stringify(cells)}`);
        } catch (error) {
          say(`${version} ${name} FAILED: ${/** @type {Error} */ (error).stack}`);
          process.exitCode = 1;
        }
      }
    }
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

main(process.argv.slice(2)).then(
  // Handles of a gateway must not keep the process alive.
  () => process.exit(),
  (error) => {
    say(error instanceof SetupError ? error.message : error.stack);
    process.exit(1);
  },
);
