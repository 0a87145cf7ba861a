// The command `purge`: it removes the state of an uninstalled plugin, nothing else, and only after a confirmation.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { hostname, tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import { fileURLToPath } from "node:url";

const CLI = fileURLToPath(new URL("../../dist/cli.js", import.meta.url));
const root = mkdtempSync(join(tmpdir(), "agentwatch-purge-"));
after(() => rmSync(root, { recursive: true, force: true }));

/** This process as the owner of a folder. */
const OWNER = {
  pid: process.pid,
  host: hostname(),
  started: performance.timeOrigin,
  token: "t",
  role: "gateway",
};

let states = 0;
/** A state directory with a gateway's configuration and the plugin's folder. @param {Record<string, string>} [files] */
function state(files = { "installation.json": "{}" }) {
  states += 1;
  const stateDir = join(root, `state-${states}`);
  const ours = join(stateDir, "agentwatch");
  mkdirSync(join(ours, "journal"), { recursive: true });
  for (const [name, text] of Object.entries(files)) writeFileSync(join(ours, name), text);
  writeFileSync(join(stateDir, "openclaw.json"), "{}");
  return { stateDir, ours };
}

/** @param {string} stateDir @param {...string} more */
function purge(stateDir, ...more) {
  const args = [CLI, "purge", "--state-dir", stateDir, ...more];
  const { stderr, status } = spawnSync(process.execPath, args, { encoding: "utf8" });
  return { stderr, code: status };
}

describe("purge", () => {
  test("with --yes removes only the plugin's folder", () => {
    const { stateDir, ours } = state();
    const { stderr, code } = purge(stateDir, "--yes");
    assert.equal(code, 0, stderr);
    assert.ok(stderr.includes(ours) && stderr.includes("not sent: none"), stderr);
    assert.deepEqual(readdirSync(stateDir), ["openclaw.json"]);
  });

  test("removes nothing without a terminal to confirm at", () => {
    const { stateDir, ours } = state();
    const { stderr, code } = purge(stateDir);
    assert.equal(code, 1, stderr);
    assert.match(stderr, /use --yes\nnothing was removed/);
    assert.ok(existsSync(ours));
  });

  const noTerminal = spawnSync("script", ["--version"]).status !== 0 && "script (util-linux) is not here";
  for (const [answer, code] of /** @type {const} */ ([
    ["n", 1],
    ["", 1],
    ["y", 0],
  ])) {
    test(`asked at a terminal and answered "${answer}"`, { skip: noTerminal }, () => {
      const { stateDir, ours } = state();
      const command = [process.execPath, CLI, "purge", "--state-dir", stateDir].join(" ");
      const { status, stdout } = spawnSync("script", ["-qec", command, "/dev/null"], {
        input: `${answer}\n`,
        encoding: "utf8",
      });
      assert.match(stdout, /not sent yet: none\)\? \[y\/N\]/);
      assert.equal(status, code, stdout);
      assert.equal(existsSync(ours), code !== 0);
    });
  }

  test("removes nothing that a process uses, and names the process", () => {
    const { stateDir, ours } = state({ "installation.json": "{}", "owner.json": JSON.stringify(OWNER) });
    const { stderr, code } = purge(stateDir, "--yes");
    assert.equal(code, 2, stderr);
    assert.match(stderr, new RegExp(`in use by gateway \\(process ${process.pid} on .*\\): stop it first`));
    assert.ok(existsSync(ours));
  });

  test("does not remove another program's folder of that name", () => {
    const { stateDir, ours } = state({ "thesis.txt": "mine" });
    rmSync(join(ours, "journal"), { recursive: true });
    const { stderr, code } = purge(stateDir, "--yes");
    assert.equal(code, 2, stderr);
    assert.match(stderr, /nothing that the plugin made/);
    assert.deepEqual(readdirSync(ours), ["thesis.txt"]);
  });

  test("reports where there is nothing to remove", () => {
    const { stderr, code } = purge(join(root, "nowhere"), "--yes");
    assert.equal(code, 2, stderr);
    assert.match(stderr, /nothing to remove in .*nowhere/);
  });

  test("refuses an unknown option", () => {
    const { stateDir, ours } = state();
    const { stderr, code } = purge(stateDir, "--force");
    assert.equal(code, 2, stderr);
    assert.match(stderr, /--force/);
    assert.ok(existsSync(ours));
  });

  test("removes the folders of sync --gateway, and not those of a running one", () => {
    const { stateDir, ours } = state({});
    rmSync(join(ours, "journal"), { recursive: true });
    const own = join(ours, "gateways", "gate_18789", "agentwatch");
    mkdirSync(own, { recursive: true });
    writeFileSync(join(own, "owner.json"), JSON.stringify({ ...OWNER, role: "sync" }));
    const running = purge(stateDir, "--yes");
    assert.deepEqual([running.code, existsSync(own)], [2, true], running.stderr);
    assert.match(running.stderr, /gate_18789.* is in use by sync/);
    rmSync(join(own, "owner.json"));
    const { code, stderr } = purge(stateDir, "--yes");
    assert.deepEqual([code, existsSync(ours)], [0, false], stderr);
  });
});
