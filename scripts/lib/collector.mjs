import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { pythonPrograms } from "./python.mjs";

/** The collector's version, and that of OpenTelemetry's own types, by which what it passes on is read. */
const ROTEL_VERSION = "0.0.1a15";
const PROTO_VERSION = "1.45.2";

/**
 * A real OpenTelemetry collector, in a Python environment of its own; some 60 MB.
 *
 * @returns {Promise<{ rotel: string, python: string }>} Its program, and a Python that has OpenTelemetry's types.
 */
export async function collector() {
  const programs = await pythonPrograms(
    `rotel-${ROTEL_VERSION}-${PROTO_VERSION}`,
    `install the collector rotel ${ROTEL_VERSION}`,
    [`rotel==${ROTEL_VERSION}`, `opentelemetry-proto==${PROTO_VERSION}`],
  );
  const python = join(programs, "python3");
  const code = "import os, rotel; print(os.path.join(os.path.dirname(rotel.__file__), 'rotel-agent'))";
  return { python, rotel: execFileSync(python, ["-c", code], { encoding: "utf8" }).trim() };
}
