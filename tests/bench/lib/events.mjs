// A generator of gateways' events: captured ones with new identities and times, and messages.
import { readFileSync } from "node:fs";

const CAPTURES = new URL("../../fixtures/captures/", import.meta.url);
/** Rounds of the captured events with new sessions; later rounds use the same sessions. */
const SESSIONS = 200;
/** A uuid's first part, and that of a trace's ids. */
const IDENTITY = /\b[0-9a-f]{8}(?=-[0-9a-f]{4}-|[0-9a-f]{8,24}\b)/g;
const SESSION_KEY = /^agent:[^:]+:[^:]+$/;

/**
 * @typedef {object} Told
 * @property {string} [hook] A typed hook's name; otherwise it is a diagnostic.
 * @property {any} event
 * @property {any} [ctx]
 * @property {number} calls Number of model calls that the event completes: the last event of a round has all.
 *
 * @typedef {object} Stream
 * @property {() => Told} next The next event. Objects are reused with other values, so a handler has to copy.
 */

/**
 * The events of a 2026.9.6 gateway: sessions, runs, calls, messages, failures, tools.
 *
 * @param {string} [content] A text that every message has.
 * @param {() => number} [clock] ms since 1970.
 * @returns {Stream}
 */
export function gatewayStream(content, clock = Date.now) {
  const lines = readFileSync(new URL("2026.9.6/events.jsonl", CAPTURES), "utf8").trim().split("\n");
  /** Every text with an identity, once. @type {{ text: string, fresh: string }[]} */
  const names = [];
  const templates = lines.map((line) => {
    const { ts, hook, diagnostic, event, ctx = {} } = JSON.parse(line);
    if (diagnostic) event.type = diagnostic;
    if (content !== undefined) addContent(hook, event, content);
    /** @type {{ of: any, key: string, before: number }[]} */
    const times = [];
    /** @type {{ of: any, key: string, name: { fresh: string } }[]} */
    const texts = [];
    walk({ event, ctx }, (of, key, value) => {
      if (typeof value === "number" && value > 1e12 && value < 1e13)
        times.push({ of, key, before: ts - value });
      if (typeof value !== "string" || (!SESSION_KEY.test(value) && !value.match(IDENTITY))) return;
      let name = names.find(({ text }) => text === value);
      if (!name) names.push((name = { text: value, fresh: value }));
      texts.push({ of, key, name });
    });
    return { told: { hook, event, ctx, calls: 0 }, times, texts };
  });
  const calls = providerCalls();
  let [index, round] = [0, 0];
  const begin = () => {
    const id = round.toString(16).padStart(8, "0");
    for (const name of names) {
      const isSession = SESSION_KEY.test(name.text);
      name.fresh = isSession ? `${name.text}-${round % SESSIONS}` : name.text.replace(IDENTITY, id);
    }
    round += 1;
  };
  return {
    next() {
      if (index === 0) begin();
      const { told, times, texts } = /** @type {typeof templates[number]} */ (templates[index]);
      index = (index + 1) % templates.length;
      const now = clock();
      for (const { of, key, before } of times) of[key] = now - before;
      for (const { of, key, name } of texts) of[key] = name.fresh;
      told.calls = index === 0 ? calls : 0;
      return told;
    },
  };
}

/** Model calls of a round of the captured events. */
function providerCalls() {
  const lines = readFileSync(new URL("2026.9.6/provider.jsonl", CAPTURES), "utf8").trim().split("\n");
  const answers = lines.map((line) => JSON.parse(line));
  return answers.filter(({ usage, status, clientClosed }) => usage || (status === 200 && !clientClosed))
    .length;
}

/** @param {string | undefined} hook @param {any} event @param {string} content */
function addContent(hook, event, content) {
  if (hook === "before_message_write") event.message.content = [{ type: "text", text: content }];
  if (hook === "message_received") event.content = content;
  if (hook === "before_tool_call") event.params = { text: content };
  if (hook === "after_tool_call") event.result = content;
}

/** @param {any} value @param {(of: any, key: string, value: unknown) => void} see */
function walk(value, see) {
  for (const [key, inner] of Object.entries(value)) {
    see(value, key, inner);
    if (typeof inner === "object" && inner !== null) walk(inner, see);
  }
}

/**
 * The events of AgentWatch's own hook: messages of a channel, received and sent in turn.
 *
 * @param {string} [content]
 * @returns {Stream}
 */
export function messageStream(content = "Could you look at the build again? It fails since this morning.") {
  const ctx = { channelId: "telegram", conversationId: "", accountId: "default" };
  const metadata = { senderId: "", senderName: "Somebody" };
  const received = { from: "", content, timestamp: 0, metadata };
  const sent = { to: "", content, success: true };
  let count = 0;
  return {
    next() {
      const peer = `telegram:${(100_000 + (count >> 1)).toString(10)}`;
      ctx.conversationId = peer;
      const isSent = (count & 1) === 1;
      count += 1;
      if (isSent) {
        sent.to = peer;
        return { hook: "message_sent", event: sent, ctx, calls: 0 };
      }
      Object.assign(received, { from: peer, timestamp: Date.now() });
      metadata.senderId = peer;
      return { hook: "message_received", event: received, ctx, calls: 0 };
    },
  };
}

/** @param {string} name @param {string} [content] */
export function streamOf(name, content) {
  return name === "messages" ? messageStream(content) : gatewayStream(content);
}
