import { join } from "node:path";
import { npmPackages } from "./locks.mjs";

/**
 * An npm registry of one's own, for installing by name what is not published yet.
 *
 * @returns {Promise<string>} Path of its program, a script for Node.
 */
export async function verdaccio() {
  const folder = await npmPackages("verdaccio", "tools/verdaccio", "install verdaccio");
  return join(folder, "node_modules", "verdaccio", "bin", "verdaccio");
}
