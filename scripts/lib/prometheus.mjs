import { mkdir, readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { cached } from "./cache.mjs";
import { run, SetupError, say, which } from "./run.mjs";

/**
 * Prometheus and its promtool from Debian's package, unpacked below the cache: no root, and no service that starts. apt
 * compares the package with Debian's signatures. They need nothing but the C library.
 *
 * @returns {Promise<{ prometheus: string, promtool: string }>} Their paths.
 */
export async function prometheus() {
  const folder = await cached("prometheus", "unpack Debian's Prometheus", unpack, "Debian's, 1");
  const path = (/** @type {string} */ name) => join(folder, "root", "usr", "bin", name);
  return { prometheus: path("prometheus"), promtool: path("promtool") };
}

/** @param {string} folder */
async function unpack(folder) {
  if (!(await which("apt-get")) || !(await which("dpkg"))) {
    throw new SetupError("no apt-get here: Prometheus comes from Debian's package, on Debian 12 or later");
  }
  if (process.getuid?.() === 0)
    await run("apt-get", ["update", "-qq"]).catch(() => say("apt-get update failed; going on"));
  const debs = join(folder, "debs");
  await mkdir(debs);
  await run("apt-get", ["download", "prometheus"], { cwd: debs });
  for (const file of await readdir(debs)) await run("dpkg", ["-x", join(debs, file), join(folder, "root")]);
  await rm(debs, { recursive: true });
}
