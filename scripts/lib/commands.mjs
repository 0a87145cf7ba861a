import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const PROJECT = fileURLToPath(new URL("../..", import.meta.url));

/**
 * @typedef {object} Block Shell commands of a document.
 * @property {string} file For example `docs/install.md`.
 * @property {string} heading The heading of its section.
 * @property {string[]} notes Its comment lines.
 * @property {string[]} commands One command line each.
 */

/** The Markdown documents. @returns {Promise<string[]>} Paths below the project. */
export async function documents() {
  const below = async (/** @type {string} */ folder, recursive = true) =>
    (await readdir(join(PROJECT, folder), { recursive }))
      .filter((name) => name.endsWith(".md") && !name.includes("node_modules"))
      .map((name) => join(folder, name));
  const copies = join("examples", "openclaw-hook", "agentwatch");
  const all = [...(await below("", false)), ...(await below("docs")), ...(await below("examples"))];
  return all.filter((name) => !name.startsWith(copies)).sort();
}

/** The blocks marked `sh` of a document. @param {string} file @returns {Promise<Block[]>} */
export async function blocks(file) {
  const text = await readFile(join(PROJECT, file), "utf8");
  /** @type {Block[]} */
  const found = [];
  let heading = "";
  /** @type {string[] | undefined} */
  let lines;
  let fence = "";
  for (const line of text.split("\n")) {
    const mark = /^\s*```(\w*)/.exec(line);
    if (mark && fence) {
      if (lines) found.push({ file, heading, ...parse(lines) });
      [fence, lines] = ["", undefined];
    } else if (mark) {
      fence = "```";
      lines = /^(sh|bash|shell|console)$/.test(mark[1] ?? "") ? [] : undefined;
    } else if (fence) lines?.push(line);
    else heading = /^#+ (.+)$/.exec(line)?.[1] ?? heading;
  }
  return found;
}

/** @param {string[]} lines */
function parse(lines) {
  const whole = lines
    .join("\n")
    .replace(/\s*\\\n\s*/g, " ")
    .split("\n");
  const words = whole.map((line) => line.trim()).filter(Boolean);
  return {
    notes: words.filter((line) => line.startsWith("#")).map((line) => line.replace(/^#+\s*/, "")),
    commands: words.filter((line) => !line.startsWith("#")).map((line) => line.replace(/\s{2,}#.*$/, "")),
  };
}

/**
 * The commands of a section; of several blocks the one for the given version of OpenClaw.
 *
 * @param {string} file
 * @param {string} heading
 * @param {string} [version]
 */
export async function printed(file, heading, version) {
  const of = (await blocks(file)).filter((block) => block.heading === heading);
  const fitting = of.filter(({ notes }) => !version || notes.every((note) => fits(note, version)));
  if (fitting.length === 0) throw new Error(`${file} has no commands under "${heading}"`);
  return fitting.flatMap(({ commands }) => commands);
}

/** Whether a block is for a version, by its note. @param {string} note @param {string} version */
function fits(note, version) {
  const [, later, upTo, from, to] =
    /^OpenClaw (?:(\S+) and later|up to (\S+)|(\S+) to (\S+))$/.exec(note) ?? [];
  const [first, last] = [later ?? from, to ?? upTo];
  return (!first || month(version) >= month(first)) && (!last || month(version) <= month(last));
}

/** @param {string} version For example `2026.9.6`. */
function month(version) {
  const [year = 0, month = 0] = version.split(".").map(Number);
  return year * 12 + month;
}
