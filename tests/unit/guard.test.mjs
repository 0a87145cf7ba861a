// Every server of the shim refuses requests that a web page of another site made a browser send.
import assert from "node:assert/strict";
import { connect } from "node:net";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { get, proxyTo, world } from "./upstream.mjs";

const DIST = fileURLToPath(new URL("../../dist/", import.meta.url));
const { LitellmEndpoint, MetricsServer, isLoopback, parseHosts, refusal } = await import(`${DIST}serve.js`);
const { instantiate } = await import(`${DIST}base.js`);

const METHODS = ["GET", "POST", "PUT", "OPTIONS", "DELETE", "HEAD"];

/** @typedef {{ port: number, reached: () => number, warned: () => string[], close: () => Promise<unknown> }} Served */

/** Path and headers of a request, with the token where there is one. */
const SERVERS =
  /** @type {Record<string, { path: string, token: string, method?: string, open: (hosts?: string[]) => Promise<Served> }>} */ ({
    proxy: {
      path: "/up/x",
      token: "",
      open: async (hosts) => {
        let reached = 0;
        const at = await world(
          (_, response) => {
            reached += 1;
            response.end();
          },
          { hosts },
        );
        return { port: at.port, reached: () => reached, warned: () => at.said, close: at.close };
      },
    },
    litellm: { path: "/", token: "", open: (hosts) => endpoint(undefined, hosts) },
    "litellm with a token": {
      path: "/",
      token: "authorization: Bearer right\r\n",
      open: (hosts) => endpoint("right", hosts),
    },
    metrics: { path: "/metrics", token: "", method: "GET", open: metrics },
  });

/** @param {string | undefined} token @param {string[]} [hosts] @returns {Promise<Served>} */
async function endpoint(token, hosts = []) {
  /** @type {string[]} */
  const said = [];
  let reached = 0;
  const say = (/** @type {string} */ text) => said.push(text);
  const server = new LitellmEndpoint({
    host: "127.0.0.1",
    port: 0,
    hosts,
    token,
    provider: "litellm",
    accept: async () => {
      reached += 1;
    },
    instantiate,
    log: { info: say, warn: say },
    mono: () => performance.now(),
  });
  const { port } = await server.listen();
  return { port, reached: () => reached, warned: () => said, close: () => server.close(0) };
}

/** The plugin's own metrics: no further names can be set. @returns {Promise<Served>} */
async function metrics() {
  /** @type {string[]} */
  const said = [];
  let reached = 0;
  const server = new MetricsServer({
    port: 0,
    text: () => {
      reached += 1;
      return "metrics";
    },
    warn: (/** @type {string} */ text) => said.push(text),
    mono: () => performance.now(),
  });
  const port = Number(new URL(await server.listen()).port);
  return { port, reached: () => reached, warned: () => said, close: () => server.close(0) };
}

/** Header fields of refused requests; `PORT` is the server's port. */
const REFUSED = [
  "Host: evil.example",
  "Host: evil.example:PORT",
  "Host: localhost.evil.example:PORT",
  "Host: 127.0.0.1.nip.io:PORT",
  "Host: localhost.:PORT",
  "Host: 127.0.0.1.:PORT",
  "Host: localhost:PORT, evil.example",
  "Host: evil@localhost:PORT",
  "Host: localhost/evil",
  "Host: localhost:PORT:PORT",
  "Host: 127.1:PORT",
  "Host: 0x7f000001:PORT",
  "Host: 2130706433:PORT",
  "Host: 0177.0.0.1:PORT",
  "Host: 0.0.0.0:PORT",
  "Host: 192.168.1.5:PORT",
  "Host: [::]:PORT",
  "Host: [fe80::1]:PORT",
  "Host: [::1%25lo]:PORT",
  "Host: [::1]evil:PORT",
  "Host: [localhost]:PORT",
  "Host: ::1",
  "Host: l\xf6calhost",
  "Host:",
  "Host: :PORT",
  "Host: 127.0.0.1:PORT\r\nHost: 127.0.0.1:PORT",
  "Host: 127.0.0.1:PORT\r\nHost: evil.example",
  "Host: evil.example\r\nHost: 127.0.0.1:PORT",
  "X-Forwarded-Host: 127.0.0.1:PORT\r\nHost: evil.example",
  "Host: 127.0.0.1:PORT\r\nOrigin: http://evil.example",
  "Host: 127.0.0.1:PORT\r\nOrigin: null",
  "Host: 127.0.0.1:PORT\r\nOrigin:",
  "Host: 127.0.0.1:PORT\r\nOrigin: http://127.0.0.1",
  "Host: 127.0.0.1:PORT\r\nOrigin: http://127.0.0.1:3000",
  "Host: 127.0.0.1:PORT\r\nOrigin: https://127.0.0.1:PORT",
  "Host: 127.0.0.1:PORT\r\nOrigin: http://localhost:PORT",
  "Host: 127.0.0.1:PORT\r\nOrigin: http://127.0.0.1:PORT.evil.example",
  "Host: 127.0.0.1:PORT\r\nOrigin: http://127.0.0.1:PORT\r\nOrigin: http://evil.example",
  "Host: 127.0.0.1:PORT\r\nOrigin: http://127.0.0.1:PORT http://evil.example",
  "Host: 127.0.0.1:PORT\r\norigin: file://",
  "Host: 127.0.0.1:PORT\r\nSec-Fetch-Site: cross-site",
  "Host: 127.0.0.1:PORT\r\nSec-Fetch-Site: same-site",
  "Host: 127.0.0.1:PORT\r\nSEC-FETCH-SITE: Cross-Site",
  "Host: 127.0.0.1:PORT\r\nSec-Fetch-Site: none\r\nSec-Fetch-Site: cross-site",
  "Host: 127.0.0.1:PORT\r\nSec-Fetch-Site: none, cross-site",
  "Host: 127.0.0.1:PORT\r\nSec-Fetch-Site: unheard-of",
  "Host: 127.0.0.1:PORT\r\nOrigin: http://127.0.0.1:PORT\r\nSec-Fetch-Site: cross-site",
  `${"a:\r\n".repeat(2_500)}Host: 127.0.0.1:PORT\r\nOrigin: http://evil.example`,
];

const PASSED = [
  "Host: 127.0.0.1:PORT",
  "Host: 127.0.0.1",
  "Host: 127.255.0.9:9000",
  "Host: localhost:PORT",
  "Host: LocalHost:PORT",
  "Host: [::1]:PORT",
  "Host: [0:0:0:0:0:0:0:1]",
  "Host: 127.0.0.1:PORT\r\nOrigin: http://127.0.0.1:PORT",
  "Host: localhost:80\r\nOrigin: http://localhost\r\nSec-Fetch-Site: same-origin",
  "Host: 127.0.0.1:PORT\r\nSec-Fetch-Site: none",
];

for (const [name, { path, token, method = "POST", open }] of Object.entries(SERVERS)) {
  describe(name, () => {
    test("logs a bounded number of refusals, whatever hosts they name", async () => {
      const { port, warned, close } = await open();
      try {
        for (let number = 0; number < 150; number += 1) {
          const head = `${method} ${path} HTTP/1.1\r\nHost: h${number}.example\r\n${token}`;
          assert.equal(await status(port, `${head}Content-Length: 9\r\n\r\n`), 403);
        }
        const lines = warned();
        assert.equal(lines.length, 50);
        assert.match(lines.at(-1) ?? "", /further lines of this kind are left out for a minute$/);
      } finally {
        await close();
      }
    });

    test("refuses requests of another site's page, of every method, before their body has come", async () => {
      const { port, reached, close } = await open();
      try {
        for (const fields of REFUSED)
          for (const method of METHODS) {
            const head = `${method} ${path} HTTP/1.1\r\n${fields.replaceAll("PORT", String(port))}\r\n${token}`;
            const expects = method === "PUT" ? "Expect: 100-continue\r\n" : "";
            const answer = await status(port, `${head}${expects}Content-Length: 9\r\n\r\n`);
            assert.equal(answer, 403, `${method} ${JSON.stringify(fields.slice(-200))}`);
          }
        assert.equal(reached(), 0);
      } finally {
        await close();
      }
    });

    test("refuses a request without a Host, and one for another host's address", async () => {
      const { port, reached, close } = await open();
      try {
        const rest = `${token}Content-Length: 2\r\n\r\n[]`;
        for (const head of [
          `POST ${path} HTTP/1.1\r\n`,
          `POST ${path} HTTP/1.0\r\n`,
          `POST http://evil.example${path} HTTP/1.1\r\nHost: 127.0.0.1\r\n`,
          `POST http://127.0.0.1:${port}${path} HTTP/1.1\r\nHost: 127.0.0.1\r\n`,
          `OPTIONS * HTTP/1.1\r\nHost: 127.0.0.1\r\n`,
        ])
          assert.match(String(await status(port, head + rest)), /^40[03]$/, head);
        assert.equal(reached(), 0);
      } finally {
        await close();
      }
    });

    test("refuses more header fields than a client has, and what it does not expect", async () => {
      const { port, reached, close } = await open();
      try {
        const ask = (/** @type {string} */ fields) =>
          status(
            port,
            `${method} ${path} HTTP/1.1\r\nHost: 127.0.0.1\r\n${token}${fields}Content-Length: 2\r\n\r\n[]`,
          );
        const own = token ? 3 : 2;
        assert.equal(await ask("a:\r\n".repeat(101 - own)), 431);
        assert.equal(await ask("a:\r\n".repeat(15_000)), 431);
        assert.equal(await ask("Expect: tea\r\n"), 417);
        assert.equal(reached(), 0);
        assert.equal(await ask("a:\r\n".repeat(100 - own)), 200);
      } finally {
        await close();
      }
    });

    test("serves its own clients", async () => {
      const { port, reached, close } = await open();
      try {
        for (const fields of PASSED) {
          const head = `${method} ${path} HTTP/1.1\r\n${fields.replaceAll("PORT", String(port))}\r\n${token}`;
          assert.equal(await status(port, `${head}Content-Length: 2\r\n\r\n[]`), 200, fields);
        }
        assert.equal(reached(), PASSED.length);
      } finally {
        await close();
      }
    });

    if (name === "metrics")
      return test("names no setting for other host names: there is none", async () => {
        const { port, warned, close } = await open();
        try {
          assert.equal(await status(port, `GET ${path} HTTP/1.1\r\nHost: gateway.lan\r\n\r\n`), 403);
          assert.match(warned().join("\n"), /another host \(gateway\.lan\); ask 127\.0\.0\.1/);
        } finally {
          await close();
        }
      });

    test("serves configured host names, and names the setting for others", async () => {
      const { port, warned, close } = await open(parseHosts(["Host.Docker.internal"]));
      try {
        const ask = (/** @type {string} */ fields) =>
          status(port, `POST ${path} HTTP/1.1\r\n${fields}\r\n${token}Content-Length: 2\r\n\r\n[]`);
        assert.equal(await ask("Host: host.docker.internal:8472"), 200);
        assert.equal(await ask("Host: host.docker.internal:1\r\nOrigin: http://host.docker.internal:1"), 200);
        assert.equal(await ask("Host: host.docker.internal:1\r\nOrigin: http://evil.example"), 403);
        assert.equal(await ask("Host: x.host.docker.internal"), 403);
        assert.match(warned().join("\n"), /another host \(x\.host\.docker\.internal\).*--allow-host x\.host/);
      } finally {
        await close();
      }
    });
  });
}

test("text of a request is escaped in logs", async () => {
  const at = await proxyTo(["/up=http://127.0.0.1:9"]);
  try {
    await get(`${at.origin}/up`, {
      headers: { host: `\x1b[2J"<b>${"x".repeat(2_000)}`.replace("\x1b", "\x9b") },
    });
    assert.equal(at.said.length, 1);
    assert.match(at.said[0] ?? "", /^[\x20-\x7e]{1,400}$/);
    assert.doesNotMatch(at.said[0] ?? "", /[<"]/);
  } finally {
    await at.close();
  }
});

test("a server beyond the loopback interface serves any host name, but no page of another site", () => {
  const open = { address: "0.0.0.0", hosts: [] };
  const named = { address: "::", hosts: ["proxy.lan"] };
  assert.equal(refusal("/", ["Host", "proxy.lan:8471"], open), undefined);
  assert.match(refusal("/", ["Host", "proxy.lan", "Origin", "http://evil"], open), /Origin/);
  assert.match(refusal("/", ["Host", "proxy.lan", "Sec-Fetch-Site", "cross-site"], open), /Sec-Fetch-Site/);
  for (const host of ["proxy.lan", "192.168.1.5:8471", "localhost", "[fd00::1]"])
    assert.equal(refusal("/", ["Host", host], named), undefined, host);
  assert.match(refusal("/", ["Host", "evil.example"], named), /--allow-host evil\.example/);
});

test("only loopback addresses count as loopback", () => {
  for (const address of ["127.0.0.1", "127.3.2.1", "::1", "localhost", "::ffff:127.0.0.1"])
    assert.ok(isLoopback(address), address);
  for (const address of [
    "0.0.0.0",
    "::",
    "127.evil.example",
    "localhost.evil",
    "10.0.0.1",
    "128.0.0.1",
    "",
    "::2",
  ])
    assert.ok(!isLoopback(address), address);
});

test("invalid host names are refused", () => {
  for (const name of ["http://a", "a:80", "*", "", "a b", "a/b", "-.", "a.."])
    assert.throws(() => parseHosts([name]), /--allow-host .*host name/, name);
  assert.deepEqual(parseHosts(["A.b", "::1", "10.0.0.1", "my_host"]), ["a.b", "::1", "10.0.0.1", "my_host"]);
});

/** The status of the answer. @param {number} port @param {string} bytes @returns {Promise<number>} */
function status(port, bytes) {
  return new Promise((resolve, reject) => {
    const socket = connect(port, "127.0.0.1", () => socket.write(bytes, "latin1"));
    socket.setTimeout(30_000, () => socket.destroy(new Error("no answer")));
    socket.on("error", reject).once("data", (data) => {
      socket.destroy();
      resolve(Number(/^HTTP\/1\.1 (\d+)/.exec(data.toString("latin1"))?.[1]));
    });
  });
}
