import { cargoTool } from "./cargo-tool.mjs";

/** The command that checks `Cargo.lock` against `deny.toml`. @returns {Promise<string>} Path of its program. */
export const cargoDeny = () => cargoTool("cargo-deny", "0.20.2", ["--no-default-features"]);
