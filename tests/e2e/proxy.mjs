import { once } from "node:events";
import { createServer, request as httpRequest } from "node:http";

/**
 * A request that passed, as the receiver gets it.
 *
 * @typedef {object} Passed
 * @property {string} method
 * @property {string} url
 * @property {import("node:http").IncomingHttpHeaders} headers
 * @property {string} body
 * @property {Treatment} treatment
 * @property {number} [status] The status of the receiver's answer.
 *
 * The treatment of a request: it passes; it is answered with an error and does not arrive; it arrives and its answer is
 * lost; it neither arrives nor is answered; it is redirected.
 *
 * @typedef {"pass" | "refuse" | "lose answer" | "drop" | { redirect: string }} Treatment
 */

/** @typedef {Awaited<ReturnType<typeof startProxy>>} Proxy */

/**
 * A proxy in front of a receiver that records requests and makes network faults.
 *
 * @param {string} target
 * @param {(request: { method: string, url: string, body: string }) => Treatment} [treat]
 */
export async function startProxy(target, treat = () => "pass") {
  /** @type {Passed[]} */
  const passed = [];
  const server = createServer(async (request, response) => {
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    const body = Buffer.concat(chunks);
    const { method = "", url = "", headers } = request;
    const treatment = treat({ method, url, body: body.toString("utf8") });
    /** @type {Passed} */
    const record = { method, url, headers, body: body.toString("utf8"), treatment };
    passed.push(record);
    if (typeof treatment === "object")
      return void response.writeHead(307, { location: treatment.redirect + url }).end();
    if (treatment === "refuse") return void response.writeHead(500).end("out of order");
    if (treatment === "drop") return void response.destroy();
    const answer = await forward(target, { method, url, headers, body }).catch(() => undefined);
    record.status = answer?.status;
    if (!answer || treatment === "lose answer") return void response.destroy();
    response.writeHead(answer.status, answer.headers).end(answer.body);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = /** @type {import("node:net").AddressInfo} */ (server.address());
  return {
    url: `http://127.0.0.1:${port}`,
    /** @type {readonly Passed[]} */
    passed,
    /** @param {typeof treat} next */
    treat: (next) => {
      treat = next;
    },
    close: async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

/**
 * @param {string} target
 * @param {{ method: string, url: string, headers: import("node:http").IncomingHttpHeaders, body: Buffer }} request
 * @returns {Promise<{ status: number, headers: import("node:http").IncomingHttpHeaders, body: Buffer }>}
 */
function forward(target, { method, url, headers, body }) {
  return new Promise((resolve, reject) => {
    const { host: _, connection: __, ...rest } = headers;
    const options = { method, headers: rest, agent: false };
    const outgoing = httpRequest(`${target}${url}`, options, async (answer) => {
      const chunks = [];
      for await (const chunk of answer) chunks.push(chunk);
      resolve({ status: answer.statusCode ?? 0, headers: answer.headers, body: Buffer.concat(chunks) });
    });
    outgoing.on("error", reject).end(body);
  });
}
