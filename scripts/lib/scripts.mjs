// Which folders of the shim are shipped in which files of `dist/`.
//
// Each file that is loaded costs a gateway's start half a millisecond and more, so a folder's modules are joined. A folder
// of its own has code that is not always needed, and code that OpenClaw's install scan does not accept in one file: it takes
// reading files or the environment beside the word `fetch` for theft.
import { writeFile } from "node:fs/promises";
import { basename, dirname, join, relative } from "node:path";

/** Modules that Node and OpenClaw load by their names, from package.json and the hook's handler: each is a file of its own. */
const ENTRIES = ["commands/cli", "plugin/hook", "worker/worker"];

/** The file that a folder's other modules are joined to. */
const FILES = /** @type {Record<string, string>} */ ({
  /** What the gateway's thread, its worker and the commands share. */
  base: "base",
  /** Makes instances of the WebAssembly module; the one file here with the word `fetch`. */
  glue: "glue",
  /** All that a gateway loads at its start. */
  plugin: "plugin",
  /** Counts, journals and sends: in the worker, or in a command. */
  worker: "pipeline",
  /** Reads the session store, where there is one. */
  sessions: "store",
  /** Commands that end by themselves, and what all commands share. */
  commands: "commands",
  /** Polls a remote gateway. */
  gateway: "remote",
  /** Servers: the proxy, the endpoint for LiteLLM, and `/metrics`. */
  proxy: "serve",
  /** Commands of an operator: status, doctor. */
  doctor: "operator",
  /** Requests of these commands. */
  requests: "ask",
});

/** The files of `dist/` that are scripts. */
export const SCRIPTS = [...ENTRIES.map((entry) => basename(entry)), ...Object.values(FILES)]
  .map((name) => `${name}.js`)
  .sort();

/** @param {string} module `folder/name` @returns {string} The file that it is in. */
function fileOf(module) {
  if (ENTRIES.includes(module)) return basename(module);
  const file = FILES[dirname(module)];
  if (!file) throw new Error(`${module}: scripts/lib/scripts.mjs names no file for this folder`);
  return file;
}

/**
 * Joins compiled modules into the files of `dist/`, without comments, blanks and local names. Names of methods and
 * exports stay, for stacks and tests.
 *
 * @param {string[]} modules all modules, each as `folder/name`
 * @param {string} from the folder in which they are
 * @param {string} to
 */
export async function joinScripts(modules, from, to) {
  // A fresh clone has it only now.
  const { build } = await import("esbuild");
  const files = new Set(modules.map(fileOf));
  for (const file of files) {
    /** @type {import("esbuild").Plugin} */
    const others = {
      name: "others",
      setup: ({ onResolve }) => {
        onResolve({ filter: /^\.\.?\/.*\.js$/ }, ({ path, kind, resolveDir }) => {
          if (kind === "entry-point") return undefined;
          const other = fileOf(relative(from, join(resolveDir, path)).slice(0, -".js".length));
          return other === file ? undefined : { path: `./${other}.js`, external: true };
        });
      },
    };
    const joined = modules.filter((module) => fileOf(module) === file);
    const lines = joined.map((module) => `export * from "./${module}.js";`);
    if (joined.includes("plugin/plugin")) lines.push('export { default } from "./plugin/plugin.js";');
    const own = ENTRIES.find((entry) => basename(entry) === file);
    const entry = join(from, own ? `${own}.js` : `${file}.entry.js`);
    if (!own) await writeFile(entry, lines.join("\n"));
    await build({
      entryPoints: [entry],
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
