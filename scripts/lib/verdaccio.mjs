import { join } from "node:path";
import { cached } from "./cache.mjs";
import { npmInstall } from "./node-runtime.mjs";
import { exists } from "./run.mjs";

/** The version with which installing by name is tried. */
const VERDACCIO_VERSION = "6.8.0";

/**
 * An npm registry of one's own, for installing by name what is not published yet.
 *
 * @returns {Promise<string>} Path of its program, a script for Node.
 */
export async function verdaccio() {
  const program = (/** @type {string} */ folder) =>
    join(folder, "node_modules", "verdaccio", "bin", "verdaccio");
  const folder = await cached(
    `tools/verdaccio-${VERDACCIO_VERSION}`,
    `install verdaccio ${VERDACCIO_VERSION}`,
    // Its node-fetch is pinned to a version that some registries do not serve.
    (folder) =>
      npmInstall(folder, { verdaccio: VERDACCIO_VERSION }, { overrides: { "node-fetch": "2.7.0" } }),
    (folder) => exists(program(folder)),
  );
  return program(folder);
}
