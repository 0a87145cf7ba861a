import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createServer as createSecureServer } from "node:tls";
import { certificateFor } from "../../examples/gateway/channel/certificate.mjs";

/** The receiver's name, which the proxy alone resolves. */
export const HOST = "watch.internal";

/**
 * A private network on the loopback interface: a receiver behind TLS with a certificate of the network's own authority, and
 * a forward proxy, which alone resolves the receiver's name.
 */
export async function startPrivateNetwork() {
  const root = mkdtempSync(join(tmpdir(), "agentwatch-network-"));
  const authority = join(root, "authority.pem");
  const certificate = certificateFor(HOST);
  writeFileSync(authority, certificate.cert);
  let receiver = 0;
  /** Targets of CONNECT requests to the proxy. @type {string[]} */
  const asked = [];
  /** @type {Set<import("node:net").Socket>} */
  const sockets = new Set();

  /** Forwards both directions. @param {import("node:stream").Duplex} socket @param {number} port @param {Buffer} [head] */
  const pass = (socket, port, head) => {
    const behind = connect(port, "127.0.0.1");
    sockets.add(behind);
    if (head) behind.write(head);
    socket.pipe(behind).pipe(socket);
    // When one side closes, the other is closed too, without an error.
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
    /** Environment variables that make Node use the proxy. */
    proxied: { HTTPS_PROXY: address, HTTP_PROXY: address, NO_PROXY: "localhost,127.0.0.1" },
    /** Sets the receiver. Returns its address in the network. @param {string} url */
    setReceiver: (url) => {
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
