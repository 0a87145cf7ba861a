import { cp, mkdir, readdir, rm, symlink, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { cached } from "./cache.mjs";
import { remapped } from "./remap.mjs";
import { exists, run, SetupError, say, which } from "./run.mjs";

const TARGET = "wasm32-unknown-unknown";

/** Version of the steps that make Debian's toolchain; another value makes the toolchain again. */
const RECIPE = "2";

/**
 * A Rust toolchain that builds for WebAssembly: the host's own if rustup has the target, else added by rustup, else
 * made from Debian's packages where rustup's server cannot be reached. `AGENTWATCH_WASM_TOOLCHAIN` (`debian`,
 * `rustup`, `auto`) chooses one; CI uses Debian's, so that a build depends on one set of servers only.
 *
 * @returns {Promise<{ cargoEnv: Record<string, string> }>} To be added to the environment of cargo and wasm-pack.
 */
export async function wasmToolchain() {
  for (const tool of ["cargo", "rustup"]) {
    if (!(await which(tool)))
      throw new SetupError(`${tool} not found: install Rust with rustup (https://rustup.rs)`);
  }
  const wanted = wantedKind();
  if (wanted !== "debian") {
    if (await hostHasTarget()) return { cargoEnv: {} };
    if (await rustupAdds()) return { cargoEnv: {} };
    if (wanted === "rustup") throw new SetupError(`rustup could not add ${TARGET}; see the message above`);
    say("rustup's server was not reached: taking Debian's packages instead");
  }
  return { cargoEnv: { RUSTUP_TOOLCHAIN: await debianToolchain() } };
}

/** @returns {"debian" | "rustup" | "auto"} */
function wantedKind() {
  const asked = process.env.AGENTWATCH_WASM_TOOLCHAIN ?? (process.env.CI === "true" ? "debian" : "auto");
  if (asked === "debian" || asked === "rustup" || asked === "auto") return asked;
  throw new SetupError(`AGENTWATCH_WASM_TOOLCHAIN is "${asked}"; it can be debian, rustup or auto`);
}

async function hostHasTarget() {
  const sysroot = (await run("rustc", ["--print", "sysroot"])).trim();
  return exists(join(sysroot, "lib", "rustlib", TARGET, "lib"));
}

async function rustupAdds() {
  say(`rustup target add ${TARGET}`);
  // Without a network rustup retries for a long time.
  const options = { timeoutMs: 90_000, env: { RUSTUP_MAX_RETRIES: "0" } };
  return run("rustup", ["target", "add", TARGET], options).then(
    () => true,
    (error) => {
      say(String(error.message).split("\n").slice(0, 4).join("\n"));
      return false;
    },
  );
}

/**
 * rustup accepts the path of a toolchain, so nothing has to be linked, and the default toolchain is not changed.
 *
 * @returns {Promise<string>} The toolchain's folder.
 */
async function debianToolchain() {
  const folder = await cached(
    "wasm-toolchain",
    "make a WebAssembly toolchain from Debian's packages",
    makeToolchain,
    RECIPE,
  );
  return join(folder, "root", "usr");
}

/** @param {string} folder */
async function makeToolchain(folder) {
  if (!(await which("apt-get"))) {
    throw new SetupError(
      `no apt-get here: run "rustup target add ${TARGET}" on a machine that reaches rustup's server`,
    );
  }
  const packages = await download(folder);
  const usr = join(folder, "root", "usr");
  for (const file of packages) await run("dpkg", ["-x", file, join(folder, "root")]);
  await layOut(usr);
  await buildStd(folder, usr);
  await rm(join(folder, "debs"), { recursive: true });
}

/**
 * Downloads Debian's `rustc-web`, which is updated for browsers and newer than `rustc`, and its dependencies.
 *
 * @param {string} folder
 * @returns {Promise<string[]>} The package files.
 */
async function download(folder) {
  const debs = join(folder, "debs");
  await mkdir(debs);
  if (process.getuid?.() === 0)
    await run("apt-get", ["update", "-qq"]).catch(() => say("apt-get update failed; going on"));
  const names = ["rustc-web", "libstd-rust-web-dev", "rust-web-src"];
  const std = await dependencies("libstd-rust-web-dev", /^libstd-rust-web-[\d.]+$/);
  const llvm = await dependencies(std[0] ?? "rustc-web", /^libllvm\d+$/);
  const lld = llvm.map((name) => name.replace("libllvm", "lld-"));
  if (std.length === 0 || llvm.length === 0)
    throw new SetupError("apt knows no rustc-web: Debian 12 or later is needed");
  await run("apt-get", ["download", ...names, ...std, ...llvm, ...lld], { cwd: debs });
  return (await readdir(debs)).map((file) => join(debs, file));
}

/**
 * @param {string} name
 * @param {RegExp} pattern
 */
async function dependencies(name, pattern) {
  const text = await run("apt-cache", ["depends", "--no-recommends", "--no-suggests", name]);
  const names = [...text.matchAll(/Depends: (\S+)/g)].map(([, found = ""]) => found);
  return [...new Set(names.filter((found) => pattern.test(found)))];
}

/**
 * rustup sets the library path to `<toolchain>/lib` and Debian's rustc has no path of its own in it, so all shared
 * libraries go there; the linker goes where rustc looks for `rust-lld`, and cargo is rustup's.
 *
 * @param {string} usr
 */
async function layOut(usr) {
  const lib = join(usr, "lib");
  const host = await hostTriple();
  const multiarch = join(lib, host.replace("-unknown", ""));
  for (const folder of [multiarch, ...(await llvmFolders(lib))]) {
    for (const file of await readdir(folder)) {
      if (file.includes(".so")) await link(join(folder, file), join(lib, file));
    }
  }
  const tools = join(lib, "rustlib", host, "bin");
  await mkdir(tools, { recursive: true });
  await link(await find(join(usr, "bin"), /^lld(-\d+)?$/), join(tools, "rust-lld"));
  await rm(join(usr, "bin", "cargo"), { force: true });
  await link((await run("rustup", ["which", "cargo"])).trim(), join(usr, "bin", "cargo"));
}

async function hostTriple() {
  const host = /^host: (\S+)$/m.exec(await run("rustc", ["-vV"]))?.[1];
  if (!host) throw new SetupError("rustc -vV names no host");
  return host;
}

/** @param {string} lib */
async function llvmFolders(lib) {
  const folders = (await readdir(lib))
    .filter((name) => name.startsWith("llvm-"))
    .map((name) => join(lib, name, "lib"));
  const present = await Promise.all(folders.map(exists));
  return folders.filter((_, i) => present[i]);
}

/** @param {string} folder @param {RegExp} pattern */
async function find(folder, pattern) {
  const name = (await readdir(folder)).find((name) => pattern.test(name));
  if (!name) throw new SetupError(`nothing like ${pattern} in ${folder}`);
  return join(folder, name);
}

/** @param {string} target @param {string} path */
async function link(target, path) {
  if (await exists(path)) return;
  await rm(path, { force: true });
  await symlink(target, path);
}

/**
 * Debian's package has std for the host only. Builds its source for WebAssembly, with bitcode (`lto` needs
 * it), and puts the libraries where rustc looks for a target's.
 *
 * @param {string} folder
 * @param {string} usr
 */
async function buildStd(folder, usr) {
  const work = join(folder, "std");
  await mkdir(join(work, "src"), { recursive: true });
  await writeFile(
    join(work, "Cargo.toml"),
    '[package]\nname = "std-for-wasm"\nversion = "0.0.0"\nedition = "2021"\n',
  );
  // Std's own dependencies are locked by the lock file in its sources.
  await writeFile(
    join(work, "Cargo.lock"),
    'version = 4\n\n[[package]]\nname = "std-for-wasm"\nversion = "0.0.0"\n',
  );
  await writeFile(join(work, "src", "lib.rs"), "#![no_std]\n");
  const sources = await linkSources(usr);
  await run(
    "cargo",
    ["build", "--locked", "--release", "--target", TARGET, "-Zbuild-std=std,panic_abort,test,proc_macro"],
    {
      cwd: work,
      log: join(folder, "std.log"),
      env: {
        RUSTUP_TOOLCHAIN: usr,
        RUSTC_BOOTSTRAP: "1",
        RUSTFLAGS: ["-Cembed-bitcode=yes", ...remapped({ [sources]: "rust" })].join(" "),
        CARGO_TARGET_DIR: join(work, "target"),
      },
    },
  );
  const to = join(usr, "lib", "rustlib", TARGET, "lib");
  await mkdir(to, { recursive: true });
  const from = join(work, "target", TARGET, "release", "deps");
  for (const file of await readdir(from)) {
    if (file.endsWith(".rlib") && !file.startsWith("libstd_for_wasm"))
      await cp(join(from, file), join(to, basename(file)));
  }
  await rm(work, { recursive: true });
}

/**
 * build-std looks for the sources in `lib/rustlib/src/rust`; Debian has them in `src/rustc-<version>`.
 *
 * @param {string} usr
 * @returns {Promise<string>} The path at which build-std looks for them.
 */
async function linkSources(usr) {
  const expected = join(usr, "lib", "rustlib", "src", "rust");
  await mkdir(join(expected, ".."), { recursive: true });
  // Debian's own link is absolute, so its target is outside of the unpacked folder.
  await rm(expected, { force: true, recursive: true });
  await symlink(await find(join(usr, "src"), /^rustc/), expected);
  return expected;
}
