import { join } from "node:path";
import { pythonPrograms } from "./python.mjs";

/** The version with which the endpoint for it is tested. */
const LITELLM_VERSION = "1.108.7";

/**
 * A real LiteLLM proxy; some 750 MB.
 *
 * @returns {Promise<string>} Path of its program.
 */
export async function litellm() {
  const name = `litellm-${LITELLM_VERSION}`;
  const packages = [`litellm[proxy]==${LITELLM_VERSION}`];
  return join(await pythonPrograms(name, `install LiteLLM ${LITELLM_VERSION}`, packages), "litellm");
}
