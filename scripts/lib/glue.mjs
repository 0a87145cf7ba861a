import { dirname } from "node:path";

/**
 * Wraps wasm-bindgen's glue into `makeGlue()`, a function of a module of its own. The glue is a module with one instance
 * for ever; an instance that trapped is dead, and loading the glue again needs its file, which a reload removes.
 *
 * @param {string} glue as `wasm-pack build --target web` makes it
 * @param {string} to
 */
export async function wrapGlue(glue, to) {
  // A fresh clone has it only now.
  const { build } = await import("esbuild");
  await build({
    // Without the default export, which fetches the module from a URL.
    stdin: { contents: `export * from ${JSON.stringify(glue)};`, resolveDir: dirname(glue) },
    outfile: to,
    bundle: true,
    format: "iife",
    globalName: "glue",
    banner: { js: "export function makeGlue() {" },
    footer: { js: "return glue;\n}" },
    // An instance is given up whole. A finalizer would call into one that trapped, and throw where nobody catches.
    define: { FinalizationRegistry: "undefined" },
    target: "node22",
    logLevel: "warning",
    logOverride: { "empty-import-meta": "silent" },
  });
}
