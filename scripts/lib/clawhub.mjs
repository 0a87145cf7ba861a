import { join } from "node:path";
import { npmPackages } from "./locks.mjs";

/**
 * ClawHub's own command, which has the Plugin Inspector in it.
 *
 * @returns {Promise<string>} Path of its program, a script for Node.
 */
export async function clawhub() {
  const folder = await npmPackages("clawhub", "tools/clawhub", "install clawhub");
  return join(folder, "node_modules", "clawhub", "bin", "clawdhub.js");
}
