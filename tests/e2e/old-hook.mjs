import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** A plugin that records the events of AgentWatch's own hook. */
const SOURCE = `
import { appendFileSync } from "node:fs";
const seen = new Set();
export default {
  id: "old-hook",
  name: "Old hook",
  register(api) {
    const note = (line) => appendFileSync(api.pluginConfig.file, JSON.stringify(line) + "\\n");
    for (const kind of ["message_received", "message_sent"]) {
      api.on(kind, ({ content, success, error }, { conversationId }) =>
        note({ kind, content, conversationId, failed: success === false && error !== undefined }),
      );
    }
    api.registerHook(
      "command",
      ({ action, sessionKey, timestamp }) => {
        const key = [action, sessionKey, new Date(timestamp).getTime()].join();
        if (!seen.has(key)) note({ kind: "command", action });
        seen.add(key);
      },
      { name: "old-hook" },
    );
  },
};
`;
const NOISE = /^(?:HEARTBEAT_OK$|NO_REPLY$|Read HEARTBEAT\.md|$)/i;

/** @typedef {{ kind: string, content?: string, conversationId?: string, failed?: boolean }} Line */

/** A second plugin, and the records that the old hook would have sent so far. */
export async function oldHook() {
  const folder = await mkdtemp(join(tmpdir(), "openclaw-old-hook-"));
  const [path, file] = [join(folder, "old-hook"), join(folder, "events.jsonl")];
  await mkdir(path);
  const manifest = {
    id: "old-hook",
    activation: { onStartup: true },
    configSchema: { type: "object", properties: { file: { type: "string" } } },
  };
  const extensions = ["./index.js"];
  const pack = { name: "old-hook", version: "1.0.0", type: "module", openclaw: { extensions } };
  await writeFile(join(path, "openclaw.plugin.json"), JSON.stringify(manifest));
  await writeFile(join(path, "package.json"), JSON.stringify(pack));
  await writeFile(join(path, "index.js"), SOURCE);
  await writeFile(file, "");
  return {
    /** @type {import("../../examples/gateway/config.mjs").GatewayPlugin} */
    plugin: { id: "old-hook", path, config: { file } },
    /** Number of records of each kind, the start's included. */
    records: async () => {
      const text = await readFile(file, "utf8");
      return records(
        text
          .split("\n")
          .filter(Boolean)
          .map((line) => JSON.parse(line)),
      );
    },
    remove: () => rm(folder, { recursive: true, force: true }),
  };
}

/** @param {Line[]} lines */
function records(lines) {
  const real = lines.filter(({ kind, content = "" }) => kind === "command" || !NOISE.test(content.trim()));
  const of = (/** @type {string} */ kind) => real.filter((line) => line.kind === kind);
  /** @type {Set<string | undefined>} */
  const waiting = new Set();
  let paired = 0;
  for (const { kind, conversationId } of real) {
    if (kind === "message_received") waiting.add(conversationId);
    if (kind === "message_sent" && waiting.delete(conversationId)) paired += 1;
  }
  const [received, sent, commands] = [of("message_received"), of("message_sent"), of("command")];
  return {
    health: 1,
    "log: started": 1,
    "log: message received": received.length,
    "log: delivery failed": sent.filter(({ failed }) => failed).length,
    "log: command": commands.length,
    "metric: messages_received": received.length,
    "metric: messages_sent": sent.length,
    "metric: response_time_ms": paired,
    "trace: message sent": sent.length,
    "trace: command": commands.length,
  };
}
