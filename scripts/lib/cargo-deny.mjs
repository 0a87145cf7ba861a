import { join } from "node:path";
import { cached } from "./cache.mjs";
import { exists, run } from "./run.mjs";

const CARGO_DENY_VERSION = "0.20.2";

/**
 * The command that holds `Cargo.lock` against `deny.toml`.
 *
 * @returns {Promise<string>} Path of its program.
 */
export async function cargoDeny() {
  const program = (/** @type {string} */ folder) => join(folder, "bin", "cargo-deny");
  const folder = await cached(
    `tools/cargo-deny-${CARGO_DENY_VERSION}`,
    `build cargo-deny ${CARGO_DENY_VERSION}`,
    async (folder) => {
      const args = ["install", "cargo-deny", "--version", CARGO_DENY_VERSION, "--no-default-features"];
      // It runs for two seconds: optimizing it would take minutes.
      const env = { CARGO_PROFILE_RELEASE_OPT_LEVEL: "0", CARGO_PROFILE_RELEASE_LTO: "off" };
      await run("cargo", [...args, "--root", folder], { env, log: join(folder, "install.log") });
    },
    (folder) => exists(program(folder)),
  );
  return program(folder);
}
