import { mkdir, readFile, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { cached } from "./cache.mjs";
import { nodeRuntime, npmInstall } from "./node-runtime.mjs";
import { exists, pathWith } from "./run.mjs";

/** Those that the plugin is known to work with, one of each generation. */
export const VERSIONS = ["2026.3.13", "2026.5.28", "2026.6.11", "2026.7.1", "2026.8.2", "2026.9.6"];

/**
 * The Node that a version of OpenClaw wants: from 2026.6 on 24.16 or later, before that 22.16 or later.
 *
 * @param {string} version
 * @returns {22 | 24}
 */
export function nodeFor(version) {
  const [year = 0, month = 0] = version.split(".").map(Number);
  return year > 2026 || (year === 2026 && month >= 6) ? 24 : 22;
}

/**
 * @param {string} version For example `2026.9.6`.
 * @returns {Promise<string>} Path of `openclaw.mjs`.
 */
export async function openclaw(version) {
  const node = await nodeRuntime(nodeFor(version));
  const folder = await cached(
    `openclaw/${version}`,
    `install OpenClaw ${version}`,
    async (folder) => {
      const overrides = await libsignalStub(folder);
      await npmInstall(folder, { openclaw: version }, { overrides, env: { PATH: pathWith(dirname(node)) } });
    },
    (folder) => isWhole(folder, version),
  );
  // One that was installed with an older stub gets the new one: npm linked it.
  if (await exists(join(folder, "libsignal-stub"))) await libsignalStub(folder);
  return join(folder, "node_modules", "openclaw", "openclaw.mjs");
}

/**
 * npm writes `.package-lock.json` as its last act, so the folder it is in is complete.
 *
 * @param {string} folder
 * @param {string} version
 */
async function isWhole(folder, version) {
  const modules = join(folder, "node_modules");
  if (!(await exists(join(modules, ".package-lock.json")))) return false;
  const manifest = JSON.parse(await readFile(join(modules, "openclaw", "package.json"), "utf8"));
  return manifest.version === version;
}

/**
 * OpenClaw's WhatsApp channel up to 2026.4 depends on `libsignal` by its git address, which many networks do not reach.
 * Nothing here uses WhatsApp, so an empty package takes its place. Versions that do not have it ignore the override.
 *
 * @param {string} folder
 */
async function libsignalStub(folder) {
  const stub = join(folder, "libsignal-stub");
  await mkdir(join(stub, "src"), { recursive: true });
  await writeFile(
    join(stub, "package.json"),
    JSON.stringify({ name: "libsignal", version: "2.0.1", main: "index.js" }),
  );
  // `openclaw agent` loads every channel, and imports these by name.
  const files = {
    "index.js": [],
    "src/curve.js": ["calculateSignature", "generateKeyPair", "verifySignature"],
    "src/crypto.js": ["calculateMAC", "decrypt", "deriveSecrets", "encrypt"],
  };
  for (const [file, names] of Object.entries(files)) {
    const text = ["module.exports = {};", ...names.map((name) => `module.exports.${name} = () => {};`)];
    await writeFile(join(stub, file), `${text.join("\n")}\n`);
  }
  return { libsignal: "file:./libsignal-stub" };
}
