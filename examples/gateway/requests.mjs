/**
 * What a request to the scripted provider asks for, in each of the formats that it speaks.
 *
 * @typedef {"openai" | "anthropic" | "gemini" | "ollama" | "compact"} ApiName
 */

/** The format of a request by its path; nothing where it is none of these. @param {string} url @returns {ApiName | undefined} */
export function apiOf(url) {
  const [path = ""] = url.split("?");
  if (path.endsWith("/chat/completions")) return "openai";
  if (path.endsWith("/responses/compact")) return "compact";
  if (path.endsWith("/messages")) return "anthropic";
  if (/:(stream)?generateContent$/i.test(decodeURIComponent(path))) return "gemini";
  if (path.endsWith("/api/chat")) return "ollama";
  return undefined;
}

/**
 * The model, whether a stream is asked for and as what, the conversation and the tools.
 *
 * @param {ApiName} api
 * @param {string} url
 * @param {any} body
 */
export function requestOf(api, url, body) {
  if (api === "gemini") return geminiRequest(decodeURIComponent(url), body);
  return {
    model: String(body.model),
    stream: api === "ollama" ? body.stream !== false : body.stream === true,
    isList: false,
    messages: /** @type {any[]} */ (body.messages ?? []),
    tools: (body.tools ?? []).map((/** @type {any} */ tool) => tool.function?.name ?? tool.name),
  };
}

/** @param {string} url @param {any} body */
function geminiRequest(url, body) {
  const [, model = "", action = ""] = /models\/([^:/?]+):(\w+)/.exec(url) ?? [];
  const stream = action === "streamGenerateContent";
  const declared = (body.tools ?? []).flatMap((/** @type {any} */ tool) => tool.functionDeclarations ?? []);
  return {
    model,
    stream,
    isList: stream && !/[?&]alt=sse\b/.test(url),
    messages: (body.contents ?? []).map(messageOf),
    tools: declared.map((/** @type {any} */ tool) => tool.name),
  };
}

/** A turn of Gemini's as Anthropic would write it. @param {{ role?: string, parts?: any[] }} content */
function messageOf({ role, parts = [] }) {
  return {
    role: role === "model" ? "assistant" : "user",
    content: parts.map((part) => {
      if (part.functionCall) return { type: "tool_use" };
      return typeof part.text === "string" && !part.thought
        ? { type: "text", text: part.text }
        : { type: "other" };
    }),
  };
}

/**
 * The user's turn that a request continues: all text that the user's side said since the model last spoke without
 * calling a tool (gateways add messages of their own to it), and how many rounds of tools it has had since.
 *
 * @param {any[]} messages
 */
export function lastTurn(messages) {
  let toolRounds = 0;
  const said = [];
  for (const message of [...messages].reverse()) {
    const parts = Array.isArray(message.content)
      ? message.content
      : [{ type: "text", text: message.content ?? "" }];
    if (message.role === "assistant") {
      const called =
        message.tool_calls?.length > 0 || parts.some((/** @type {any} */ part) => part.type === "tool_use");
      if (!called) break;
      toolRounds += 1;
    } else if (message.role === "user") {
      said.unshift(
        ...parts
          .filter((/** @type {any} */ part) => part.type === "text")
          .map((/** @type {any} */ part) => part.text),
      );
    }
  }
  return { prompt: said.join("\n"), toolRounds };
}
