import { mkdir, readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { cached } from "./cache.mjs";
import { exists, run, SetupError, which } from "./run.mjs";

/**
 * LLVM's coverage programs of the compiler's version: rustup's where `llvm-tools` is installed, else Debian's.
 *
 * @returns {Promise<{ bin: string, env: Record<string, string> }>} Their folder, and their environment.
 */
export async function llvmTools() {
  const [sysroot, version] = await Promise.all([run("rustc", ["--print", "sysroot"]), run("rustc", ["-vV"])]);
  const host = /^host: (\S+)$/m.exec(version)?.[1] ?? "";
  const major = /^LLVM version: (\d+)/m.exec(version)?.[1] ?? "";
  const own = join(sysroot.trim(), "lib", "rustlib", host, "bin");
  if (await exists(join(own, "llvm-cov"))) return { bin: own, env: {} };
  if (!(await which("apt-get")))
    throw new SetupError('no llvm-cov here: run "rustup component add llvm-tools"');
  const folder = await cached(
    `tools/llvm-${major}`,
    `fetch LLVM ${major} from Debian's packages`,
    (folder) => fetch(folder, major),
    major,
  );
  const usr = join(folder, "root", "usr");
  const libraries = [join(usr, "lib", host.replace("-unknown", "")), join(usr, "lib")];
  return {
    bin: join(usr, "lib", `llvm-${major}`, "bin"),
    env: { LD_LIBRARY_PATH: libraries.join(":") },
  };
}

/** @param {string} folder @param {string} major */
async function fetch(folder, major) {
  const debs = join(folder, "debs");
  await mkdir(debs);
  await run("apt-get", ["download", `llvm-${major}`, `libllvm${major}`], { cwd: debs });
  for (const file of await readdir(debs)) await run("dpkg", ["-x", join(debs, file), join(folder, "root")]);
  await rm(debs, { recursive: true });
}
