// AgentWatch's own hook, rebuilt from its description: each message becomes two or three records, each record a POST that
// the handler makes and does not wait for. It gets messages and commands, but no model calls.

const NOISE = /^(?:HEARTBEAT_OK$|NO_REPLY$|Read HEARTBEAT\.md|$)/i;
const PREVIEW = 200;

/** @param {string} url */
export function startOldHook(url) {
  /** @type {Map<string, number>} */
  const received = new Map();
  /** @type {Set<Promise<unknown>>} */
  const open = new Set();
  const counts = { failed: 0 };
  const post = (/** @type {string} */ path, /** @type {object} */ record) => {
    const sent = fetch(`${url}/api/v1/ingest/${path}`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(record),
    })
      .then((response) => response.text())
      .catch(() => {
        counts.failed += 1;
      })
      .finally(() => open.delete(sent));
    open.add(sent);
  };
  const metric = (/** @type {string} */ name, /** @type {number} */ value, /** @type {object} */ tags) =>
    post("metrics", { agent_name: "openclaw", name, value, kind: "counter", tags, timestamp: stamp() });

  /** @param {any} event @param {any} ctx */
  const onReceived = (event, { channelId, conversationId }) => {
    if (NOISE.test(event.content.trim())) return;
    received.set(conversationId, Date.now());
    const preview = event.content.slice(0, PREVIEW);
    const metadata = { channel: channelId, from: event.from, conversationId, preview };
    post("logs", { agent_name: "openclaw", level: "info", message: `Message from ${event.from}`, metadata });
    metric("messages_received", 1, { channel: channelId });
  };

  /** @param {any} event @param {any} ctx */
  const onSent = (event, { channelId, conversationId }) => {
    if (NOISE.test(event.content.trim())) return;
    const began = received.get(conversationId);
    received.delete(conversationId);
    const ms = began === undefined ? undefined : Date.now() - began;
    const id = crypto.randomUUID();
    const times = { started_at: stamp(ms), ended_at: stamp(), duration_ms: ms ?? 0, status: "completed" };
    const root = { id: crypto.randomUUID(), trace_id: id, name: "conversation", ...times };
    const delivery = {
      id: crypto.randomUUID(),
      trace_id: id,
      parent_id: root.id,
      name: "delivery",
      ...times,
    };
    const metadata = { channel: channelId, to: event.to, preview: event.content.slice(0, PREVIEW) };
    post("traces", {
      id,
      agent_name: "openclaw",
      name: "message",
      ...times,
      metadata,
      spans: [root, delivery],
    });
    metric("messages_sent", 1, { channel: channelId });
  };

  const settle = async () => {
    while (open.size > 0) await Promise.all(open);
  };
  return {
    /** @param {import("./events.mjs").Told} told */
    handle: ({ hook, event, ctx }) => {
      if (hook === "message_received") onReceived(event, ctx);
      if (hook === "message_sent") onSent(event, ctx);
    },
    /** Waits until every record was answered. */
    settle,
    stop: settle,
    counts,
  };
}

/** @param {number} [agoMs] */
const stamp = (agoMs = 0) => new Date(Date.now() - agoMs).toISOString();
