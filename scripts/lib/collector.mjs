import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { pythonPrograms } from "./python.mjs";

/**
 * A real OpenTelemetry collector, in a Python environment of its own; some 60 MB.
 *
 * @returns {Promise<{ rotel: string, python: string }>} Its program, and a Python with OpenTelemetry's types, which
 *   reads its exports.
 */
export async function collector() {
  const programs = await pythonPrograms("rotel", "install the collector rotel");
  const python = join(programs, "python3");
  const code = "import os, rotel; print(os.path.join(os.path.dirname(rotel.__file__), 'rotel-agent'))";
  return { python, rotel: execFileSync(python, ["-c", code], { encoding: "utf8" }).trim() };
}
