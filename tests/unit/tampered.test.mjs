// The plugin's folder after a full disk, a crash or another program: a damaged file counts as absent, and is reported.
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { hostname, tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { HostFiles, instantiate, openInstallation, visible } from "../../dist/base.js";
import { inWords, readStatus } from "../../dist/pipeline.js";
import { random, until, within } from "./faulty-receiver.mjs";

const CLI = fileURLToPath(new URL("../../dist/cli.js", import.meta.url));
const BASE = new URL("../../dist/base.js", import.meta.url).href;
const root = mkdtempSync(join(tmpdir(), "agentwatch-tampered-"));
after(() => rmSync(root, { recursive: true, force: true }));

const FILES = ["status.json", "owner.json", "installation.json", "store-request.json"];
const DAY_MS = 86_400_000;

let states = 0;
/** @param {Record<string, string>} [files] */
function state(files = {}) {
  states += 1;
  const stateDir = join(root, `state-${states}`);
  const ours = join(stateDir, "agentwatch");
  mkdirSync(join(ours, "journal"), { recursive: true, mode: 0o700 });
  for (const [name, text] of Object.entries(files)) writeFileSync(join(ours, name), text, { mode: 0o600 });
  return { stateDir, ours };
}

/** The end of a command; one that hangs is killed, and has no exit code. @param {...string} args */
async function cli(...args) {
  const env = { PATH: process.env.PATH ?? "", HOME: root };
  const child = spawn(process.execPath, [CLI, ...args], {
    env,
    stdio: ["ignore", "pipe", "pipe"],
    timeout: 60_000,
  });
  let [stdout, stderr] = ["", ""];
  child.stdout.setEncoding("utf8").on("data", (text) => {
    stdout += text;
  });
  child.stderr.setEncoding("utf8").on("data", (text) => {
    stderr += text;
  });
  const [code] = await once(child, "close");
  return { code, stdout, stderr, all: stdout + stderr };
}

/** Makes something other than a file at a path, by its kind. @type {Record<string, (path: string) => void>} */
const INSTEAD = {
  "a named pipe": (path) => void spawnSync("mkfifo", [path]),
  "a folder": (path) => void mkdirSync(path, { mode: 0o700 }),
  "a symbolic link": (path) => symlinkSync("/etc/passwd", path),
  "a symbolic link that dangles": (path) => symlinkSync(join(root, "nowhere"), path),
  "a symbolic link to a device": (path) => symlinkSync("/dev/zero", path),
  "a huge file": (path) => {
    writeFileSync(path, "", { mode: 0o600 });
    truncateSync(path, 2 ** 40);
  },
  "an empty file": (path) => writeFileSync(path, "", { mode: 0o600 }),
};

const TEXTS = [
  "null",
  "[]",
  "7",
  '"x"',
  "{",
  "\0\0\0",
  '{"written_ms":"\\u001b[2J","status":{"url":{"a":1}}}',
];

// -----------------------------------------------------------------------------------------------------------------
// installation.json

test("a damaged identity is replaced once, and reported once", () => {
  const put = [
    ...TEXTS.map((text) => (/** @type {string} */ path) => writeFileSync(path, text)),
    ...Object.values(INSTEAD),
  ];
  for (const damage of put) {
    const { stateDir, ours } = state();
    const file = join(ours, "installation.json");
    damage(file);
    const names = [1, 2].map(() => {
      // Each start is a process.
      const script = `const { openInstallation } = await import("${BASE}"); console.log(JSON.stringify(openInstallation(${JSON.stringify(stateDir)})))`;
      const { stdout, stderr } = spawnSync(process.execPath, ["--input-type=module", "-e", script], {
        encoding: "utf8",
        timeout: 30_000,
      });
      assert.equal(stderr, "", String(damage));
      return JSON.parse(stdout);
    });
    assert.equal(new Set(names.map(({ installation }) => installation)).size, 1, String(damage));
    assert.match(names[0].problem, /installation\.json.*a new name/);
    assert.equal(names[1].problem, undefined);
    assert.equal(statSync(file).mode & 0o777, 0o600);
    const left = readdirSync(ours).filter(
      (name) => name.startsWith("installation") && !name.includes("damaged"),
    );
    assert.deepEqual(left, ["installation.json"]);
  }
  assert.ok(readFileSync("/etc/passwd", "utf8").includes("root"), "what a link leads to is left alone");
});

test("processes that start at once agree on one identity, whether there is none or a damaged one", async () => {
  const script = `const { openInstallation } = await import("${BASE}");
    process.stdin.once("data", () => { console.log(openInstallation(process.argv[1]).installation); process.exit(); });
    console.log("ready");`;
  for (const files of [{}, { "installation.json": "" }, { "installation.json": "null" }]) {
    const { stateDir } = state(/** @type {Record<string, string>} */ (files));
    const children = Array.from({ length: 8 }, () =>
      spawn(process.execPath, ["--input-type=module", "-e", script, stateDir], {
        stdio: ["pipe", "pipe", "inherit"],
      }),
    );
    await within(Promise.all(children.map((child) => once(child.stdout, "data"))), "all are ready");
    const answers = children.map((child) => once(child.stdout, "data"));
    for (const child of children) child.stdin.write("go\n");
    const names = new Set((await within(Promise.all(answers), "all answer")).map(String));
    assert.equal(names.size, 1, [...names].join());
    assert.equal(`${openInstallation(stateDir).installation}\n`, [...names][0]);
  }
});

test("on a full disk the identity lasts for the process, and no damaged file is left", () => {
  const { stateDir, ours } = state();
  // A limit on the size of files makes writes fail as a full disk does.
  const script = `process.on("SIGXFSZ", () => {}); const { openInstallation } = await import("${BASE}");
    const [a, b] = [1, 2].map(() => openInstallation(${JSON.stringify(stateDir)}));
    console.error(JSON.stringify([a, b]));`;
  const command = `ulimit -f 0; exec "$0" --input-type=module -e "$1" 2>&1 >/dev/null | cat`;
  const { stdout } = spawnSync("bash", ["-c", command, process.execPath, script], { encoding: "utf8" });
  const [first, second] = JSON.parse(stdout);
  assert.equal(first.installation, second.installation);
  assert.match(first.problem, /cannot be used \(.*EFBIG.*identities change at each start/);
  assert.deepEqual(readdirSync(ours), ["journal"]);
});

// -----------------------------------------------------------------------------------------------------------------
// The owner of the journal

describe("the owner's process number belongs to another process", { concurrency: true }, () => {
  const other = spawn(process.execPath, ["-e", "setInterval(() => {}, 1000)"], { stdio: "ignore" });
  after(() => other.kill());
  const owner = { pid: other.pid, host: hostname(), started: 12_345, token: "t", role: "gateway" };
  const installation = JSON.stringify({ installation: "g", identityKey: "00".repeat(16) });

  for (const days of [-1, 1, 400]) {
    test(`beside a file dated ${days} days from now, purge removes and status names none`, async () => {
      const { stateDir, ours } = state({
        "owner.json": JSON.stringify(owner),
        "installation.json": installation,
      });
      const date = new Date(Date.now() + days * DAY_MS);
      utimesSync(join(ours, "owner.json"), date, date);
      const { stdout } = await cli("status", "--state-dir", stateDir, "--json");
      assert.equal(JSON.parse(stdout).owner, null);
      const { code, stderr } = await cli("purge", "--yes", "--state-dir", stateDir);
      assert.equal(code, 0, stderr);
      assert.ok(!existsSync(ours));
    });
  }

  for (const [kind, put] of Object.entries({
    "a folder dated in a year": (/** @type {string} */ path) => {
      mkdirSync(path);
      const date = new Date(Date.now() + 365 * DAY_MS);
      utimesSync(path, date, date);
    },
    "a folder with something in it": (/** @type {string} */ path) =>
      mkdirSync(join(path, "x"), { recursive: true }),
    "a file": (/** @type {string} */ path) => writeFileSync(path, ""),
    "a symbolic link": (/** @type {string} */ path) => symlinkSync("/nowhere", path),
  })) {
    test(`${kind} in the place of the take-over folder stops no take-over`, async () => {
      const gone = { ...owner, pid: 2 ** 22 + 1 };
      const { ours } = state({ "owner.json": JSON.stringify(gone) });
      put(join(ours, "owner.json.takeover"));
      const files = new HostFiles(ours);
      /** A new engine of this process. */
      const joined = () => {
        const engine = new (instantiate().Engine)({}, 0, 0);
        return { engine, standing: engine.join(files, "test", false, Date.now(), performance.now()) };
      };
      const { engine, standing } = joined();
      assert.equal(standing, "spool");
      await until(() => engine.takeOver(Date.now(), performance.now()));
      const next = joined();
      assert.equal(next.standing, "owner");
      assert.equal(next.engine.release(), undefined);
      assert.ok(!existsSync(join(ours, "owner.json")));
    });
  }
});

// -----------------------------------------------------------------------------------------------------------------
// Output

/** Control characters except the line's end, and characters that change the direction of text. */
const UNSAFE = /[\0-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069]/;

describe("damaged files", { concurrency: 4 }, () => {
  for (const [kind, put] of Object.entries(INSTEAD)) {
    test(`${kind} in the place of each`, async () => {
      const { stateDir, ours } = state();
      for (const name of FILES) put(join(ours, name));
      for (const command of ["status", "doctor"]) {
        const { code, all } = await cli(command, "--state-dir", stateDir);
        assert.equal(code, 1, all);
        for (const name of FILES)
          assert.ok(all.includes(`${join(ours, name)} `), `${command}, ${name}: ${all}`);
        assert.doesNotMatch(all, /^ +at /m);
      }
    });
  }
  for (const text of TEXTS) {
    test(`${JSON.stringify(text)} in each`, async () => {
      const { stateDir, ours } = state(Object.fromEntries(FILES.map((name) => [name, text])));
      const { code, all } = await cli("status", "--state-dir", stateDir);
      assert.equal(code, 1, all);
      for (const name of FILES)
        assert.match(all, new RegExp(`${join(ours, name)} (is no JSON|does not hold what it should); `));
      assert.doesNotMatch(all, UNSAFE);
    });
  }
});

test("escape sequences of a file and of an argument are escaped", async () => {
  const evil = "\u001b]0;owned\u0007\u001b[2J\u009b31m\u202etxt.exe\r\nok       all is well";
  const { stateDir, ours } = state({
    "status.json": JSON.stringify({
      written_ms: Date.now(),
      status: {
        url: `http://${evil}`,
        last_error: evil,
        counted_by: evil,
        receiver: evil,
        journal_error: evil,
      },
    }),
    "owner.json": JSON.stringify({ pid: 1, host: "elsewhere", started: 1, token: "t", role: evil }),
  });
  writeFileSync(join(ours, "journal", `model-calls-\u001b[2J`), "x");
  mkdirSync(join(ours, "journal", `records-${"\u001b"}[31m`));
  for (const args of [["status"], ["status", "--json"], ["doctor"], ["doctor", "--json"], ["test"]]) {
    const { all } = await cli(...args, "--state-dir", stateDir);
    assert.doesNotMatch(all, UNSAFE, args.join(" "));
    assert.doesNotMatch(all, /^ok +all is well/m);
  }
  for (const args of [["status", evil], ["purge", `--${evil}`], [evil], ["sync", "--since", evil]]) {
    const { all, code } = await cli(
      ...args,
      ...(args[0] === evil ? [] : ["--state-dir", `${stateDir}${evil}`]),
    );
    assert.equal(code, 2, all);
    assert.doesNotMatch(all, UNSAFE, args.join(" "));
  }
});

test("every text becomes visible, and JSON stays equivalent", () => {
  const below = random(14);
  for (let times = 0; times < 2_000; times += 1) {
    const points = Array.from({ length: below(20) }, () => (below(4) ? below(0x3000) : below(0x110000)));
    const text = String.fromCodePoint(...points);
    const shown = visible(text);
    assert.doesNotMatch(shown, /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/u, JSON.stringify(text));
    assert.deepEqual(JSON.parse(visible(JSON.stringify({ [text]: text }))), { [text]: text });
  }
});

test("no document in the place of the status file stops the commands", async () => {
  const below = random(15);
  const { ours } = state();
  const keys = [
    "written_ms",
    "status",
    "url",
    "otlp",
    "metrics",
    "history",
    "since",
    "dropped",
    "waiting",
    "sent",
  ];
  /** @param {number} depth @returns {unknown} */
  const value = (depth) => {
    const kind = below(depth > 3 ? 5 : 8);
    if (kind === 0) return null;
    if (kind === 1) return [0, -1, 1e308, 1.5, 9e15][below(5)];
    if (kind === 2) return ["", "\u001b[2J", "x", "1"][below(4)];
    if (kind === 3) return below(2) === 0;
    if (kind === 4) return below(2) === 0 ? [] : [null];
    return Object.fromEntries(
      Array.from({ length: below(5) }, () => [keys[below(keys.length)], value(depth + 1)]),
    );
  };
  let read = 0;
  for (let times = 0; times < 150; times += 1) {
    const given = times % 2 ? value(0) : { written_ms: 1, status: value(1) };
    writeFileSync(join(ours, "status.json"), JSON.stringify(given));
    const document = await readStatus(ours);
    const told = inWords(document, Date.now()).map(visible).join("\n");
    assert.doesNotMatch(told, UNSAFE, JSON.stringify(given));
    assert.doesNotMatch(told, /NaN|undefined|\[object/, JSON.stringify(given));
    if (document.written_ms !== null) read += 1;
  }
  assert.ok(read > 0 && read < 150, `${read}`);
});

// -----------------------------------------------------------------------------------------------------------------
// Links, and users of files

test("purge removes no link's target, and reports links", async () => {
  const { stateDir, ours } = state({ "installation.json": "{}" });
  const elsewhere = join(root, "elsewhere");
  mkdirSync(elsewhere);
  writeFileSync(join(elsewhere, "thesis.txt"), "mine");
  const linked = join(root, "linked");
  mkdirSync(linked);
  symlinkSync(ours, join(linked, "agentwatch"));
  const told = await cli("purge", "--yes", "--state-dir", linked);
  assert.equal(told.code, 2, told.stderr);
  assert.match(told.stderr, /is a symbolic link to .*state-\d+\/agentwatch.*left alone/);
  assert.ok(existsSync(join(ours, "installation.json")));

  symlinkSync(elsewhere, join(ours, "spool"));
  const { code, stderr } = await cli("purge", "--yes", "--state-dir", stateDir);
  assert.equal(code, 0, stderr);
  assert.match(stderr, /spool was a symbolic link: what it led to is left alone/);
  assert.ok(!existsSync(ours) && existsSync(join(elsewhere, "thesis.txt")));

  for (const put of [
    INSTEAD["a named pipe"],
    INSTEAD["an empty file"],
    INSTEAD["a symbolic link that dangles"],
  ]) {
    const odd = mkdtempSync(join(root, "odd-"));
    put?.(join(odd, "agentwatch"));
    const refused = await cli("purge", "--yes", "--state-dir", odd);
    assert.equal(refused.code, 2, refused.stderr);
    assert.doesNotMatch(refused.stderr, /^removed/m);
  }
});

test("doctor and report name a journal that is no folder", async () => {
  for (const kind of ["a named pipe", "a symbolic link"]) {
    const { stateDir, ours } = state({ "status.json": JSON.stringify({ written_ms: 1, status: {} }) });
    rmSync(join(ours, "journal"), { recursive: true });
    if (kind === "a symbolic link") symlinkSync("journal", join(ours, "journal"));
    else INSTEAD[kind]?.(join(ours, "journal"));
    const doctor = await cli("doctor", "--state-dir", stateDir);
    assert.equal(doctor.code, 1, doctor.all);
    assert.match(doctor.stdout, /trouble +files .*journal is no file, and is left out/);
    const report = await cli("report", "--state-dir", stateDir);
    assert.equal(report.code, 2, report.all);
    assert.match(report.stderr, new RegExp(`agentwatch/journal is ${kind}, not a folder; .*doctor`));
    const status = await cli("status", "--state-dir", stateDir);
    const says = /agentwatch\/journal .*: see that it is a folder that the gateway's user may read/;
    if (kind === "a symbolic link") assert.match(status.all, says);
  }
});

test("the doctor names files that other users own or may write", async () => {
  const { stateDir, ours } = state({ "status.json": JSON.stringify({ written_ms: 1, status: {} }) });
  chmodSync(join(ours, "status.json"), 0o660);
  chmodSync(join(ours, "journal"), 0o777);
  const open = await cli("doctor", "--state-dir", stateDir);
  assert.match(
    open.stdout,
    /trouble +files .*journal, .*status\.json may be written by other users\n.*chmod -R go-w/,
  );
  chmodSync(join(ours, "status.json"), 0o600);
  chmodSync(join(ours, "journal"), 0o700);
  assert.doesNotMatch((await cli("doctor", "--state-dir", stateDir)).stdout, /may be written by other users/);
  if (process.getuid?.() !== 0) return;
  spawnSync("chown", ["65534", join(ours, "status.json")]);
  assert.match((await cli("doctor", "--state-dir", stateDir)).stdout, /status\.json belongs to another user/);
});
