import assert from "node:assert/strict";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { openclawCommand } from "./command.mjs";
import { startWorld, waitForTotals } from "./harness.mjs";
import { binary, skip, tgz, versions } from "./options.mjs";
import { HOST, startPrivateNetwork } from "./private-network.mjs";
import { until } from "./scenarios.mjs";

/**
 * The operator's commands on a real gateway: `openclaw agentwatch …`, `/agentwatch` in the chat, and OpenClaw's own
 * doctors. The gateway is in a private network: AgentWatch has a certificate of the network's own authority, and is behind a proxy. Its
 * token is a reference to a secret, and a setting has a misspelled name.
 */

const SECRET = "operators-secret-4711";

/** @param {string} version */
const monthOf = (version) => Number(version.split(".")[1]);

for (const version of versions) {
  describe(`OpenClaw ${version}, the operator's commands`, { skip }, () => {
    /** @type {import("./harness.mjs").World} */
    let world;
    /** @type {Awaited<ReturnType<typeof startPrivateNetwork>>} */
    let network;
    /** Environment of the gateway's service and of the operator's shell. @type {Record<string, string>} */
    let env = {};
    before(async () => {
      network = await startPrivateNetwork();
      env = {
        ...network.proxied,
        NODE_EXTRA_CA_CERTS: network.authority,
        NODE_USE_ENV_PROXY: "1",
        WATCH_SECRET: SECRET,
      };
      // 2026.9 resolves references for plugins; earlier versions have variables in the configuration.
      const reference = { source: "env", provider: "default", id: "WATCH_SECRET" };
      const token = monthOf(version) >= 9 ? reference : "${WATCH_SECRET}";
      world = await startWorld({
        version,
        tgz,
        // Behind the network's proxy it has another name.
        receiver: { binary, token: SECRET, args: ["--db", ":memory:", "--allow-host", "watch.internal"] },
        pluginConfig: {
          token,
          agentname: "slip",
          allowance: [{ usd: 100, per: "month", then: "warn" }],
        },
        between: async (url) => ({ url: network.setReceiver(url), close: async () => {} }),
        gateway: { env },
      });
    });
    after(async () => {
      await world?.close();
      await network.close();
    });

    /** @param {string[]} words @param {Record<string, string>} [more] */
    const openclaw = (words, more = {}) => openclawCommand(world.gateway, words, { ...env, ...more });
    /** @param {string[]} words @param {Record<string, string>} [more] */
    const findings = async (words, more) => {
      const { code, stdout, all } = await openclaw([...words, "--json"], more);
      const found = /\{"state_dir".*\}/.exec(stdout);
      assert.ok(found, all);
      assert.doesNotMatch(all, new RegExp(SECRET));
      return { code, findings: /** @type {any[]} */ (JSON.parse(found[0]).findings) };
    };
    /** Writes a changed copy of the state directory's configuration. @param {(settings: any) => void} change */
    const changed = async (change) => {
      const { stateDir } = world.gateway;
      const config = JSON.parse(await readFile(join(stateDir, "openclaw.json"), "utf8"));
      change(config.plugins.entries.agentwatch.config);
      const path = join(stateDir, "changed.json");
      // With comments: OpenClaw reads JSON5.
      await writeFile(path, `// by hand\n${JSON.stringify(config)}`);
      return { OPENCLAW_CONFIG_PATH: path };
    };

    test("calls arrive through the proxy, with the token of the reference", {
      timeout: 300_000,
    }, async () => {
      await waitForTotals(world.provider, world.receiver, { settleMs: 0 });
      assert.deepEqual(new Set(network.asked.filter((to) => to.startsWith(HOST))), new Set([`${HOST}:443`]));
    });

    test("a misspelled setting does not stop the gateway, and its log names the right one", () => {
      const log = world.gateway.log.recent();
      assert.match(log, /unknown setting "agentname": did you mean "agentName"\?/);
      assert.doesNotMatch(log, new RegExp(SECRET));
    });

    test("with the name corrected the doctor finds no problem, with comments in the configuration or without", {
      timeout: 300_000,
    }, async () => {
      const mended = await changed(mend);
      const { code, findings: all } = await findings(["agentwatch", "doctor"], mended);
      assert.deepEqual(
        all.filter(({ state }) => state === "trouble"),
        [],
      );
      assert.equal(code, 0);
      assert.ok(all.some(({ check, says }) => check === "receiver" && says.includes("knows record ids")));
      const by = monthOf(version) >= 7 ? "diagnostics and messages" : "messages only";
      assert.ok(all.some(({ check, says }) => check === "diagnostics" && says.includes(`counted by ${by}`)));
    });

    test("the output of openclaw agentwatch status and test", { timeout: 300_000 }, async () => {
      const status = await openclaw(["agentwatch", "status"]);
      assert.match(status.stdout, /calls +2 counted, 2 delivered, 0 waiting/);
      assert.equal(status.code, 0, status.all);
      const marked = await openclaw(["agentwatch", "test"]);
      assert.match(marked.stdout, /ok +test +http\S+ took a health record in \d+ ms and shows it/);
      assert.equal(marked.code, 0, marked.all);
    });

    test("/agentwatch answers in the chat without a model call", { timeout: 300_000 }, async () => {
      const asked = world.provider.totals();
      for (const [message, answer] of /** @type {const} */ ([
        ["/agentwatch", /calls +2 counted, 2 delivered/],
        ["/agentwatch doctor", /did you mean "agentName"\?/],
        [
          "/agentwatch help",
          /\/agentwatch status, \/agentwatch doctor, \/agentwatch test or \/agentwatch allow 1h/,
        ],
      ])) {
        const { done } = await world.gateway.chatSend({ session: "operator", message });
        assert.match(JSON.stringify((await done).message).replaceAll('\\"', '"'), answer, message);
      }
      assert.deepEqual(world.provider.totals(), asked);
    });

    /** The answer to a command in the chat. @param {string} message */
    const chat = async (message) => {
      const { done } = await world.gateway.chatSend({ session: "operator", message });
      return JSON.stringify((await done).message);
    };
    const isLifted = async () => {
      const { stdout } = await openclaw(["agentwatch", "status"]);
      assert.match(stdout, /allowance +100\.00 USD a month, warn/);
      return stdout.includes("lifted until");
    };

    test("/agentwatch allow 1h in the chat lifts the allowances, and allow 0 ends it", {
      timeout: 300_000,
    }, async () => {
      assert.equal(await isLifted(), false);
      assert.match(await chat("/agentwatch allow 1h"), /All calls pass until 20/);
      await until(isLifted, "the lift in the status", 30_000);
      assert.match(await chat("/agentwatch allow 0"), /The allowances hold again/);
      await until(async () => !(await isLifted()), "its end in the status", 30_000);
    });

    // 2026.3.13 has fewer of them, and warns of every plugin.
    const hasDoctors = monthOf(version) >= 9;
    test("OpenClaw's own doctors report nothing about the plugin", {
      skip: !hasDoctors,
      timeout: 300_000,
    }, async () => {
      const mended = await changed(mend);
      const doctor = await openclaw(["plugins", "doctor"], mended);
      const inspected = await openclaw(["plugins", "inspect", "agentwatch", "--json"], mended);
      assert.equal(inspected.code, 0, inspected.all);
      const audit = await openclaw(["security", "audit", "--deep", "--json"], mended);
      const told = JSON.parse(audit.stdout.slice(audit.stdout.indexOf("{")));
      const ours = told.findings.filter((/** @type {unknown} */ one) =>
        /agentwatch/i.test(JSON.stringify(one)),
      );
      assert.deepEqual(
        {
          doctor: complaints(doctor.all),
          inspect: diagnosticsOf(inspected.stdout),
          audit: ours.filter(notOfTheTools),
        },
        { doctor: [], inspect: [], audit: [] },
      );
    });

    test("/agentwatch allow 1h lifts nothing if its sender may give no commands", {
      timeout: 300_000,
    }, async () => {
      const path = join(world.gateway.stateDir, "openclaw.json");
      const config = JSON.parse(await readFile(path, "utf8"));
      config.commands = { ...config.commands, allowFrom: { "*": ["somebody-else"] } };
      await world.gateway.restart(() => writeFile(path, JSON.stringify(config)));
      for (const message of ["/agentwatch", "/agentwatch allow 1h"])
        assert.match(await chat(message), /This command requires authorization/, message);
      assert.equal(await isLifted(), false);
    });
  });
}

/** Settings with the right name. @param {any} settings */
function mend(settings) {
  delete settings.agentname;
}

/** Lines about the plugin. @param {string} text */
function complaints(text) {
  const lines = text.replaceAll("agentwatch-openclaw/openclaw", "").split("\n");
  return lines.filter((line) => /agentwatch/i.test(line));
}

/** @param {string} stdout */
function diagnosticsOf(stdout) {
  const { diagnostics = [], plugin = {} } = JSON.parse(stdout.slice(stdout.indexOf("{")));
  return [...diagnostics, ...(plugin.error ? [plugin.error] : [])];
}

/** A finding about tools names every plugin, and is no finding about this one. @param {any} finding */
function notOfTheTools({ checkId }) {
  return checkId !== "plugins.tools_reachable_permissive_policy";
}
