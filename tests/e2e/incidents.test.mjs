// A looping agent: alarmed once, in the log, the status, AgentWatch and a webhook that fails first, over a kill.
import assert from "node:assert/strict";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { freePort } from "../../examples/gateway/gateway.mjs";
import { startWorld, waitForTotals } from "./harness.mjs";
import { KillableGateway } from "./killable.mjs";
import { binary, skip, tgz, versions } from "./options.mjs";
import { until } from "./scenarios.mjs";
import { WebhookServer } from "./webhook-server.mjs";

const SECRET = "MARKEDSECRET7Q";
const MARK = "MARKEDFILE7Q";
const ROUNDS = 12;

/** The model reads a file that does not exist, again and again. @type {import("../../examples/gateway/plan.mjs").Script} */
const loops = ({ prompt, toolRounds }) =>
  prompt.includes("loop") && toolRounds < ROUNDS
    ? { tool: { name: "read", args: { path: `${MARK}.txt` } } }
    : undefined;

for (const version of versions)
  describe(`OpenClaw ${version}, an agent that loops`, { skip }, () => {
    test("it is alarmed within ten calls, once everywhere, over a kill", { timeout: 1_500_000 }, async () => {
      const webhook = await WebhookServer.open(SECRET);
      webhook.status = 503;
      const stateDir = await mkdtemp(join(tmpdir(), "openclaw-incidents-"));
      const config = { webhook: { url: webhook.url, secret: SECRET } };
      /** @type {import("./harness.mjs").World | undefined} */
      let world;
      /** @type {KillableGateway | undefined} */
      let second;
      try {
        world = await startWorld({
          version,
          tgz,
          receiver: { binary },
          pluginConfig: config,
          provider: { script: loops },
          gateway: { stateDir },
        });
        const { provider, receiver, gateway } = world;
        const before = provider.ledger.length;
        await gateway.agentTurn({ session: "runaway", message: "loop" });
        assert.ok(provider.ledger.length - before > ROUNDS, "the agent called its tool in a loop");
        await until(() => webhook.requests.length > 0, "the webhook is called", 60_000);
        const notice = webhook.requests[0]?.notice;
        assert.ok(notice);
        assert.equal(notice.type, "alarm_began");
        assert.equal(notice.kind, "tool_loop");
        assert.equal(notice.tool, "read");
        assert.ok(notice.count <= 10, `${notice.count} calls`);
        await waitForTotals(provider, receiver);
        await gateway.kill();
        const log = await readFile(gateway.log.path, "utf8");
        const lines = log.split("\n").filter((line) => /tool read of agent .* in a row/.test(line));
        assert.equal(lines.length, 1, log.slice(-4_000));
        webhook.status = 200;
        const plugins = [{ id: "agentwatch", tgz, config: { url: receiver.url, ...config } }];
        const port = await freePort();
        second = new KillableGateway({ version, providerUrl: provider.baseUrl, stateDir, port, plugins });
        await second.start();
        await until(() => webhook.accepted.length > 0, "the webhook accepts it", 60_000);
        await second.agentTurn({ session: "runaway", message: "loop" });
        await waitForTotals(provider, receiver);
        const ids = new Set(webhook.requests.map((request) => request.notice.id));
        assert.equal(ids.size, 1, `one notice: ${JSON.stringify(webhook.requests)}`);
        assert.deepEqual(webhook.problems, []);
        // The status file is written at most every two seconds.
        const path = join(stateDir, "agentwatch", "status.json");
        let status = { alarm: { count: 0, open: [] }, webhook: { sent: 0, waiting: 1 } };
        await until(
          async () => {
            ({ status } = JSON.parse(await readFile(path, "utf8")));
            return status.webhook.waiting === 0;
          },
          "the status shows it",
          30_000,
        );
        assert.equal(status.alarm.count, 1);
        assert.equal(status.alarm.open.length, 1);
        const logs = /** @type {any[]} */ (await (await fetch(`${receiver.url}/api/logs?limit=500`)).json());
        const alarms = logs.filter(({ message }) => /^tool read .* in a row$/.test(message));
        assert.equal(alarms.length, 1, JSON.stringify(logs.map(({ message }) => message)));
        assert.equal(alarms[0].level, "warn");
        const health = /** @type {any[]} */ (await (await fetch(`${receiver.url}/api/health`)).json());
        assert.equal(health.find(({ name }) => name === "spending")?.status, "warn");
        const told = JSON.stringify([webhook.requests, status, logs, lines]);
        for (const mark of [SECRET, MARK]) assert.ok(!told.includes(mark), mark);
      } finally {
        await second?.stop();
        await world?.close();
        webhook.close();
        await rm(stateDir, { recursive: true, force: true, maxRetries: 5 });
      }
    });
  });
