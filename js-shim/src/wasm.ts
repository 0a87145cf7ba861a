/** Loads the core's module and makes instances of it. No network and no environment in this file. */

import { readFileSync } from "node:fs";
import { makeGlue } from "./core.js";

/** The core as wasm-bindgen shows it; see `crate/src/wasm.rs` for what each does. Times are ms. */
export interface Core {
  expectDiagnostics(expected: boolean): void;
  observe(source: number, facts: unknown[], wall: number, mono: number): string | undefined;
  advance(wall: number, mono: number): string;
  begin(wall: number, mono: number, hurry: boolean): string | undefined;
  answered(reply: string, wall: number, mono: number): string | undefined;
  close(wall: number, mono: number): void;
  journal(): Uint8Array;
  snapshot(): Uint8Array;
  recover(journal: Uint8Array, wall: number, mono: number): void;
  status(): string;
}

/** One instance of the module. */
export interface Instance {
  Core: new (settings: Record<string, unknown>, seedHigh: number, seedLow: number) => Core;
  sources(): string;
  send(
    url: string,
    token: string | undefined,
    path: string,
    body: string | undefined,
    timeoutMs: number,
  ): Promise<string>;
}

let compiled: WebAssembly.Module | undefined;

/**
 * Makes an instance, synchronously. The module is compiled once a process.
 *
 * @throws where the module's file is missing or broken
 */
export function instantiate(): Instance {
  compiled ??= new WebAssembly.Module(readFileSync(new URL("./core.wasm", import.meta.url)));
  const glue = makeGlue();
  glue.initSync({ module: compiled });
  return glue;
}
