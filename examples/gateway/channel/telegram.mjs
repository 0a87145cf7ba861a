import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import { createServer as createTlsServer } from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { certificateFor } from "./certificate.mjs";

const HOST = "api.telegram.org";
const BOT = { id: 700_000_001, is_bot: true, first_name: "Demo", username: "agentwatch_demo_bot" };
/** A user's id in a group chat is another one than the group's. */
const GROUP_OFFSET = -1_001_000_000_000;
const MAX_POLL_SECONDS = 25;

/**
 * What the bot sent, or tried to.
 *
 * @typedef {{ method: string, chat: number, text: string, status: number }} Sent
 *
 * @typedef {object} Incoming
 * @property {number} from The user's id.
 * @property {string} text
 * @property {number} [group] The group's number; otherwise the user writes to the bot alone.
 *
 * @typedef {Awaited<ReturnType<typeof startTelegram>>} Telegram
 */

/**
 * Telegram, as far as a bot sees it, on the loopback interface. OpenClaw's own channel reaches it as `proxy`, a setting
 * that all its versions have (only newer ones can be told another address of the Bot API): the proxy answers itself
 * for Telegram's host, and refuses every other.
 *
 * @param {object} [settings] More of `channels.telegram`.
 */
export async function startTelegram(settings = {}) {
  const folder = await mkdtemp(join(tmpdir(), "telegram-"));
  const { key, cert } = certificateFor(HOST);
  const caFile = join(folder, "ca.pem");
  await writeFile(caFile, cert);

  const token = `${BOT.id}:scripted-token`;
  /** @type {Sent[]} */
  const sent = [];
  /** @type {string[]} */
  const strangers = [];
  /** @type {any[]} */
  const updates = [];
  /** @type {Set<() => void>} */
  const polls = new Set();
  /** @type {(sent: Sent) => { status: number, description: string } | undefined} */
  let refusal = () => undefined;
  let ids = 0;

  /** @param {any} params */
  async function getUpdates({ offset = 0, timeout = 0 }) {
    const due = () => updates.filter(({ update_id }) => update_id >= Number(offset));
    if (due().length > 0) return due();
    await new Promise((resolve) => {
      const wake = () => {
        clearTimeout(timer);
        polls.delete(wake);
        resolve(undefined);
      };
      const timer = setTimeout(wake, Math.min(Number(timeout), MAX_POLL_SECONDS) * 1000);
      polls.add(wake);
    });
    return due();
  }

  /** @param {string} method @param {any} params */
  function message(method, { chat_id, text = "", caption = "", message_id }) {
    const entry = { method, chat: Number(chat_id), text: String(text || caption), status: 200 };
    const refused = refusal(entry);
    entry.status = refused?.status ?? 200;
    sent.push(entry);
    if (refused) throw Object.assign(new Error(refused.description), { status: refused.status });
    ids += 1;
    return {
      message_id: Number(message_id ?? ids),
      from: BOT,
      chat: chatOf(Number(chat_id)),
      date: now(),
      text: entry.text,
    };
  }

  /** @param {string} method @param {any} params */
  function call(method, params) {
    if (method === "getMe") return { ...BOT, can_join_groups: true, can_read_all_group_messages: true };
    if (method === "getUpdates") return getUpdates(params);
    if (method === "getWebhookInfo")
      return { url: "", has_custom_certificate: false, pending_update_count: 0 };
    if (/^(send(?!ChatAction)|editMessage)/.test(method)) return message(method, params);
    return true;
  }

  const api = createTlsServer({ key, cert }, async (request, response) => {
    const { pathname, searchParams } = new URL(request.url ?? "", `https://${HOST}`);
    const method = pathname.split("/").at(-1) ?? "";
    const answer = (/** @type {number} */ status, /** @type {object} */ body) =>
      response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
    if (!pathname.startsWith(`/bot${token}/`))
      return answer(401, { ok: false, error_code: 401, description: "Unauthorized" });
    try {
      const params = { ...Object.fromEntries(searchParams), ...parameters(await textOf(request)) };
      answer(200, { ok: true, result: await call(method, params) });
    } catch (error) {
      const { status = 400, message: description } = /** @type {any} */ (error);
      answer(status, { ok: false, error_code: status, description });
    }
  });

  const proxy = createServer((_, response) => response.writeHead(405).end());
  proxy.on("connect", ({ url = "" }, socket) => {
    socket.on("error", () => socket.destroy());
    if (url !== `${HOST}:443`) {
      strangers.push(url);
      return socket.end("HTTP/1.1 403 Forbidden\r\n\r\n");
    }
    socket.write("HTTP/1.1 200 Connection Established\r\n\r\n");
    api.emit("connection", socket);
  });
  /** @type {Set<import("node:net").Socket>} */
  const sockets = new Set();
  proxy.on("connection", (socket) => sockets.add(socket.on("close", () => sockets.delete(socket))));
  proxy.listen(0, "127.0.0.1");
  await once(proxy, "listening");
  const { port } = /** @type {import("node:net").AddressInfo} */ (proxy.address());

  return {
    token,
    /** Hosts other than Telegram's that were asked for. @type {readonly string[]} */
    strangers,
    /** @type {readonly Sent[]} */
    sent,
    /** What a gateway has to be given to use this Telegram. */
    gateway: {
      config: {
        channels: {
          telegram: {
            enabled: true,
            botToken: token,
            proxy: `http://127.0.0.1:${port}`,
            dmPolicy: "open",
            allowFrom: ["*"],
            groupPolicy: "open",
            groups: { "*": { requireMention: false } },
            ...settings,
          },
        },
        plugins: { entries: { telegram: { enabled: true } } },
      },
      env: { OPENCLAW_SKIP_CHANNELS: "0", NODE_EXTRA_CA_CERTS: caFile },
    },
    /** A user's message. @param {Incoming} incoming */
    receive: ({ from, text, group }) => {
      ids += 1;
      const chat = chatOf(group === undefined ? from : GROUP_OFFSET - group);
      const entities = text.startsWith("/")
        ? { entities: [{ type: "bot_command", offset: 0, length: text.split(/\s/, 1)[0]?.length ?? 0 }] }
        : {};
      const user = { id: from, is_bot: false, first_name: "Wilhelmina", username: "wilhelmina_v" };
      updates.push({
        update_id: updates.length + 1,
        message: { message_id: ids, from: user, chat, date: now(), text, ...entities },
      });
      for (const wake of [...polls]) wake();
      return chat.id;
    },
    /** From now on, answers what the bot sends with an error; undefined ends it. @param {typeof refusal} [refuse] */
    refuse: (refuse = () => undefined) => {
      refusal = refuse;
    },
    close: async () => {
      for (const wake of [...polls]) wake();
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => proxy.close(resolve));
      await rm(folder, { recursive: true, force: true });
    },
  };
}

/** @param {number} id */
function chatOf(id) {
  return id < 0
    ? { id, type: "supergroup", title: "Reading circle" }
    : { id, type: "private", first_name: "Wilhelmina", username: "wilhelmina_v" };
}

function now() {
  return Math.floor(Date.now() / 1000);
}

/** @param {import("node:http").IncomingMessage} request */
async function textOf(request) {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  return Buffer.concat(chunks).toString("utf8");
}

/** Files come as forms, which nothing here sends; all else is JSON. @param {string} text */
function parameters(text) {
  try {
    return JSON.parse(text);
  } catch {
    return {};
  }
}
