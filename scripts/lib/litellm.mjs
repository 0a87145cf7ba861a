import { join } from "node:path";
import { cached } from "./cache.mjs";
import { run, SetupError } from "./run.mjs";

/** The version with which the endpoint for it is tested. */
const LITELLM_VERSION = "1.108.7";

/**
 * A real LiteLLM proxy, in a Python environment of its own; some 750 MB.
 *
 * @returns {Promise<string>} Path of its program.
 */
export async function litellm() {
  const folder = await cached(
    `python/litellm-${LITELLM_VERSION}`,
    `install LiteLLM ${LITELLM_VERSION}`,
    async (folder) => {
      const pip = join(folder, "bin", "pip");
      try {
        await run("python3", ["-m", "venv", folder]);
      } catch (error) {
        throw new SetupError(
          `python3 with its module venv is missing: apt-get install python3-venv (${/** @type {Error} */ (error).message})`,
        );
      }
      await run(pip, [
        "install",
        "--quiet",
        "--no-input",
        "--no-compile",
        `litellm[proxy]==${LITELLM_VERSION}`,
      ]);
    },
  );
  return join(folder, "bin", "litellm");
}
