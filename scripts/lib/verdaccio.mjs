import { join } from "node:path";
import { npmPackages } from "./locks.mjs";

/**
 * A local npm registry, for installing an unpublished package by name.
 *
 * @returns {Promise<string>} Path of its program, a script for Node.
 */
export async function verdaccio() {
  const folder = await npmPackages("verdaccio", "tools/verdaccio", "install verdaccio");
  return join(folder, "node_modules", "verdaccio", "bin", "verdaccio");
}
