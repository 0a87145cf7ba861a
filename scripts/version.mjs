#!/usr/bin/env node
// The version is in package.json. `node scripts/version.mjs 0.2.0` sets it there and in all other files, and adds it to the
// changelog; without an argument it prints the version in each file.
import { readdir, readFile, writeFile } from "node:fs/promises";
import { join, relative } from "node:path";
import { fileURLToPath } from "node:url";

const PROJECT = fileURLToPath(new URL("..", import.meta.url));
const SHAPE = /^\d+\.\d+\.\d+(?:-[0-9A-Za-z.-]+)?$/;

/** Files with the version; the User-Agent and OTLP's version come from Cargo. @type {[file: string, RegExp][]} */
const PLACES = [
  ["package.json", /(?<=^ {2}"version": ")[^"]+/gm],
  ["package-lock.json", /(?<="name": "agentwatch-openclaw",\n +"version": ")[^"]+/g],
  ["Cargo.toml", /(?<=^\[workspace\.package\]\nversion = ")[^"]+/gm],
  ["Cargo.lock", /(?<=^name = "agentwatch-(?:bench|openclaw|receiver)"\nversion = ")[^"]+/gm],
  ["fuzz/Cargo.lock", /(?<=^name = "agentwatch-openclaw"\nversion = ")[^"]+/gm],
];

/** The name of the package's file in the documentation. */
const IN_DOCUMENTS = /(?<=agentwatch-openclaw-)\d+\.\d+\.\d+[\w.-]*?(?=\.tgz)/g;

/**
 * @param {string} project
 * @returns {Promise<[file: string, pattern: RegExp, text: string][]>} All files with the version.
 */
async function files(project) {
  const folders = [project, join(project, "docs"), join(project, "examples")];
  const names = await Promise.all(
    folders.map(async (folder) =>
      (await readdir(folder, { recursive: folder !== project }).catch(() => []))
        .filter((name) => name.endsWith(".md"))
        .map((name) => relative(project, join(folder, name))),
    ),
  );
  /** @type {[string, RegExp][]} */
  const documents = names.flat().map((name) => [name, IN_DOCUMENTS]);
  const all = await Promise.all(
    [...PLACES, ...documents].map(
      async ([file, pattern]) =>
        /** @type {[string, RegExp, string]} */ ([
          file,
          pattern,
          await readFile(join(project, file), "utf8"),
        ]),
    ),
  );
  return all.filter(
    ([file, pattern, text]) => PLACES.some(([place]) => place === file) || text.search(pattern) >= 0,
  );
}

/**
 * @param {string} [project]
 * @returns {Promise<{ file: string, versions: string[] }[]>} The versions in each file.
 */
export async function stated(project = PROJECT) {
  return (await files(project)).map(([file, pattern, text]) => ({
    file,
    versions: text.match(pattern) ?? [],
  }));
}

/**
 * @param {string} version
 * @param {string} [project]
 * @returns {Promise<string[]>} The files that were changed.
 */
export async function setVersion(version, project = PROJECT) {
  if (!SHAPE.test(version)) throw new Error(`"${version}" is no version such as 0.2.0 or 0.2.0-beta.1`);
  const changed = [];
  for (const [file, pattern, text] of await files(project)) {
    await writeFile(join(project, file), text.replace(pattern, version));
    changed.push(file);
  }
  const log = join(project, "CHANGELOG.md");
  const text = await readFile(log, "utf8");
  if (!text.includes(`## [${version}]`)) {
    const today = new Date().toISOString().slice(0, 10);
    await writeFile(
      log,
      text.replace("## [Unreleased]\n", `## [Unreleased]\n\n## [${version}] - ${today}\n`),
    );
    changed.push("CHANGELOG.md");
  }
  return changed;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [version] = process.argv.slice(2);
  try {
    if (version) console.log(`${version} is now in ${(await setVersion(version)).join(", ")}`);
    else for (const { file, versions } of await stated()) console.log(`${file}: ${versions.join(", ")}`);
  } catch (error) {
    console.error(/** @type {Error} */ (error).message);
    process.exitCode = 1;
  }
}
