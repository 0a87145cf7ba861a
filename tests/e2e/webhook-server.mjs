// A webhook that stores what it gets, with its signatures checked.
import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { once } from "node:events";
import { createServer } from "node:http";

/** @typedef {Record<string, any> & { type: string, id: string, sent: string }} Notice */

export class WebhookServer {
  /** Every request's notice, with the answered status. @type {{ notice: Notice, status: number }[]} */
  requests = [];
  /** The status of the next answers. */
  status = 200;
  /** @type {Record<string, string>} */
  headers = {};
  #server = createServer((request, response) => {
    let body = "";
    request.on("data", (chunk) => {
      body += chunk;
    });
    request.on("end", () => {
      const digest = createHmac("sha256", this.secret).update(body).digest("hex");
      const notice = JSON.parse(body);
      try {
        assert.equal(request.method, "POST");
        assert.equal(request.headers["content-type"], "application/json");
        assert.equal(request.headers["x-agentwatch-signature"], `sha256=${digest}`);
        assert.equal(request.headers["x-agentwatch-timestamp"], notice.sent);
        assert.ok(!`${JSON.stringify(request.headers)}${body}`.includes(this.secret), "no secret is sent");
      } catch (error) {
        this.problems.push(error);
      }
      this.requests.push({ notice, status: this.status });
      response.writeHead(this.status, this.headers).end();
    });
  });
  /** @type {unknown[]} */
  problems = [];

  /** @param {string} secret */
  constructor(secret) {
    this.secret = secret;
  }

  /** @param {string} secret */
  static async open(secret) {
    const server = new WebhookServer(secret);
    server.#server.listen(0, "127.0.0.1");
    await once(server.#server, "listening");
    return server;
  }

  get url() {
    const { port } = /** @type {import("node:net").AddressInfo} */ (this.#server.address());
    return `http://127.0.0.1:${port}/hook`;
  }

  /** The accepted notices. */
  get accepted() {
    return this.requests.filter(({ status }) => status === 200).map(({ notice }) => notice);
  }

  close() {
    this.#server.closeAllConnections();
    this.#server.close();
  }
}
