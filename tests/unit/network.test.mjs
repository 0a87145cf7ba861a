// A private certificate authority and a forward proxy between plugin and AgentWatch, as in docs/configuration.md.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { HOST, startPrivateNetwork } from "../e2e/private-network.mjs";
import { until } from "./faulty-receiver.mjs";
import { Receiver } from "./world.mjs";

const CLI = fileURLToPath(new URL("../../dist/cli.js", import.meta.url));
const root = mkdtempSync(join(tmpdir(), "agentwatch-network-"));
/** @type {Receiver} */
let receiver;
/** @type {Awaited<ReturnType<typeof startPrivateNetwork>>} */
let network;

before(async () => {
  receiver = await Receiver.open();
  network = await startPrivateNetwork();
  network.setReceiver(receiver.url);
});
after(async () => {
  await network.close();
  receiver.close();
  rmSync(root, { recursive: true, force: true });
});

let turns = 0;
/**
 * `agentwatch-openclaw …` with an address and an environment; `ingest` reads one model call.
 *
 * @param {"ingest" | "doctor"} command @param {string} url @param {Record<string, string>} [env]
 */
async function run(command, url, env = {}) {
  turns += 1;
  const given = { PATH: process.env.PATH ?? "", HOME: join(root, `home-${turns}`), AGENTWATCH_URL: url };
  const child = spawn(process.execPath, [CLI, command], {
    env: { ...given, ...env },
    timeout: 120_000,
    killSignal: "SIGKILL",
  });
  const usage = { model: "p/m", promptTokens: 10 + turns, completionTokens: 1 };
  child.stdin.end(`${JSON.stringify({ type: "model", action: "used", context: usage })}\n`);
  let said = "";
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding("utf8").on("data", (text) => {
      said += text;
    });
  const [code] = await once(child, "close");
  return { code, said };
}

test("a private authority: the doctor names the variable to set", async () => {
  const url = `https://localhost:${network.securePort}`;
  const untrusted = await run("doctor", url);
  assert.match(untrusted.said, /does not answer \((DEPTH_ZERO_SELF_SIGNED_CERT|SELF_SIGNED_CERT\w*)\)/);
  assert.match(untrusted.said, /set NODE_EXTRA_CA_CERTS to the file of the authority/);
  // The certificate has another name.
  const other = await run("doctor", url, { NODE_EXTRA_CA_CERTS: network.authority });
  assert.match(other.said, /ERR_TLS_CERT_ALTNAME_INVALID[^]*the certificate does not fit the address/);
});

test("behind a proxy, with a private authority, by Node's variables", async () => {
  const env = { ...network.proxied, NODE_EXTRA_CA_CERTS: network.authority };
  const unused = await run("doctor", `https://${HOST}`, env);
  assert.match(unused.said, /set NODE_USE_ENV_PROXY=1 in the gateway's environment/);
  assert.deepEqual(network.asked, []);

  const { code, said } = await run("ingest", `https://${HOST}`, { ...env, NODE_USE_ENV_PROXY: "1" });
  assert.match(said, /1 model calls and \d+ other records sent, 0 unsent/);
  assert.equal(code, 0, said);
  assert.deepEqual(new Set(network.asked), new Set([`${HOST}:443`]));
  assert.equal(receiver.ids.size, 1);
});

test("behind a proxy, without TLS", async () => {
  network.asked.length = 0;
  const { code, said } = await run("ingest", `http://${HOST}:8470`, {
    ...network.proxied,
    NODE_USE_ENV_PROXY: "1",
  });
  assert.equal(code, 0, said);
  assert.deepEqual(new Set(network.asked), new Set([`${HOST}:8470`]));
  assert.equal(receiver.ids.size, 2);
});

test("the proxy reaches its upstreams behind a forward proxy", async () => {
  network.asked.length = 0;
  const given = {
    PATH: process.env.PATH ?? "",
    HOME: join(root, "home-proxy"),
    AGENTWATCH_URL: receiver.url,
  };
  const args = ["proxy", "--port", "0", "--upstream", `/up=https://${HOST},provider=mock`];
  const env = {
    ...given,
    ...network.proxied,
    NODE_USE_ENV_PROXY: "1",
    NODE_EXTRA_CA_CERTS: network.authority,
  };
  const child = spawn(process.execPath, [CLI, ...args], { env });
  try {
    let said = "";
    for (const stream of [child.stdout, child.stderr])
      stream.setEncoding("utf8").on("data", (text) => {
        said += text;
      });
    await until(() => /proxy on http:\S+:\d+/.test(said));
    const [origin] = /http:\/\/127\.0\.0\.1:\d+/.exec(said) ?? [];
    const answer = await fetch(`${origin}/up/api/v1/capabilities`);
    assert.equal(answer.status, 200, await answer.text());
    assert.deepEqual(network.asked, [`${HOST}:443`]);
  } finally {
    child.kill("SIGKILL");
  }
});

test("hosts in NO_PROXY are reached directly", async () => {
  network.asked.length = 0;
  const { code, said } = await run("ingest", receiver.url, { ...network.proxied, NODE_USE_ENV_PROXY: "1" });
  assert.equal(code, 0, said);
  assert.deepEqual(network.asked, []);
  assert.equal(receiver.ids.size, 3);
});
