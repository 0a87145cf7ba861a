import { mkdir, mkdtemp, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

/**
 * A plugin that stands before all others and does, in sessions named after it, what other plugins may do: it blocks
 * assistant messages, replaces their usage by other numbers, or takes it away.
 */
const SOURCE = `
const wrong = { input: 7, output: 7, cacheRead: 0, cacheWrite: 0, totalTokens: 14 };
function meddle(event, ctx, log) {
  const key = ctx?.sessionKey ?? "";
  const { message } = event;
  if (message?.role !== "assistant" || !key.includes("meddle-")) return undefined;
  log("meddler at " + key);
  if (key.includes("meddle-block")) return { block: true };
  if (key.includes("meddle-replace")) return { message: { ...message, usage: wrong } };
  if (key.includes("meddle-strip")) {
    const { usage, ...rest } = message;
    return { message: rest };
  }
  return undefined;
}
export default {
  id: "meddler",
  name: "Meddler",
  register(api) {
    const log = (text) => api.logger.info(text);
    const handler = (event, ctx) => meddle(event, ctx, log);
    api.on("before_message_write", handler, { priority: Number.MAX_VALUE });
  },
};
`;

/** @returns {Promise<import("../../examples/gateway/config.mjs").GatewayPlugin>} To be put before the others. */
export async function meddler() {
  const path = join(await mkdtemp(join(tmpdir(), "openclaw-meddler-")), "meddler");
  await mkdir(path);
  const manifest = {
    id: "meddler",
    activation: { onStartup: true },
    configSchema: { type: "object", properties: {} },
  };
  const extensions = ["./index.js"];
  const pack = { name: "meddler", version: "1.0.0", type: "module", openclaw: { extensions } };
  await writeFile(join(path, "openclaw.plugin.json"), JSON.stringify(manifest));
  await writeFile(join(path, "package.json"), JSON.stringify(pack));
  await writeFile(join(path, "index.js"), SOURCE);
  return { id: "meddler", path };
}
