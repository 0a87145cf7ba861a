// The module is built with stable Rust and wasm-pack.
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

const PROJECT = fileURLToPath(new URL("../..", import.meta.url));
/** This script builds the WebAssembly target that Debian's packages lack. */
const TOOLCHAIN = join("lib", "wasm-toolchain.mjs");

test("only the script that makes the toolchain uses unstable features", () => {
  const folder = join(PROJECT, "scripts");
  const scripts = /** @type {string[]} */ (readdirSync(folder, { recursive: true }));
  const unstable = scripts
    .filter((name) => name.endsWith(".mjs"))
    .filter((name) =>
      /RUSTC_BOOTSTRAP|["'`]-Z|immediate-abort/.test(readFileSync(join(folder, name), "utf8")),
    );
  assert.deepEqual(unstable, [TOOLCHAIN]);
});

test("the module's profile is optimized for speed", () => {
  const manifest = readFileSync(join(PROJECT, "Cargo.toml"), "utf8");
  const [profile = ""] = /^\[profile\.release\]\n(?:[^[\n].*\n)+/m.exec(manifest) ?? [];
  assert.match(profile, /^opt-level = 3$/m);
});
