// The version is in package.json, the same in all other files, and one command sets it everywhere.
import assert from "node:assert/strict";
import { cpSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";
import { setVersion, stated } from "../../scripts/version.mjs";

const PROJECT = fileURLToPath(new URL("../..", import.meta.url));
const { version } = JSON.parse(readFileSync(join(PROJECT, "package.json"), "utf8"));
const copy = mkdtempSync(join(tmpdir(), "agentwatch-version-"));
after(() => rmSync(copy, { recursive: true, force: true }));

/** Number of times that each file has the version; documents may have it any number of times. */
const TIMES = {
  "package.json": 1,
  "package-lock.json": 2,
  "Cargo.toml": 1,
  "Cargo.lock": 3,
  "fuzz/Cargo.lock": 1,
};

test("every file has the version of package.json", async () => {
  const files = await stated();
  assert.ok(
    files.some(({ file }) => file === "README.md"),
    "the README names the package's file",
  );
  for (const { file, versions } of files) assert.deepEqual([...new Set(versions)], [version], file);
  for (const [file, times] of Object.entries(TIMES))
    assert.equal(files.find((found) => found.file === file)?.versions.length, times, file);
});

test("one command sets it everywhere, and nothing else", async () => {
  const files = (await stated()).map(({ file }) => file);
  for (const file of [...files, "CHANGELOG.md"])
    cpSync(join(PROJECT, file), join(copy, file), { recursive: true });
  const changed = await setVersion("12.34.56", copy);
  assert.deepEqual(changed.sort(), [...new Set([...files, "CHANGELOG.md"])].sort());
  for (const { file, versions } of await stated(copy))
    assert.deepEqual([...new Set(versions)], ["12.34.56"], file);
  for (const file of files) {
    const [before = [], after = []] = [PROJECT, copy].map((folder) =>
      readFileSync(join(folder, file), "utf8").split("\n"),
    );
    for (const [index, line] of before.entries())
      if (line !== after[index]) assert.equal(after[index], line.replaceAll(version, "12.34.56"), file);
  }
  assert.match(
    readFileSync(join(copy, "CHANGELOG.md"), "utf8"),
    /## \[Unreleased\]\n\n## \[12\.34\.56\] - 20\d\d-/,
  );
});

test("an invalid version is refused", async () => {
  await assert.rejects(setVersion("next", dirname(copy)), /"next" is no version such as/);
});
