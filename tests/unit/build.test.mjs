// The module is built by stable Rust, as anybody would build them.
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

const PROJECT = fileURLToPath(new URL("../..", import.meta.url));
/** What Debian's packages lack is made there, once for a machine. */
const TOOLCHAIN = join("lib", "wasm-toolchain.mjs");

test("no script but the one that makes the toolchain uses what is unstable", () => {
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
