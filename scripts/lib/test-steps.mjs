import { existsSync } from "node:fs";
import { mkdtemp, readdir } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import {
  chromium,
  nodeRuntime,
  npmDependencies,
  OPENCLAW_VERSIONS,
  openclaw,
  wasmToolchain,
  wasmTools,
} from "../setup.mjs";
import { cargoDeny } from "./cargo-deny.mjs";
import { clawhub } from "./clawhub.mjs";
import { collector } from "./collector.mjs";
import { focusValidator } from "./focus-validator.mjs";
import { grafanaSchema } from "./grafana.mjs";
import { litellm } from "./litellm.mjs";
import { buildReceiver, packPlugin } from "./package.mjs";
import { prometheus } from "./prometheus.mjs";
import { SetupError } from "./run.mjs";

const PROJECT = fileURLToPath(new URL("../..", import.meta.url));
const [OLDEST = "", NEWEST = ""] = OPENCLAW_VERSIONS;

/** The preparations of steps, in order. @type {import("./steps.mjs").Preparations} */
export const preparations = {
  npm: npmDependencies,
  wasm: wasmToolchain,
  tools: wasmTools,
  node22: () => nodeRuntime(22),
  node24: () => nodeRuntime(24),
  [OLDEST]: () => openclaw(OLDEST),
  [NEWEST]: () => openclaw(NEWEST),
  chromium,
  clawhub,
  collector,
  litellm,
  prometheus,
  focusValidator,
  grafanaSchema,
  cargoDeny,
};

/** @template T @param {() => Promise<T>} make @returns {() => Promise<T>} */
function once(make) {
  /** @type {Promise<T> | undefined} */
  let made;
  return () => {
    made ??= make();
    return made;
  };
}

const built = once(async () => packPlugin(await mkdtemp(join(tmpdir(), "agentwatch-package-"))));
const receiver = once(buildReceiver);

/** @param {string} folder Below tests/. @returns {Promise<string[]>} Its test files. */
async function testsIn(folder) {
  const path = join(PROJECT, "tests", folder);
  if (!existsSync(path)) return [];
  const names = (await readdir(path)).filter((name) => name.endsWith(".test.mjs"));
  return names.sort().map((name) => join(path, name));
}

/**
 * Node's test runner on a fetched Node: the machine's may be too old for the package.
 *
 * @param {import("./steps.mjs").Command} run
 * @param {22 | 24} major
 * @param {string[]} files
 * @param {Record<string, string>} [env]
 * @param {number} [atOnce] Files that run at the same time; a test with a gateway needs a core.
 */
async function nodeTests(run, major, files, env = {}, atOnce = 1) {
  // Without files the test runner would search the whole project.
  if (files.length === 0) throw new SetupError("there are no such tests");
  // What hangs or leaves something open fails alone, instead of ending the run. Not on Node 22: there the time would be of a whole
  // file, and the unit tests show that they leave nothing open.
  const bounds = major === 24 ? ["--test-timeout=1800000", "--test-force-exit"] : [];
  const flags = ["--test", ...bounds, `--test-concurrency=${atOnce}`, "--test-reporter=spec"];
  await run(await nodeRuntime(major), [...flags, ...files], { env });
}

/** Environment of the end-to-end tests. @param {string} version */
async function wholeWay(version) {
  return {
    AGENTWATCH_TGZ: await built(),
    AGENTWATCH_RECEIVER: await receiver(),
    OPENCLAW_VERSIONS: version,
  };
}

/** Test files with their own steps. */
const OWN_STEP = /(package|latency|brake|clock|durability|otlp|series|ways)\.test\.mjs$/;

/** Tests that do not depend on the gateway's version; they run on the faster one. */
const ON_OLDEST = /(stock|cost|invoice)\.test\.mjs$/;

/** Unit tests of what does not depend on Node, and takes long. */
const ON_ONE_NODE = /(million|upgrade)\.test\.mjs$/;

/** Steps that share a version's files: its gateway is slow, and one step would end long after all others. */
const PARTS = { [NEWEST]: 2 };

/**
 * @param {string} file
 * @param {string} version
 */
function leftOut(file, version) {
  return OWN_STEP.test(file) || (version !== OLDEST && ON_OLDEST.test(file));
}

/** @param {string} tool @param {...string} args */
function tool(tool, ...args) {
  return [join(PROJECT, "node_modules", ...tool.split("/")), ...args];
}

/** @type {import("./steps.mjs").Step[]} */
export const steps = [
  {
    name: "format",
    isQuick: true,
    about: "cargo fmt, biome",
    needs: ["npm"],
    run: async (run) => {
      await run("cargo", ["fmt", "--all", "--check"]);
      await run("cargo", ["fmt", "--manifest-path", "fuzz/Cargo.toml", "--check"]);
      await run(process.execPath, tool("@biomejs/biome/bin/biome", "check", "--error-on-warnings"));
    },
  },
  {
    name: "types",
    isQuick: true,
    about: "the shim and all scripts, strictly",
    needs: ["npm"],
    run: async (run) => {
      await run(process.execPath, tool("typescript/bin/tsc", "-p", "tsconfig.json", "--noEmit"));
      await run(process.execPath, tool("typescript/bin/tsc", "-p", "tsconfig.scripts.json"));
    },
  },
  {
    name: "clippy",
    isQuick: true,
    about: "cargo clippy, every warning an error",
    run: (run) =>
      run("cargo", ["clippy", "--locked", "--workspace", "--all-targets", "--", "-D", "warnings"]),
  },
  {
    name: "rust",
    group: "compile",
    isQuick: true,
    about: "cargo test",
    run: (run) => run("cargo", ["test", "--locked", "--workspace"]),
  },
  {
    name: "fuzz",
    group: "compile",
    about: "a few thousand inputs for each fuzz target, chosen alike each time",
    // A fixed seed: new inputs are for separate runs of `npm run fuzz`.
    run: (run) =>
      run(process.execPath, [join(PROJECT, "scripts", "fuzz.mjs"), "--runs", "2000", "--seed", "1"]),
  },
  {
    name: "build",
    group: "compile",
    about: "build and pack the plugin",
    needs: ["npm", "wasm", "tools"],
    run: async () => {
      await built();
    },
  },
  {
    name: "wasm",
    group: "unit",
    about: "wasm-bindgen's tests",
    needs: ["node24", "wasm", "tools"],
    run: (run) => {
      const module = pathToFileURL(join(PROJECT, "scripts", "lib", "wasm-test.mjs")).href;
      // A separate process, so that the output of the tests is shown.
      return run(process.execPath, ["-e", `import("${module}").then(({ wasmTest }) => wasmTest())`]);
    },
  },
  .../** @type {const} */ ([22, 24]).map((major) => ({
    name: `unit-${major}`,
    // Half of their time they wait.
    group: "unit",
    about: `unit tests on Node ${major}`,
    isQuick: major === 24,
    needs: [`node${major}`, "npm", "wasm", "tools"],
    run: async (/** @type {import("./steps.mjs").Command} */ run) => {
      await built();
      const files = (await testsIn("unit")).filter((file) => major === 22 || !ON_ONE_NODE.test(file));
      await nodeTests(run, major, files, {}, 2);
    },
  })),
  {
    name: "package",
    about:
      "what the package holds, what OpenClaw's install scanners say, and whether npm and ClawHub would publish it",
    needs: ["npm", "node24", "wasm", "tools", "clawhub", OLDEST, NEWEST],
    run: async (run) => {
      const env = { AGENTWATCH_TGZ: await built(), OPENCLAW_VERSIONS: OPENCLAW_VERSIONS.join(",") };
      await nodeTests(run, 24, [join(PROJECT, "tests", "e2e", "package.test.mjs")], env);
    },
  },
  {
    name: "receiver",
    about: "build the receiver",
    run: async () => {
      await receiver();
    },
  },
  {
    name: "times",
    about: "latency and delivery, alone on the machine",
    needs: ["npm", "node22", "node24", "wasm", "tools", OLDEST, NEWEST],
    run: async (run) => {
      const env = await wholeWay(OPENCLAW_VERSIONS.join(","));
      await nodeTests(run, 24, [join(PROJECT, "tests", "e2e", "latency.test.mjs")], env);
    },
  },
  // Long steps first: several run at the same time.
  ...OPENCLAW_VERSIONS.flatMap((version) => {
    const parts = Array.from({ length: PARTS[version] ?? 1 }, (_, part) => part);
    return parts.map((part) => ({
      name: `e2e-${version}${part > 0 ? `-${part + 1}` : ""}`,
      about: `the whole way on OpenClaw ${version}${parts.length > 1 ? `, part ${part + 1} of ${parts.length}` : ""}`,
      group: "gateways",
      needs: ["npm", "node22", "node24", "wasm", "tools", version],
      run: async (/** @type {import("./steps.mjs").Command} */ run) => {
        const files = (await testsIn("e2e")).filter((file) => !leftOut(file, version));
        const own = files.filter((_, index) => index % parts.length === part);
        await nodeTests(run, 24, own, await wholeWay(version));
      },
    }));
  }),
  {
    name: "collector",
    about: `calls and turns in a real OpenTelemetry collector, on OpenClaw ${OLDEST}`,
    group: "gateways",
    needs: ["npm", "node22", "node24", "wasm", "tools", "collector", OLDEST],
    // What crashes may be the collector.
    playsForeign: true,
    run: async (run) =>
      nodeTests(run, 24, [join(PROJECT, "tests", "e2e", "otlp.test.mjs")], await wholeWay(OLDEST)),
  },
  ...[
    { name: "clock", about: "the machine's clock set while a gateway runs and while it is away" },
    { name: "brake", about: "allowances by hooks and by the proxy, with kills between warning and stop" },
  ].map((step) => ({
    ...step,
    group: "gateways",
    needs: ["npm", "node22", "node24", "wasm", "tools", OLDEST, NEWEST],
    run: async (/** @type {import("./steps.mjs").Command} */ run) => {
      const file = join(PROJECT, "tests", "e2e", `${step.name}.test.mjs`);
      await nodeTests(run, 24, [file], await wholeWay(OPENCLAW_VERSIONS.join(",")));
    },
  })),
  ...OPENCLAW_VERSIONS.toReversed().map((version) => ({
    name: `durability-${version}`,
    about: `gateways and receivers killed at random moments, on OpenClaw ${version}`,
    group: "gateways",
    needs: ["npm", "node22", "node24", "wasm", "tools", version],
    run: async (/** @type {import("./steps.mjs").Command} */ run) =>
      nodeTests(run, 24, [join(PROJECT, "tests", "e2e", "durability.test.mjs")], await wholeWay(version)),
  })),
  {
    name: "ledger",
    group: "gateways",
    isQuick: true,
    // The steps of the whole way play it too.
    isOnRequest: true,
    about: `each scenario against the provider's ledger, on OpenClaw ${OLDEST}; only where asked for`,
    needs: ["npm", "node22", "node24", "wasm", "tools", OLDEST],
    run: async (run) =>
      nodeTests(run, 24, [join(PROJECT, "tests", "e2e", "gateway.test.mjs")], await wholeWay(OLDEST)),
  },
  ...OPENCLAW_VERSIONS.map((version) => ({
    name: `ways-${version}`,
    about: `the proxy, LiteLLM and all ways at once, on OpenClaw ${version}${version === OLDEST ? "" : "; only where asked for"}`,
    // These observations do not depend on the gateway; a newer one takes longer.
    isOnRequest: version !== OLDEST,
    group: "gateways",
    needs: ["npm", "node22", "node24", "wasm", "tools", "litellm", version],
    playsForeign: true,
    run: async (/** @type {import("./steps.mjs").Command} */ run) =>
      nodeTests(run, 24, [join(PROJECT, "tests", "e2e", "ways.test.mjs")], await wholeWay(version)),
  })),
  ...OPENCLAW_VERSIONS.map((version) => ({
    name: `series-${version}`,
    about: `the plugin reloaded, updated, switched off and on under load, on OpenClaw ${version}; only where asked for`,
    // A round takes minutes; the durability step also reloads the plugin under load.
    isOnRequest: true,
    needs: ["npm", "node22", "node24", "wasm", "tools", version],
    run: async (/** @type {import("./steps.mjs").Command} */ run) =>
      nodeTests(run, 24, [join(PROJECT, "tests", "e2e", "series.test.mjs")], await wholeWay(version)),
  })),
  {
    name: "monitoring",
    about:
      "Prometheus scrapes the receiver and reads the dashboard and the alert rules; FOCUS's validator reads the costs",
    group: "gateways",
    needs: ["npm", "node24", "wasm", "tools", "prometheus", "focusValidator", "grafanaSchema"],
    run: async (run) => {
      await built();
      await nodeTests(run, 24, await testsIn("tools"), { AGENTWATCH_RECEIVER: await receiver() });
    },
  },
  {
    name: "browser",
    group: "gateways",
    about: `the Models page in Chromium, behind OpenClaw ${NEWEST}`,
    needs: ["npm", "node24", "chromium", "wasm", "tools", NEWEST],
    run: async (run) => nodeTests(run, 24, await testsIn("browser"), await wholeWay(NEWEST)),
  },
  {
    name: "supply",
    group: "gateways",
    about: "what crates and npm packages bring in",
    needs: ["npm", "cargoDeny"],
    run: (run) => run(process.execPath, [join(PROJECT, "scripts", "supply.mjs")]),
  },
  {
    // It builds `dist/` anew, which other steps use.
    name: "demo",
    about: "npm run demo -- --once",
    needs: ["npm", "node24", "wasm", "tools", NEWEST],
    run: (run) => run(process.execPath, [join(PROJECT, "scripts", "demo.mjs"), "--once"]),
  },
];
