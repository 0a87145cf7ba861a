import { homedir } from "node:os";
import { join } from "node:path";

/** Where cargo keeps the sources of crates. */
const CARGO_HOME = process.env.CARGO_HOME ?? join(homedir(), ".cargo");

/**
 * Flags of rustc by which no path of the building machine stands in what it builds, as the places of panics would.
 *
 * @param {Record<string, string>} folders What each is called instead. Of several that fit, the last one is taken.
 */
export function remapped(folders) {
  const all = { [homedir()]: "home", [CARGO_HOME]: "cargo", ...folders };
  return Object.entries(all).map(([folder, name]) => `--remap-path-prefix=${folder}=${name}`);
}
