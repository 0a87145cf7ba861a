import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createServer as createSecureServer } from "node:tls";
import { certificateFor } from "../../examples/gateway/channel/certificate.mjs";

/** Nobody but the proxy knows it. */
export const HOST = "watch.internal";

/**
 * A company's network on the loopback interface: a receiver behind TLS, with a certificate of the company's own authority, and
 * a forward proxy, the only one that knows the receiver's name.
 */
export async function startCompany() {
  const root = mkdtempSync(join(tmpdir(), "agentwatch-company-"));
  const authority = join(root, "authority.pem");
  const certificate = certificateFor(HOST);
  writeFileSync(authority, certificate.cert);
  let receiver = 0;
  /** Where the proxy was asked to go. @type {string[]} */
  const asked = [];
  /** @type {Set<import("node:net").Socket>} */
  const sockets = new Set();

  /** Passes everything on, both ways. @param {import("node:stream").Duplex} socket @param {number} port @param {Buffer} [head] */
  const pass = (socket, port, head) => {
    const behind = connect(port, "127.0.0.1");
    sockets.add(behind);
    if (head) behind.write(head);
    socket.pipe(behind).pipe(socket);
    // One side's end is the other's; how it came about is no concern of what stands between.
    socket.on("error", () => behind.destroy());
    behind.on("error", () => socket.destroy());
    behind.on("close", () => sockets.delete(behind));
  };
  const secure = createSecureServer(certificate, (socket) => pass(socket, receiver));
  await once(secure.listen(0, "127.0.0.1"), "listening");
  const proxy = createServer((_, response) => response.writeHead(405).end());
  proxy.on("connect", (request, socket, head) => {
    asked.push(request.url ?? "");
    socket.write("HTTP/1.1 200 Connection established\r\n\r\n");
    pass(socket, request.url === `${HOST}:443` ? portOf(secure) : receiver, head);
  });
  await once(proxy.listen(0, "127.0.0.1"), "listening");
  const address = `http://127.0.0.1:${portOf(proxy)}`;

  return {
    authority,
    asked,
    securePort: portOf(secure),
    /** How Node is told of the proxy. */
    proxied: { HTTPS_PROXY: address, HTTP_PROXY: address, NO_PROXY: "localhost,127.0.0.1" },
    /** From here on that is the receiver; its address as seen from outside. @param {string} url */
    lead: (url) => {
      receiver = Number(new URL(url).port);
      return `https://${HOST}`;
    },
    close: async () => {
      for (const socket of sockets) socket.destroy();
      secure.close();
      proxy.closeAllConnections();
      proxy.close();
      rmSync(root, { recursive: true, force: true });
    },
  };
}

/** @param {import("node:net").Server} server */
function portOf(server) {
  return /** @type {import("node:net").AddressInfo} */ (server.address()).port;
}
