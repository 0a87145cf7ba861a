/** The turns of the demonstration. @type {[string, (gateway: import("./gateway.mjs").Gateway) => Promise<unknown>][]} */
export const TURNS = [
  ["a plain turn", (g) => g.agentTurn({ session: "plain", message: "hello" })],
  [
    "a turn with two rounds of tools",
    (g) => g.agentTurn({ session: "tools", message: "read it [[tools 2]]" }),
  ],
  [
    "a second agent, on an Anthropic model, with tools",
    (g) => g.agentTurn({ agent: "ant", session: "tools", message: "read it [[tools 1]] [[delay 400]]" }),
  ],
  ["a message in the web chat", async (g) => (await g.chatSend({ session: "chat", message: "hello" })).done],
  ["the gateway's own HTTP endpoint", (g) => g.httpChat({ session: "http", message: "hello" })],
  ["a subagent", (g) => g.agentTurn({ session: "parent", message: "delegate [[spawn count the files]]" })],
  ["a cron job", (g) => g.cronRun({ message: "good morning" })],
  [
    "a model that fails, until the fallback takes over",
    (g) => g.agentTurn({ session: "fallback", message: "hello [[fail 500 m1]]" }),
  ],
];
