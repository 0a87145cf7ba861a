import { execFile, execFileSync } from "node:child_process";
import { join } from "node:path";
import { pythonPrograms } from "./python.mjs";

/** The newest version of FOCUS whose rules the package brings along; it would fetch those of later ones from GitHub. */
export const FOCUS_RULES = "1.2";

/**
 * The FinOps Foundation's validator of FOCUS files; some 540 MB.
 *
 * @returns {Promise<(file: string) => Promise<string>>} Validates a CSV file, and gives the report.
 */
export async function focusValidator() {
  const programs = await pythonPrograms("focus-validator", "install the FOCUS validator", 12);
  const where =
    "import os, focus_validator; print(os.path.dirname(os.path.dirname(focus_validator.__file__)))";
  const cwd = execFileSync(join(programs, "python3"), ["-c", where], { cwd: programs, encoding: "utf8" });
  const args = ["--block-download", "--show-violations", "--validate-version", FOCUS_RULES, "--data-file"];
  return (file) =>
    new Promise((resolve, reject) => {
      // It looks for its list of currencies from its own folder.
      const options = { cwd: cwd.trim(), timeout: 120_000, maxBuffer: 64 << 20 };
      execFile(join(programs, "focus-validator"), [...args, file], options, (error, stdout, stderr) => {
        // The status is 1 where rules fail; the report says which.
        if (/^Total: /m.test(stdout)) resolve(stdout);
        else reject(new Error(`the FOCUS validator made no report: ${error?.message}\n${stderr}`));
      });
    });
}
