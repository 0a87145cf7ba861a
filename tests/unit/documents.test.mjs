// The documentation: every command in it is run by a test, and every link leads somewhere.
import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { blocks, documents } from "../../scripts/lib/commands.mjs";

const PROJECT = fileURLToPath(new URL("../..", import.meta.url));
const GATEWAYS = "tests/e2e/ways-to-install.mjs";
const PRINTED = "tests/unit/printed.test.mjs";

/**
 * Sections whose commands a test takes from the document and types, on real gateways or as processes of their own. The
 * test names the section.
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
  "docs/remote.md": { "Asking a gateway from afar": "tests/unit/remote.test.mjs" },
};

/**
 * Commands that no test types as they stand: what runs the same, and the words by which to find it there.
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
  [/^openclaw agentwatch test$/, "tests/e2e/operator.test.mjs", '["agentwatch", "test"]'],
  [/^agentwatch-openclaw doctor$/, "tests/unit/doctor.test.mjs", 'cli(["doctor"'],
  [/^agentwatch-openclaw purge$/, "tests/unit/purge.test.mjs", "asked at a terminal"],
  [/^cargo run .* --db agentwatch\.db$/, "examples/receiver/tests/support/mod.rs", '"--db"'],
  // There is no Docker where this is tested: the file is read, and what is behind `openclaw-cli` is typed elsewhere.
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
  test("are there", () => {
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

/** The anchors that headings have where Markdown is shown. @param {string} text */
function anchors(text) {
  return [...text.matchAll(/^#+ (.+)$/gm)].map(([, heading = ""]) =>
    heading
      .toLowerCase()
      .replace(/[^\p{L}\p{N} _-]/gu, "")
      .replaceAll(" ", "-"),
  );
}
