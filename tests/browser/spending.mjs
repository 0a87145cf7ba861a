/** Records that fill the page's cards of spending. */

/** Calls of a channel, of a cron job, and with the parts of their prompts. */
export function turns() {
  return Array.from({ length: 40 }, (_, index) => ({
    model: "anthropic/claude-sonnet-4-6",
    agent_name: index % 2 ? "main" : "research",
    channel: index % 3 ? "telegram" : "discord",
    ...(index % 5 === 0 && { job: "nightly-digest", trigger: "cron" }),
    session_key: `s_${index % 12}a1b2c3`,
    cost_source: "openclaw",
    prompt_tokens: 21_000,
    completion_tokens: 400,
    cost_usd: 0.07,
    cache_saved_usd: 0.031,
    cache_write_extra_usd: 0.004,
    prompt_stats: {
      system_prompt: 12_000,
      tool_definitions: 48_000,
      messages: 30_000,
      other: 100,
      cost_usd: 0.06,
    },
  }));
}

/** Log records of a loss of the cache and of an alarm. @param {string} name @param {number} usd */
export function incidents(name, usd) {
  const cause = name.length > 60 ? name : "idle";
  return [
    {
      level: "warn",
      agent_name: "main",
      message: `agent main, session ${name} lost 48210 cached tokens`,
      metadata: { type: "cache_incident", cause, extra_usd: usd },
    },
    {
      level: "warn",
      agent_name: "main",
      message: `tool exec of agent ${name} has failed 8 times in a row`,
      metadata: { type: "alarm_began", kind: "tool_loop", usd },
    },
  ];
}

/** Metrics of allowances, one open and one spent. @param {string} words @param {number} limit */
export function allowances(words, limit) {
  const tags = { limit, unit: "usd", per: "day", then: "stop" };
  const window_end = new Date(Date.now() + 7_200_000).toISOString();
  const of = (/** @type {string} */ allowance, /** @type {number} */ value) => ({
    name: "allowance_spent",
    agent_name: words,
    kind: "gauge",
    value,
    tags: { ...tags, allowance, window_end },
  });
  return [of(words, limit / 3), of(`${words}, too`, limit * 1.2)];
}
