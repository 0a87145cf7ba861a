/** What an operator asks a gateway: `openclaw agentwatch …`, and `/agentwatch` in a chat. What answers is loaded then. */

import type { PluginApi } from "./openclaw.js";
import type { Shared } from "./shared.js";

const COMMANDS = {
  status: "What is counted, sent, waiting and dropped",
  doctor: "What is wrong, and what mends it",
  test: "Sends a marked record to AgentWatch and reads it back",
};
const NAME = "agentwatch";
const DESCRIPTION = `AgentWatch: ${Object.keys(COMMANDS).join(", ")}`;

/** Registers both. */
export function registerOperator(api: PluginApi, state: Shared): void {
  api.registerCli?.(
    ({ program, config }) => {
      const group = program.command(NAME).description(DESCRIPTION);
      for (const [command, description] of Object.entries(COMMANDS))
        group
          .command(command)
          .description(description)
          // Options are read where the command is, in both of its ways.
          .argument("[options...]")
          .helpOption(false)
          .allowUnknownOption()
          .allowExcessArguments()
          .action(async (args) => {
            const { operatorCommand } = await import("./cli-operator.js");
            const inside = { config, version: api.runtime?.version };
            process.exitCode = await operatorCommand([command, ...args], inside);
          });
    },
    {
      commands: [NAME],
      descriptors: [{ name: NAME, description: DESCRIPTION, hasSubcommands: true }],
    },
  );
  api.registerCommand?.({
    name: NAME,
    description: DESCRIPTION,
    acceptsArgs: true,
    handler: async ({ args, config }) => {
      const { inChat } = await import("./cli-operator.js");
      return { text: await inChat(args?.trim() ?? "", state, { config, version: api.runtime?.version }) };
    },
  });
}
