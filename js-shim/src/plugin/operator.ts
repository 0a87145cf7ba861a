/** Registers `openclaw agentwatch …` and `/agentwatch` in a chat. The commands' modules are loaded when one runs. */

import type { PluginApi } from "./openclaw.js";
import type { Shared } from "./shared.js";

const COMMANDS = {
  status: "Shows counted, sent, pending and dropped calls",
  doctor: "Finds problems and says how to mend them",
  test: "Sends a marked record to AgentWatch and reads it back",
  report: "Shows what calls cost, by model, agent, channel, job, session or day",
  allow: "Lets all calls pass for a time, whatever the allowances: allow 1h",
  reconcile: "Compares AgentWatch's figures with a provider's own usage and costs",
};
const NAME = "agentwatch";
const DESCRIPTION = "AgentWatch: status, doctor, test, allow";

/** Registers the command line and the chat command. */
export function registerOperator(api: PluginApi, state: Shared): void {
  api.registerCli?.(
    ({ program, config }) => {
      const group = program.command(NAME).description(DESCRIPTION);
      for (const [command, description] of Object.entries(COMMANDS))
        group
          .command(command)
          .description(description)
          // The command itself parses its options, also when it runs as `agentwatch-openclaw`.
          .argument("[options...]")
          .helpOption(false)
          .allowUnknownOption()
          .allowExcessArguments()
          .action(async (args) => {
            const { operatorCommand } = await import("../doctor/commands.js");
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
      const { inChat } = await import("../doctor/commands.js");
      return { text: await inChat(args?.trim() ?? "", state, { config, version: api.runtime?.version }) };
    },
  });
}
