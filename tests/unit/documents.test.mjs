// The documentation: a test runs every command, and every link has a target.
import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { blocks, documents } from "../../scripts/lib/commands.mjs";

const PROJECT = fileURLToPath(new URL("../..", import.meta.url));
const GATEWAYS = "tests/e2e/ways-to-install.mjs";
const PRINTED = "tests/unit/printed.test.mjs";
/** Pictures are in the tree, in bytes. */
const PICTURE_MAX = 200_000;

/**
 * Sections whose commands a test reads from the document and runs. The test names the section.
 *
 * @type {Record<string, Record<string, string>>}
 */
const TYPED = {
  "docs/install.md": {
    "From a file": GATEWAYS,
    "By name, from a registry": GATEWAYS,
    "From a working copy, for developers": GATEWAYS,
    "As a hook's directory": GATEWAYS,
    "The command": GATEWAYS,
  },
  "docs/upgrade.md": {
    "Updating from a file": GATEWAYS,
    "Updating by name": GATEWAYS,
    "Moving from AgentWatch's own hook": GATEWAYS,
    Removing: GATEWAYS,
  },
  "docs/proxy.md": { "The proxy": PRINTED, LiteLLM: PRINTED },
  "docs/sync.md": { "Counting from the session store": PRINTED },
  "docs/ingest.md": { "Counting events of your own programs": PRINTED },
  "docs/invoice.md": { "Comparing a month": "tests/unit/invoice.test.mjs" },
  "docs/report.md": { "What did last night cost?": "tests/unit/report.test.mjs" },
  "docs/remote.md": { "Asking a gateway from afar": "tests/unit/remote.test.mjs" },
};

/**
 * Commands that no test runs literally: the file that runs the same, and a text to find it there.
 *
 * @type {[command: RegExp, file: string, words: string][]}
 */
const OTHERWISE = [
  [/^npm run demo$/, "scripts/lib/test-steps.mjs", 'join(PROJECT, "scripts", "demo.mjs"), "--once"'],
  [/^npm test$/, ".ci/run", "npm test"],
  [/^(npm ci && )?npm run build && npm pack$/, "scripts/lib/package.mjs", '"npm", ["pack"'],
  [
    /^AGENTWATCH_TGZ=.* --test tests\/e2e\/latency\.test\.mjs$/,
    "scripts/lib/test-steps.mjs",
    "latency.test.mjs",
  ],
  [/^npm run build:hook$/, GATEWAYS, "buildHook()"],
  [/^openclaw agentwatch doctor$/, "tests/e2e/operator.test.mjs", '["agentwatch", "doctor"]'],
  [/^openclaw agentwatch status$/, "tests/e2e/operator.test.mjs", '["agentwatch", "status"]'],
  [/^openclaw agentwatch allow 1h$/, "tests/e2e/brake.test.mjs", '["agentwatch", "allow", "1h"]'],
  [/^openclaw agentwatch test$/, "tests/e2e/operator.test.mjs", '["agentwatch", "test"]'],
  [/^agentwatch-openclaw doctor$/, "tests/unit/doctor.test.mjs", 'cli(["doctor"'],
  [/^agentwatch-openclaw purge$/, "tests/unit/purge.test.mjs", "asked at a terminal"],
  [/^cargo run .* --db agentwatch\.db$/, "examples/receiver/tests/support/mod.rs", '"--db"'],
  // There is no Docker in the tests: the file is parsed, and another test runs the command behind `openclaw-cli`.
  [
    /^(docker compose|cp .*agentwatch|echo .*>> \.env$)/,
    "tests/unit/docker.test.mjs",
    "compose.agentwatch.yaml",
  ],
];

const all = (await Promise.all((await documents()).map(blocks))).flat();
const isTyped = (/** @type {import("../../scripts/lib/commands.mjs").Block} */ { file, heading }) =>
  TYPED[file]?.[heading] !== undefined;
const typed = new Set(all.filter(isTyped).flatMap(({ commands }) => commands));

describe("the documentation's commands", () => {
  test("exist", () => {
    assert.ok(all.length > 10, `${all.length} blocks`);
    assert.ok(typed.size > 10, `${typed.size} commands that are typed`);
  });

  for (const { file, heading, commands } of all)
    for (const command of commands)
      test(`${file}: ${command}`, () => {
        if (typed.has(command)) return;
        const otherwise = OTHERWISE.find(([pattern]) => pattern.test(command));
        assert.ok(
          otherwise,
          `no test runs "${command}" (section "${heading}"): type its section in one, or say what runs it instead`,
        );
      });

  for (const [file, sections] of Object.entries(TYPED))
    for (const [heading, by] of Object.entries(sections))
      test(`${by} types "${heading}" of ${file}`, () => {
        assert.ok(
          all.some((block) => block.file === file && block.heading === heading),
          "the section is there",
        );
        const source = readFileSync(join(PROJECT, by), "utf8");
        assert.ok(source.includes(`"${heading}"`) && source.includes(`"${file}"`));
      });

  for (const [pattern, file, words] of OTHERWISE)
    test(`${pattern} is run by ${file}`, () => {
      assert.ok(
        all.some(({ commands }) => commands.some((command) => pattern.test(command))),
        "no document has it any more",
      );
      assert.ok(readFileSync(join(PROJECT, file), "utf8").includes(words), words);
    });
});

describe("the documentation's links", async () => {
  for (const file of await documents())
    test(file, () => {
      const text = readFileSync(join(PROJECT, file), "utf8").replace(/```[\s\S]*?```/g, "");
      for (const [, target = ""] of text.matchAll(/\]\(([^)\s]+)\)/g)) {
        if (/^[a-z]+:/.test(target)) continue;
        const [path = "", anchor] = target.split("#");
        const found = path ? join(PROJECT, dirname(file), path) : join(PROJECT, file);
        assert.ok(existsSync(found), `${target} is not there`);
        if (anchor)
          assert.ok(anchors(readFileSync(found, "utf8")).includes(anchor), `${target}: no such heading`);
      }
    });
});

describe("the comparison with other tools", () => {
  const text = readFileSync(join(PROJECT, "docs/comparison.md"), "utf8");
  const [tables = "", sources = ""] = text.split("## Sources");
  const listed = [...sources.matchAll(/^(\d+)\. /gm)].map(([, number]) => Number(number));

  test("has each source that a cell names, with a link, and no other", () => {
    const named = new Set([...tables.matchAll(/\[(\d+)\](?!\()/g)].map(([, number]) => Number(number)));
    assert.deepEqual(
      [...named].sort((a, b) => a - b),
      listed,
    );
    for (const source of sources.split(/^\d+\. /m).slice(1)) assert.match(source, /\]\(https:\/\//, source);
  });

  test("has a source in each cell: a number, or of this plugin a page or a test", () => {
    const rows = tables.split("\n").filter((line) => /^\| (?!tool \||---)/.test(line));
    assert.ok(rows.length > 20, `${rows.length} rows`);
    for (const row of rows) {
      const source = /^\| \**agentwatch-openclaw\b/.test(row) ? /\]\([^)]+\)\) $/ : /^ $|\[\d+\] ?(;|$)/;
      for (const cell of row.split("|").slice(2, -1))
        assert.match(cell, source, `"${cell.trim()}" in ${row.slice(0, 40)} …`);
    }
  });
});

test("each picture is shown by a page, and is small", async () => {
  const pages = (await documents()).map((file) => readFileSync(join(PROJECT, file), "utf8"));
  for (const name of readdirSync(join(PROJECT, "docs/images"))) {
    assert.ok(
      pages.some((page) => page.includes(`images/${name}`)),
      `no page shows ${name}`,
    );
    const { size } = statSync(join(PROJECT, "docs/images", name));
    assert.ok(size < PICTURE_MAX, `${name}: ${size} bytes, more than ${PICTURE_MAX}`);
  }
});

/** The anchors of headings in rendered Markdown. @param {string} text */
function anchors(text) {
  return [...text.matchAll(/^#+ (.+)$/gm)].map(([, heading = ""]) =>
    heading
      .toLowerCase()
      .replace(/[^\p{L}\p{N} _-]/gu, "")
      .replaceAll(" ", "-"),
  );
}
