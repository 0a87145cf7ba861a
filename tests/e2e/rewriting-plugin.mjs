import { mkdir, mkdtemp, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

/**
 * A plugin that runs before all others and changes assistant messages as other plugins may: by the name of the session it
 * blocks a message, replaces its usage, or removes its usage.
 */
const SOURCE = `
const wrong = { input: 7, output: 7, cacheRead: 0, cacheWrite: 0, totalTokens: 14 };
function rewrite(event, ctx, log) {
  const key = ctx?.sessionKey ?? "";
  const { message } = event;
  if (message?.role !== "assistant" || !key.includes("rewrite-")) return undefined;
  log("rewriter at " + key);
  if (key.includes("rewrite-block")) return { block: true };
  if (key.includes("rewrite-replace")) return { message: { ...message, usage: wrong } };
  if (key.includes("rewrite-strip")) {
    const { usage, ...rest } = message;
    return { message: rest };
  }
  return undefined;
}
export default {
  id: "rewriter",
  name: "Rewriter",
  register(api) {
    const log = (text) => api.logger.info(text);
    const handler = (event, ctx) => rewrite(event, ctx, log);
    api.on("before_message_write", handler, { priority: Number.MAX_VALUE });
  },
};
`;

/** @returns {Promise<import("../../examples/gateway/config.mjs").GatewayPlugin>} The first plugin of a gateway. */
export async function rewritingPlugin() {
  const path = join(await mkdtemp(join(tmpdir(), "openclaw-rewriter-")), "rewriter");
  await mkdir(path);
  const manifest = {
    id: "rewriter",
    activation: { onStartup: true },
    configSchema: { type: "object", properties: {} },
  };
  const extensions = ["./index.js"];
  const pack = { name: "rewriter", version: "1.0.0", type: "module", openclaw: { extensions } };
  await writeFile(join(path, "openclaw.plugin.json"), JSON.stringify(manifest));
  await writeFile(join(path, "package.json"), JSON.stringify(pack));
  await writeFile(join(path, "index.js"), SOURCE);
  return { id: "rewriter", path };
}
