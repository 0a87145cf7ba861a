import { readdir, readFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { run, SetupError } from "./run.mjs";

const PROJECT = fileURLToPath(new URL("../..", import.meta.url));
const TARGET = "wasm32-unknown-unknown";
const MIT_BEGINS = "Permission is hereby granted, free of charge";

/** Compiled code that is no crate of `Cargo.lock`: the standard library and its dependencies. */
const STANDARD_LIBRARY = [
  [
    "The Rust standard library (core, alloc, std, compiler-builtins, libm)",
    "Copyright (c) The Rust Project Developers",
  ],
  ["cfg-if, dlmalloc, of the standard library", "Copyright (c) 2014 Alex Crichton"],
  ["hashbrown, of the standard library", "Copyright (c) 2016 Amanieu d'Antras"],
];

/** Crates that are not linked, but whose data is in `prices.br`. */
const DATA = ["genai-prices"];

/**
 * @typedef {object} Crate As `cargo metadata` tells.
 * @property {string} id
 * @property {string} name
 * @property {string} version
 * @property {string | null} license
 * @property {string | null} source
 * @property {string[]} authors
 * @property {string} manifest_path
 * @property {{ kind: string[] }[]} targets
 */

/**
 * The licences of all code that is compiled into the package: MIT wherever it is a choice, else Apache-2.0.
 *
 * @throws SetupError for another licence
 *
 * @returns {Promise<string>}
 */
export async function thirdPartyLicences() {
  const crates = await linked();
  /** @type {[what: string, notice: string][]} */
  const mit = [];
  /** @type {string[]} */
  const others = [];
  /** @type {string | undefined} */
  let text;
  for (const crate of crates) {
    const name = `${crate.name} ${crate.version}`;
    const files = await licenceFiles(crate);
    if (crate.license === "Apache-2.0") {
      const [file] = files;
      if (!file) throw new SetupError(`${name} has no text of its licence ${crate.license}`);
      others.push(`${name}: ${crate.license}\n\n${file.text.trim()}`);
      continue;
    }
    if (!/\bMIT\b/.test(crate.license ?? ""))
      throw new SetupError(`${name} has the licence ${crate.license}: see whether the package may have it`);
    const found = files.find(({ text }) => text.includes(MIT_BEGINS));
    text ??= found && permission(found.text);
    mit.push([name, notice(crate, found?.text)]);
    // `AND` is no choice: both licences apply.
    for (const part of (crate.license ?? "").split(" AND ").filter((part) => !/\bMIT\b/.test(part))) {
      const file = files.find(({ name }) =>
        name.toLowerCase().includes(part.split("-")[0]?.toLowerCase() ?? ""),
      );
      if (!file) throw new SetupError(`${name} has no text of its licence ${part}`);
      others.push(`${name}, in part: ${part}\n\n${file.text.trim()}`);
    }
  }
  for (const [what = "", holder = ""] of STANDARD_LIBRARY) mit.push([what, holder]);
  const list = mit.map(([what, notice]) => `${what}\n${notice.replace(/^/gm, "    ")}`).join("\n");
  const head = `agentwatch.wasm has the following compiled into it, and glue.js was made by
wasm-bindgen. prices.br is made of the data of ${DATA.join(", ")}. Made by the build.`;
  const parts = [head, `The MIT License\n\n${list}\n\n${text}`, ...others];
  return `${parts.join(`\n\n${"-".repeat(80)}\n\n`)}\n`;
}

/** The metadata of the workspace for a platform. @param {string} platform @returns {Promise<{ packages: Crate[], resolve: any }>} */
async function metadata(platform) {
  const args = ["metadata", "--format-version", "1", "--locked", "--filter-platform", platform];
  return JSON.parse(await run("cargo", args, { cwd: PROJECT }));
}

/** The crates that are linked into the module, sorted; without build scripts and macros. @returns {Promise<Crate[]>} */
async function linked() {
  const { packages, resolve } = await metadata(TARGET);
  const crates = new Map(packages.map((crate) => [crate.id, crate]));
  /** @type {Map<string, { pkg: string, dep_kinds: { kind: string | null }[] }[]>} */
  const deps = new Map(resolve.nodes.map((/** @type {any} */ { id, deps }) => [id, deps]));
  const isCode = (/** @type {string} */ id) =>
    !crates.get(id)?.targets.some(({ kind }) => kind.includes("proc-macro"));
  const root = packages.find(({ name, source }) => name === "agentwatch-openclaw" && !source);
  if (!root) throw new SetupError("cargo metadata does not know the core");
  const found = new Set([root.id]);
  for (const id of found)
    for (const { pkg, dep_kinds } of deps.get(id) ?? [])
      if (dep_kinds.some(({ kind }) => kind === null) && isCode(pkg)) found.add(pkg);
  found.delete(root.id);
  // The metadata has the features of the whole workspace: crates that only another program's features need are removed.
  const tree = [
    "tree",
    "--locked",
    "-p",
    root.name,
    "--target",
    TARGET,
    "-e",
    "normal",
    "--prefix",
    "none",
    "-f",
    "{p}",
  ];
  const own = new Set(
    (await run("cargo", tree, { cwd: PROJECT })).split("\n").map((line) => line.split(" ", 2).join(" ")),
  );
  for (const id of found)
    if (!own.has(`${crates.get(id)?.name} v${crates.get(id)?.version}`)) found.delete(id);
  // Only the tests depend on it, and they run on the host.
  const host = /^host: (.+)$/m.exec(await run("rustc", ["-vV"]))?.[1] ?? "";
  const data = (await metadata(host)).packages.filter(({ name }) => DATA.includes(name));
  return [...[...found].flatMap((id) => crates.get(id) ?? []), ...data].sort((a, b) =>
    a.name.localeCompare(b.name, "en"),
  );
}

/** @param {Crate} crate */
async function licenceFiles({ manifest_path }) {
  const folder = dirname(manifest_path);
  const names = (await readdir(folder)).filter((name) => /^(licen[cs]e|copying|unlicense)/i.test(name));
  return Promise.all(
    names.sort().map(async (name) => ({ name, text: await readFile(join(folder, name), "utf8") })),
  );
}

/** The copyright lines of a crate's licence file; without any, its authors. */
function notice(/** @type {Crate} */ { name, authors }, /** @type {string | undefined} */ text = "") {
  const lines = text.slice(0, Math.max(text.indexOf(MIT_BEGINS), 0)).match(/^.*copyright.*$/gim) ?? [];
  if (lines.length > 0) return lines.map((line) => line.trim()).join("\n");
  const people = authors.map((author) => author.replace(/\s*<.*>/, ""));
  return `Copyright (c) ${people.join(", ") || `the authors of ${name}`}`;
}

/** The permission text of the MIT licence, without the copyright line. @param {string} text */
function permission(text) {
  return text.slice(text.indexOf(MIT_BEGINS)).trim();
}
