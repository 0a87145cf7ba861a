import { join } from "node:path";
import { pythonPrograms } from "./python.mjs";

/** A real LiteLLM proxy; some 750 MB. @returns {Promise<string>} Path of its program. */
export async function litellm() {
  return join(await pythonPrograms("litellm", "install LiteLLM"), "litellm");
}
