// The commands that run until a signal, as a user runs them.
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import { createServer as createSecureServer } from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";
import { asking, chat, get, portOf } from "./upstream.mjs";

const CLI = fileURLToPath(new URL("../../dist/cli.js", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "agentwatch-services-"));
after(() => rmSync(folder, { recursive: true, force: true }));

/** @param {string[]} args @param {Record<string, string>} [env] */
function start(args, env = {}) {
  const given = { PATH: process.env.PATH ?? "", HOME: folder, AGENTWATCH_URL: "http://127.0.0.1:9", ...env };
  const child = spawn(process.execPath, [CLI, ...args], {
    env: given,
    stdio: ["ignore", "pipe", "pipe"],
    timeout: 120_000,
    killSignal: "SIGKILL",
  });
  const said = { text: "" };
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding("utf8").on("data", (text) => {
      said.text += text;
    });
  /** @param {RegExp} pattern @returns {Promise<RegExpExecArray>} */
  const says = async (pattern) => {
    for (let tries = 0; tries < 2_400; tries += 1) {
      const found = pattern.exec(said.text);
      if (found) return found;
      await new Promise((resolve) => setTimeout(resolve, 25));
    }
    throw new Error(`not said: ${pattern}\n${said.text}`);
  };
  return { child, said, says, ended: once(child, "close") };
}

test("proxy forwards, logs its address, and ends at a signal", async () => {
  const upstream = createServer((_, response) => response.end(chat().join("")));
  await once(upstream.listen(0, "127.0.0.1"), "listening");
  const address = `http://127.0.0.1:${portOf(upstream)}`;
  const { child, said, says, ended } = start([
    "proxy",
    "--port",
    "0",
    "--upstream",
    `/up=${address},provider=mock`,
  ]);
  try {
    const [, origin] = await says(/proxy on (http:\S+): \/up → http:\S+ \(mock\)/);
    // Before its first call `status` and `allow` find the process, and calls of an earlier run are sent.
    const owner = readFileSync(join(folder, ".openclaw", "agentwatch", "owner.json"), "utf8");
    assert.equal(JSON.parse(owner).pid, child.pid);
    const { body } = await get(`${origin}/up/v1/chat/completions`, asking());
    assert.equal(body.toString(), chat().join(""));
    child.kill("SIGTERM");
    const [code] = await ended;
    assert.equal(code, 0, said.text);
    assert.match(said.text, /1 requests, 1 calls; unread: none/);
    assert.doesNotMatch(said.text, /sk-secret/);
  } finally {
    child.kill("SIGKILL");
    upstream.closeAllConnections();
    upstream.close();
  }
});

test("https: the upstream gets its name, and its certificate is checked", async (t) => {
  const [key, cert] = ["key.pem", "cert.pem"].map((name) => join(folder, name));
  const subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"];
  const made = spawnSync("openssl", [
    "req",
    "-x509",
    "-newkey",
    "rsa:2048",
    "-nodes",
    "-days",
    "2",
    "-keyout",
    key ?? "",
    "-out",
    cert ?? "",
    ...subject,
  ]);
  if (made.status !== 0) return t.skip("openssl makes no certificate here");
  /** @type {unknown[]} */
  const names = [];
  const options = { key: readFileSync(key ?? ""), cert: readFileSync(cert ?? "") };
  const upstream = createSecureServer(options, (request, response) => {
    names.push(
      /** @type {import("node:tls").TLSSocket & { servername: unknown }} */ (request.socket).servername,
      request.headers.host,
    );
    response.end(chat().join(""));
  });
  await once(upstream.listen(0, "127.0.0.1"), "listening");
  const host = `localhost:${portOf(upstream)}`;
  const args = ["proxy", "--port", "0", "--upstream", `/up=https://${host}`];
  const trusting = start(args, { NODE_EXTRA_CA_CERTS: cert ?? "" });
  const doubting = start(args);
  try {
    const [, trusted] = await trusting.says(/proxy on (http:\S+): /);
    const [, doubted] = await doubting.says(/proxy on (http:\S+): /);
    const { body } = await get(`${trusted}/up/v1/chat/completions`, asking());
    assert.equal(body.toString(), chat().join(""));
    assert.deepEqual(names, ["localhost", host]);
    const refused = await get(`${doubted}/up/v1/chat/completions`, asking());
    assert.equal(refused.status, 502);
    assert.match(refused.body.toString(), /self-signed certificate/);
    assert.equal(names.length, 2);
  } finally {
    trusting.child.kill("SIGKILL");
    doubting.child.kill("SIGKILL");
    upstream.closeAllConnections();
    upstream.close();
  }
});

test("litellm receives a log and ends at a signal", async () => {
  const { child, said, says, ended } = start(["litellm", "--port", "0"], {
    AGENTWATCH_LITELLM_TOKEN: "t0ken",
  });
  try {
    const [, url = ""] = await says(/litellm endpoint on (\S+), calls are counted under litellm/);
    assert.equal((await get(url, { method: "POST", body: "[]" })).status, 401);
    const headers = { authorization: "Bearer t0ken" };
    assert.equal((await get(url, { method: "POST", body: "[]", headers })).status, 200);
    child.kill("SIGINT");
    const [code] = await ended;
    assert.equal(code, 0, said.text);
    assert.doesNotMatch(said.text, /t0ken/);
  } finally {
    child.kill("SIGKILL");
  }
});

const WRONG = /** @type {[string[], RegExp][]} */ ([
  [["proxy"], /--upstream is missing: .* --upstream \/openai=https:\/\/api\.openai\.com/],
  [
    ["proxy", "--upstream", "openai=https://a"],
    /--upstream openai=…: the prefix must be a path like \/openai/,
  ],
  [["proxy", "--upstream", "/a/=https://a"], /without a slash at its end/],
  [["proxy", "--upstream", "/a=ftp://a"], /must begin with https/],
  [["proxy", "--upstream", "/a"], /there is no =/],
  [["proxy", "--upstream", "/a=https://user:pa55@a"], /no user name or password/],
  [["proxy", "--upstream", "/a=https://a?key=pa55"], /no \? or #/],
  [["proxy", "--upstream", "/a=https://a,usage=always"], /what may follow/],
  [["proxy", "--upstream", "/=https://a"], /names no provider/],
  [["proxy", "--upstream", "/a=https://a", "--upstream", "/a=https://b"], /given twice/],
  [["proxy", "--upstream", "/a=https://a", "--port", "99999"], /--port 99999: a port is/],
  [
    ["proxy", "--upstream", "/a=https://a", "--port", "0", "--host", "203.0.113.1"],
    /--host 203\.0\.113\.1: this machine/,
  ],
  [
    ["proxy", "--upstream", "/a=https://a", "--port", "0", "--host", "203.0.113.2"],
    /--host 203\.0\.113\.2: every client that reaches this address can use the upstreams/,
  ],
  [
    ["proxy", "--upstream", "/a=https://a", "--allow-host", "http://a"],
    /--allow-host http:\/\/a: .* no host name/,
  ],
  [["litellm", "--allow-host", "a:80"], /--allow-host a:80: .* no host name/],
  [
    ["litellm", "--host", "0.0.0.0"],
    /--host 0\.0\.0\.0: others reach this address; set AGENTWATCH_LITELLM_TOKEN/,
  ],
]);
for (const [args, message] of WRONG) {
  test(`${args.join(" ")} is told what is wrong`, async () => {
    const { said, ended } = start(args);
    const [code] = await ended;
    assert.equal(code, 2);
    assert.match(said.text, message);
    assert.doesNotMatch(said.text, /pa55|\n {4}at /);
  });
}

test("a port in use is named", async () => {
  const server = createServer();
  await once(server.listen(0, "127.0.0.1"), "listening");
  try {
    const port = String(portOf(server));
    const { said, ended } = start(["proxy", "--upstream", "/a=https://a", "--port", port]);
    assert.deepEqual((await ended)[0], 2);
    assert.match(said.text, new RegExp(`--port ${port}: 127\\.0\\.0\\.1:${port} is taken already`));
  } finally {
    server.close();
  }
});
