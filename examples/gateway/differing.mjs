/**
 * A request to the provider.
 *
 * @typedef {{ model: string, prompt_tokens: number, completion_tokens: number, at: number, turn: string }} Request `at` is
 *   its end, in ms since 1970.
 */

/**
 * A call that AgentWatch shows.
 *
 * @typedef {{ model: string, agent_name: string, prompt_tokens: number, completion_tokens: number, timestamp: string }} Call
 */

/**
 * A readable line for each request that is not shown, and for each call that is shown too often. Each call is the request with
 * its model and tokens that ended nearest to it.
 *
 * @param {Request[]} requests
 * @param {Call[]} calls
 * @returns {string[]}
 */
export function differing(requests, calls) {
  const key = (/** @type {Request | Call} */ one) =>
    JSON.stringify([one.model, one.prompt_tokens, one.completion_tokens]);
  const pairs = requests.flatMap((request) =>
    calls
      .filter((call) => key(call) === key(request))
      .map((call) => ({ request, call, ms: Math.abs(Date.parse(call.timestamp) - request.at) })),
  );
  /** @type {Set<Request>} */
  const shown = new Set();
  /** @type {Set<Call>} */
  const sent = new Set();
  for (const { request, call } of pairs.sort((a, b) => a.ms - b.ms)) {
    if (shown.has(request) || sent.has(call)) continue;
    shown.add(request);
    sent.add(call);
  }
  // A provider knows no agents: it is that of the model's other calls.
  const agentOf = (/** @type {string} */ model) =>
    [...new Set(calls.filter((call) => call.model === model).map(({ agent_name }) => agent_name))].join(
      " or ",
    );
  const missing = requests
    .filter((request) => !shown.has(request))
    .map((request) => ({
      at: request.at,
      text: `not shown: ${describe(request, agentOf(request.model) || "unknown", request.at)}, of the turn ${JSON.stringify(request.turn)}`,
    }));
  const known = new Set(requests.map(key));
  const surplus = calls
    .filter((call) => !sent.has(call))
    .map((call) => {
      const what = known.has(key(call)) ? "shown too often" : "shown, but not sent";
      const at = Date.parse(call.timestamp);
      return { at, text: `${what}: ${describe(call, call.agent_name, at)}` };
    });
  return [...missing, ...surplus].sort((a, b) => a.at - b.at).map(({ text }) => text);
}

/** @param {Request | Call} one @param {string} agent @param {number} at */
function describe({ model, prompt_tokens, completion_tokens }, agent, at) {
  return `${new Date(at).toISOString()} agent ${agent}, ${model}, ${prompt_tokens} + ${completion_tokens} tokens`;
}
