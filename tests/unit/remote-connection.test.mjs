// The connection of `sync --gateway`: address, credentials, device, WebSocket, protocol, error messages.
import assert from "node:assert/strict";
import { once } from "node:events";
import { readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { openDevice } from "../../dist/commands.js";
import {
  findAccess,
  openSocket,
  parseGateway,
  Refusal,
  remoteSettings,
  troubleOf,
} from "../../dist/remote.js";
import { frame, startFakeGateway } from "./fake-gateway.mjs";
import { within } from "./faulty-receiver.mjs";
import { addressOf, folder, link, makeCertificate, SECRET } from "./remote-setup.mjs";

describe("the address of a gateway", () => {
  for (const [text, host, port] of /** @type {[string, string, number][]} */ ([
    ["ws://127.0.0.1:18789", "127.0.0.1", 18789],
    ["ws://127.8.9.1", "127.8.9.1", 80],
    ["ws://localhost:1/path", "localhost", 1],
    ["ws://[::1]:18789", "::1", 18789],
    ["wss://gateway.example", "gateway.example", 443],
    ["wss://[2001:db8::1]:5", "2001:db8::1", 5],
  ]))
    test(`${text} is accepted`, () => {
      const address = addressOf(text);
      assert.deepEqual([address.host, address.port], [host, port]);
    });

  for (const [text, what] of /** @type {[string, RegExp][]} */ ([
    ["gateway", /no address; write ws:/],
    ["http://127.0.0.1:18789", /write ws:\/\/127\.0\.0\.1:18789/],
    ["https://gateway.example", /write wss:\/\/gateway\.example/],
    ["ws://gateway.example:18789", /use wss:\/\/.*ssh -N.*OPENCLAW_ALLOW_INSECURE_PRIVATE_WS=1/],
    ["ws://10.0.0.5:18789", /plain ws:\/\/ would show the token/],
    ["ws://128.0.0.1", /plain ws:/],
    ["ws://127.0.0.1.example", /plain ws:/],
    ["ws://[fd00::1]", /plain ws:/],
    [`wss://user:${SECRET}@gateway.example`, /no user, password, query/],
    [`ws://127.0.0.1:1/?token=${SECRET}`, /OPENCLAW_GATEWAY_TOKEN/],
    [`ws://127.0.0.1:1/#${SECRET}`, /OPENCLAW_GATEWAY_TOKEN/],
  ]))
    test(`${text.replace(SECRET, "…")} is refused`, () => {
      assert.throws(
        () => addressOf(text),
        (/** @type {Error} */ error) => {
          assert.match(error.message, what);
          assert.ok(error.message.startsWith("--gateway") && !error.message.includes(SECRET));
          return true;
        },
      );
    });

  test("plain ws:// may leave this machine where the variable allows it", () => {
    assert.equal(parseGateway("ws://10.0.0.5:18789", undefined, true).host, "10.0.0.5");
  });

  test("a fingerprint is accepted in the forms of OpenClaw's clients", () => {
    const plain = "ab".repeat(32);
    const pairs = Array.from({ length: 32 }, () => "AB").join(":");
    for (const text of [plain, pairs, `sha256:${pairs}`, `SHA-256 ${pairs}`, `sha256 Fingerprint=${pairs}`])
      assert.equal(addressOf("wss://gateway.example", text).fingerprint, plain);
    for (const text of ["ab", "zz".repeat(32), plain.slice(1), ` ${pairs}:AB`])
      assert.throws(
        () => addressOf("wss://gateway.example", text),
        /--tls-fingerprint .*64 hexadecimal digits/,
      );
    assert.throws(() => addressOf("ws://127.0.0.1", plain), /--tls-fingerprint: .*use wss/);
  });
});

describe("the credentials for a gateway", () => {
  const url = "wss://gateway.example:18789";
  /** @param {Record<string, unknown>} remote @param {Record<string, string>} env */
  async function access(remote, env = {}) {
    const names = ["OPENCLAW_GATEWAY_TOKEN", "OPENCLAW_GATEWAY_PASSWORD", "FAR_TOKEN"];
    const before = names.map((name) => [name, process.env[name]]);
    for (const name of names) delete process.env[name];
    Object.assign(process.env, env);
    try {
      const config = { gateway: { remote } };
      return await findAccess(remoteSettings(config, url), config);
    } finally {
      for (const [name, value] of before) {
        if (name && value === undefined) delete process.env[name];
        else if (name) process.env[name] = value;
      }
    }
  }

  test("the environment wins over the configuration, which holds for its own gateway only", async () => {
    const remote = { url, token: "configured" };
    assert.equal((await access(remote, { OPENCLAW_GATEWAY_TOKEN: ` ${SECRET}\n` })).token, SECRET);
    assert.equal((await access(remote, { OPENCLAW_GATEWAY_PASSWORD: SECRET })).password, SECRET);
    assert.equal((await access(remote)).token, "configured");
    assert.equal((await access({ ...remote, url: "wss://other.example" })).token, undefined);
    assert.equal((await access({})).token, undefined);
  });

  test("references are resolved, and an error names the setting", async () => {
    const reference = { source: "env", provider: "default", id: "FAR_TOKEN" };
    assert.equal((await access({ url, token: reference }, { FAR_TOKEN: SECRET })).token, SECRET);
    assert.equal((await access({ url, token: "${FAR_TOKEN}" }, { FAR_TOKEN: SECRET })).token, SECRET);
    for (const token of [reference, "${FAR_TOKEN}", { ...reference, source: "file" }, 5, { a: 1 }])
      await assert.rejects(access({ url, token }), /gateway\.remote\.token .*; set OPENCLAW_GATEWAY_TOKEN/);
  });
});

describe("the device", () => {
  test("is made once, and only its user may read it", async () => {
    const stateDir = join(folder, "device");
    const device = openDevice(stateDir);
    const file = join(stateDir, "agentwatch", "device.json");
    assert.equal((await stat(file)).mode & 0o777, 0o600);
    assert.match(device.id, /^[0-9a-f]{64}$/);
    assert.equal(openDevice(stateDir).id, device.id);
  });

  test("a damaged one is reported, and not replaced", async () => {
    const stateDir = join(folder, "damaged");
    openDevice(stateDir);
    const file = join(stateDir, "agentwatch", "device.json");
    for (const text of ["", "{}", '{"key": "x"}', "nonsense"]) {
      await writeFile(file, text);
      assert.throws(() => openDevice(stateDir), /device\.json .*(mend it, or remove it)/);
      assert.equal(await readFile(file, "utf8"), text);
    }
  });
});

describe("a WebSocket", () => {
  /**
   * The messages and the end of a socket whose server sends these bytes.
   *
   * @param {Buffer} bytes
   * @param {number} [size] Size of the pieces in which they arrive.
   */
  async function heardOf(bytes, size = bytes.length, most = 1_000) {
    const gateway = await startFakeGateway({
      raw: async (socket) => {
        for (let at = 0; at < bytes.length; at += size) {
          socket.write(bytes.subarray(at, at + size));
          await new Promise(setImmediate);
        }
      },
    });
    /** @type {string[]} */
    const texts = [];
    const closed = Promise.withResolvers();
    const events = { text: (/** @type {string} */ text) => texts.push(text), closed: closed.resolve };
    try {
      await openSocket(addressOf(gateway.url), events, most, 5_000);
      return { texts, why: await within(closed.promise, "the socket closes") };
    } finally {
      await gateway.close();
    }
  }
  const end = frame(Buffer.concat([Buffer.from([3, 232]), Buffer.from("bye")]), { code: 8 });

  test("texts are complete at every cut", async () => {
    const long = "ä".repeat(400);
    const pieces = [
      frame("one"),
      frame(long),
      frame("tw", { isLast: false }),
      frame("", { code: 9 }),
      frame("o", { code: 0 }),
      frame("", { code: 10 }),
      end,
    ];
    for (const size of [1, 2, 7, 100, 5_000]) {
      const { texts, why } = await heardOf(Buffer.concat(pieces), size);
      assert.deepEqual([texts, why], [["one", long, "two"], "it was closed (1000 bye)"]);
    }
  });

  test("a ping is answered, masked", async () => {
    const gateway = await startFakeGateway({ raw: (socket) => socket.write(frame("beat", { code: 9 })) });
    const socket = await openSocket(
      addressOf(gateway.url),
      { text: () => {}, closed: () => {} },
      1_000,
      5_000,
    );
    for (let tries = 0; gateway.heard.length === 0 && tries < 1_500; tries += 1) await sleep(20);
    const [pong] = gateway.heard;
    assert.deepEqual([pong?.code, pong?.isMasked, pong?.body.toString()], [10, true, "beat"]);
    socket.close();
    await gateway.close();
  });

  for (const [what, bytes, why] of /** @type {[string, Buffer, RegExp][]} */ ([
    ["a message beyond the bound", frame("x".repeat(1_001)), /more than 0 MiB/],
    [
      "pieces beyond it",
      Buffer.concat([frame("x".repeat(600), { isLast: false }), frame("x".repeat(600), { code: 0 })]),
      /more than/,
    ],
    [
      "pieces of nothing without end",
      Buffer.concat([
        frame("", { isLast: false }),
        ...Array.from({ length: 20 }, () => frame("", { code: 0, isLast: false })),
      ]),
      /more than/,
    ],
    [
      "a length beyond all memory",
      Buffer.from([0x81, 127, 255, 255, 255, 255, 255, 255, 255, 255]),
      /more than/,
    ],
    ["bytes", frame("x", { code: 2 }), /is no text/],
    ["no UTF-8", frame(Buffer.from([0xc3, 0x28])), /is no text/],
    ["a piece of nothing", frame("x", { code: 0 }), /is no text/],
    ["a text within another", Buffer.concat([frame("x", { isLast: false }), frame("y")]), /is no text/],
    ["a masked frame", Buffer.from([0x81, 0x80, 1, 2, 3, 4]), /invalid frame/],
    ["an extension's bit", Buffer.from([0xc1, 0]), /invalid frame/],
    ["a long ping", frame("x".repeat(126), { code: 9 }), /invalid frame/],
    ["an unknown kind", frame("x", { code: 11 }), /invalid frame/],
  ]))
    test(`${what} ends the connection`, async () => {
      for (const size of [1, bytes.length]) {
        const { texts, why: told } = await heardOf(bytes, size);
        assert.deepEqual(texts, []);
        assert.match(String(told), why);
      }
    });

  test("a server without WebSockets is reported", async () => {
    const gateway = await startFakeGateway({ status: 404 });
    await assert.rejects(link(gateway), (error) => {
      const { says, mayPass } = troubleOf(error, addressOf(gateway.url), "x");
      assert.match(
        says,
        /--gateway ws:\/\/127\.0\.0\.1:\d+: the gateway cannot be reached \(it is no WebSocket \(HTTP 404\)\)/,
      );
      return mayPass;
    });
    await gateway.close();
  });
});

describe("a connection", () => {
  test("is signed by the device, and requests reading only", async () => {
    const gateway = await startFakeGateway();
    const open = await link(gateway);
    assert.equal(open.version, "2026.9.6");
    const [{ params }] = /** @type {any} */ (gateway.asked);
    assert.deepEqual(params.scopes, ["operator.read"]);
    assert.equal(params.device.signedAt, 1_795_000_000_000);
    open.close();
    await gateway.close();
  });

  test("pending requests end with the connection", async () => {
    /** @type {unknown[]} */
    const closed = [];
    const gateway = await startFakeGateway({
      answer: (method) => {
        if (method === "slow") gateway.cut();
        return {};
      },
    });
    const open = await link(gateway, { onClosed: (/** @type {string} */ why) => closed.push(why) });
    // Its reason, not that this side closed the rest.
    await assert.rejects(open.request("slow", {}), /slow: (?!it was ended)/);
    await assert.rejects(open.request("later", {}), /not connected/);
    assert.equal(closed.length, 1);
    await gateway.close();
  });

  for (const [what, error, says, mayPass] of /** @type {[string, any, RegExp, boolean][]} */ ([
    [
      "a wrong token",
      {
        code: "INVALID_REQUEST",
        message: "unauthorized: gateway token mismatch",
        details: { code: "AUTH_TOKEN_MISMATCH" },
      },
      /it refuses SOME_SETTING \(AUTH_TOKEN_MISMATCH\); set OPENCLAW_GATEWAY_TOKEN \(its gateway\.auth\.token\)/,
      false,
    ],
    [
      "a wrong password",
      { code: "INVALID_REQUEST", message: "unauthorized", details: { code: "AUTH_PASSWORD_MISMATCH" } },
      /set OPENCLAW_GATEWAY_PASSWORD \(its gateway\.auth\.password\)/,
      false,
    ],
    [
      "an unpaired device",
      {
        code: "NOT_PAIRED",
        message: "pairing required",
        details: { code: "PAIRING_REQUIRED", requestId: "r-1" },
      },
      /openclaw devices approve r-1$/,
      true,
    ],
    [
      "an unpaired device with an unusual request id",
      {
        code: "NOT_PAIRED",
        message: "pairing required",
        details: { code: "PAIRING_REQUIRED", requestId: "x; rm -rf /" },
      },
      /openclaw devices approve <request of `openclaw devices list`>$/,
      true,
    ],
    [
      "another protocol",
      { code: "INVALID_REQUEST", message: "protocol mismatch", details: { expectedProtocol: 9 } },
      /it speaks 9 of the gateway's protocol, and this command 3 to 4; update/,
      false,
    ],
    [
      "a missing scope",
      { code: "FORBIDDEN", message: "missing scope: operator.read", details: { code: "MISSING_SCOPE" } },
      /may not read .*openclaw devices remove.*operator\.read/,
      false,
    ],
    [
      "a gateway that starts",
      { code: "UNAVAILABLE", message: "gateway starting; retry shortly", retryable: true, retryAfterMs: 500 },
      /not ready \(gateway starting/,
      true,
    ],
    [
      "too many tries",
      { code: "INVALID_REQUEST", message: "unauthorized", details: { code: "AUTH_RATE_LIMITED" } },
      /too many wrong tokens/,
      true,
    ],
    [
      "a clock that is wrong",
      {
        code: "INVALID_REQUEST",
        message: "device signature expired",
        details: { code: "DEVICE_AUTH_SIGNATURE_EXPIRED" },
      },
      /clocks, and remove device\.json/,
      false,
    ],
  ]))
    test(`${what} is reported with its mend`, async () => {
      const gateway = await startFakeGateway({
        answer: () => {
          throw error;
        },
      });
      const failed = await link(gateway).catch((/** @type {unknown} */ fault) => fault);
      assert.ok(failed instanceof Refusal);
      const trouble = troubleOf(failed, addressOf(gateway.url), "SOME_SETTING");
      assert.match(trouble.says, says);
      assert.equal(trouble.mayPass, mayPass);
      assert.ok(trouble.says.startsWith(`--gateway ${gateway.url}: `) && !trouble.says.includes(SECRET));
      await gateway.close();
    });

  test("an old version, and a gateway that cannot be reached", async () => {
    const old = new Refusal("sessions.usage.timeseries", {
      code: "INVALID_REQUEST",
      message: "unknown method: sessions.usage.timeseries",
    });
    const address = addressOf("ws://127.0.0.1:1");
    assert.match(
      troubleOf(old, address, "x").says,
      /no sessions\.usage\.timeseries.*too old: OpenClaw 2026\.3\.13/,
    );
    const refused = await link(/** @type {any} */ ({ url: "ws://127.0.0.1:1" })).catch(
      (/** @type {unknown} */ e) => e,
    );
    const { says, mayPass } = troubleOf(refused, address, "x");
    assert.match(says, /nothing listens at 127\.0\.0\.1:1; start the gateway/);
    assert.ok(mayPass);
  });

  test("only the pinned certificate is accepted", async (t) => {
    const certificate = await makeCertificate();
    if (!certificate) return t.skip("openssl is not there");
    const gateway = await startFakeGateway({ tls: certificate });
    const open = await link(gateway, { fingerprint: /** @type {any} */ (certificate.fingerprint) });
    assert.equal(open.version, "2026.9.6");
    open.close();
    const asked = gateway.asked.length;
    for (const [fingerprint, says] of /** @type {[any, RegExp][]} */ ([
      ["ab".repeat(32), /has the fingerprint [0-9a-f]{64}, and not that of --tls-fingerprint/],
      [undefined, /not trusted \(DEPTH_ZERO_SELF_SIGNED_CERT\); pin it with --tls-fingerprint/],
    ])) {
      const failed = await link(gateway, { fingerprint }).catch((/** @type {unknown} */ error) => error);
      const trouble = troubleOf(failed, addressOf(gateway.url), "x");
      assert.match(trouble.says, says);
      assert.equal(trouble.mayPass, false);
    }
    // It got no message.
    assert.equal(gateway.asked.length, asked);
    await gateway.close();
  });
});
