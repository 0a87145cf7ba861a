import { homedir } from "node:os";
import { join } from "node:path";

/** Cargo's folder with the sources of crates. */
const CARGO_HOME = process.env.CARGO_HOME ?? join(homedir(), ".cargo");

/**
 * Flags of rustc that remove paths of the build machine from its output, such as the locations of panics.
 *
 * @param {Record<string, string>} folders The replacement of each folder. Of several matches, the last one is used.
 */
export function remapped(folders) {
  const all = { [homedir()]: "home", [CARGO_HOME]: "cargo", ...folders };
  return Object.entries(all).map(([folder, name]) => `--remap-path-prefix=${folder}=${name}`);
}
