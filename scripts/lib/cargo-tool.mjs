import { rm } from "node:fs/promises";
import { join } from "node:path";
import { cached } from "./cache.mjs";
import { fromLock } from "./locks.mjs";
import { run, SetupError, which } from "./run.mjs";

/**
 * A program from crates.io, with the dependencies that its own lock file names.
 *
 * @param {string} crate Its program has the same name.
 * @param {string} version
 * @param {string[]} [flags]
 * @returns {Promise<string>} Path of the program.
 */
export async function cargoTool(crate, version, flags = []) {
  const args = [crate, "--version", version, ...flags];
  const folder = await cached(
    `tools/${crate}-${version}`,
    `build ${crate} ${version}`,
    (folder) => install(folder, args),
    args.join(" "),
  );
  return join(folder, "bin", crate);
}

/**
 * The programs of a crate of `scripts/locks`.
 *
 * @param {string} lock
 * @returns {Promise<string>} The folder that they are in.
 */
export async function lockedCargoTools(lock) {
  const folder = await fromLock(lock, `tools/${lock}`, `build ${lock}`, (folder, source) =>
    install(folder, ["--path", source]),
  );
  return join(folder, "bin");
}

/** @param {string} folder @param {string[]} what */
async function install(folder, what) {
  if (!(await which("cargo")))
    throw new SetupError("cargo not found: install Rust with rustup (https://rustup.rs)");
  // The tools run for seconds; optimizing them would take minutes.
  const env = {
    CARGO_PROFILE_RELEASE_OPT_LEVEL: "0",
    CARGO_PROFILE_RELEASE_LTO: "off",
    CARGO_TARGET_DIR: join(folder, "target"),
    RUSTUP_TOOLCHAIN: undefined,
  };
  const args = ["install", "--locked", "--root", folder, ...what];
  await run("cargo", args, { env, log: join(folder, "build.log") });
  await rm(join(folder, "target"), { recursive: true, force: true });
}
