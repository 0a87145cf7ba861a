import { join } from "node:path";
import { cached } from "./cache.mjs";
import { run, SetupError } from "./run.mjs";

/** The collector's version, and that of OpenTelemetry's own types, by which what it passes on is read. */
const ROTEL_VERSION = "0.0.1a15";
const PROTO_VERSION = "1.45.2";

/**
 * A real OpenTelemetry collector, in a Python environment of its own; some 60 MB.
 *
 * @returns {Promise<{ rotel: string, python: string }>} Its program, and a Python that has OpenTelemetry's types.
 */
export async function collector() {
  const name = `python/rotel-${ROTEL_VERSION}-${PROTO_VERSION}`;
  const folder = await cached(name, `install the collector rotel ${ROTEL_VERSION}`, async (folder) => {
    try {
      await run("python3", ["-m", "venv", folder]);
    } catch (error) {
      throw new SetupError(
        `python3 with its module venv is missing: apt-get install python3-venv (${/** @type {Error} */ (error).message})`,
      );
    }
    const wanted = [`rotel==${ROTEL_VERSION}`, `opentelemetry-proto==${PROTO_VERSION}`];
    await run(join(folder, "bin", "pip"), ["install", "--quiet", "--no-input", "--no-compile", ...wanted]);
  });
  const python = join(folder, "bin", "python3");
  const code = "import os, rotel; print(os.path.join(os.path.dirname(rotel.__file__), 'rotel-agent'))";
  const { execFileSync } = await import("node:child_process");
  return { python, rotel: execFileSync(python, ["-c", code], { encoding: "utf8" }).trim() };
}
