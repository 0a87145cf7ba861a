import { run, SetupError, which, withProgress } from "./run.mjs";

/** @returns {Promise<string>} Path of a Chromium for the browser tests: Debian's, installed when that is allowed. */
export async function chromium() {
  const found = await installed();
  if (found) return found;
  if (process.getuid?.() !== 0 || !(await which("apt-get"))) {
    throw new SetupError("chromium not found: install it (Debian: apt-get install chromium)");
  }
  await withProgress("install chromium", async () => {
    const env = { DEBIAN_FRONTEND: "noninteractive" };
    await run("apt-get", ["update", "-qq"], { env });
    await run("apt-get", ["install", "-y", "-qq", "--no-install-recommends", "chromium"], { env });
  });
  const path = await installed();
  if (!path) throw new SetupError("chromium was installed but is not on PATH");
  return path;
}

async function installed() {
  return (await which("chromium")) ?? (await which("chromium-browser")) ?? (await which("google-chrome"));
}
