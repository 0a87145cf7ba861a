// Writes the code that copies an event's declared fields, one function a source, from the module's table of sources
// (`crate/src/sources/facts.rs`). Code with literal property names runs some times faster than a loop over paths, and OpenClaw's
// install scan refuses `new Function`, so the build writes it.
import { createHash } from "node:crypto";

/**
 * @typedef {{ name: string, path: string, names?: string[] }} Field
 * @typedef {{ source: string, mechanism: string, gateways: string, only: [string, string] | null, fields: Field[], list: { path: string, max: number, fields: Field[] } | null }} Table
 */

const HEAD = `// Made by the build from the module's table of sources; see scripts/lib/pickers.mjs.
import { UNREADABLE, namesOf } from "./pack.js";
`;

/** @param {string} path `a.b|c`: alternatives, of which the first with a value is used. */
function alternatives(path) {
  return path.split("|").map((one) => one.split("."));
}

/** Variables for the objects on the paths to fields, so that each object is read once an event. */
class Objects {
  /** @type {Map<string, string>} */
  #names = new Map();
  /** @type {string[]} */
  lines = [];
  #prefix;

  /** @param {string[]} roots Names of parameters. @param {string} prefix */
  constructor(roots, prefix) {
    for (const root of roots) this.#names.set(root, root);
    this.#prefix = prefix;
  }

  /** The variable that holds the object at a path. @param {string[]} keys @returns {string} */
  of(keys) {
    const path = keys.join(".");
    const known = this.#names.get(path);
    if (known) return known;
    // The outer object takes its name first.
    const outer = this.of(keys.slice(0, -1));
    const name = `${this.#prefix}${this.#names.size}`;
    this.lines.push(read(name, outer, String(keys.at(-1))));
    this.#names.set(path, name);
    return name;
  }
}

/** @param {string} name @param {string} object @param {string} key */
function read(name, object, key) {
  return `let ${name}; try { ${name} = ${object}?.[${JSON.stringify(key)}]; } catch { ${name} = UNREADABLE; }`;
}

/**
 * Lines that add one field: of its alternatives the first that is neither undefined nor null.
 *
 * @param {string} path @param {Objects} objects @param {string} call
 */
function fieldLines(path, objects, call) {
  const paths = alternatives(path);
  const lines = ["{ let value;"];
  for (const [index, keys] of paths.entries()) {
    const object = keys.length > 1 ? objects.of(keys.slice(0, -1)) : undefined;
    const key = JSON.stringify(keys.at(-1));
    const get = object ? `value = ${object}?.[${key}];` : `value = ${keys[0]};`;
    const guarded = object ? `try { ${get} } catch { value = UNREADABLE; }` : get;
    lines.push(index === 0 ? guarded : `if (value === undefined || value === null) { ${guarded} }`);
  }
  lines.push(call === "usage" ? "pack.usage(value, NAMES); }" : `pack.${call}(value); }`);
  return lines.join(" ");
}

/** @param {string} path */
function callOf(path) {
  const [, kind, rest] = /^(noise|preview|time|usage):(.*)$/.exec(path) ?? [];
  return { call: kind ?? "fact", path: rest ?? path };
}

/** @param {NonNullable<Table["list"]>} list @param {Objects} objects */
function listLines(list, objects) {
  const lists = alternatives(list.path).map((keys) => {
    const object = objects.of(keys.slice(0, -1));
    return `() => ${object}?.[${JSON.stringify(keys.at(-1))}]`;
  });
  const items = new Objects(["item"], "i");
  const rows = list.fields.map(({ path }) => {
    const given = alternatives(path).map((keys) => ["item", ...keys].join("."));
    return fieldLines(given.join("|"), items, "fact");
  });
  const row = [...items.lines, ...rows].join("\n      ");
  return `pack.list([${lists.join(", ")}], ${list.max}, ${list.fields.length}, (item) => {\n      ${row}\n    });`;
}

/** @param {Table} table @param {number} index */
function picker({ only, fields, list }, index) {
  const objects = new Objects(["event", "ctx"], "o");
  const lines = [];
  // The list takes the place of the last field.
  const own = list ? fields.slice(0, -1) : fields;
  for (const { path } of own) {
    const { call, path: of } = callOf(path);
    lines.push(fieldLines(of, objects, call));
  }
  if (list) lines.push(listLines(list, objects));
  const guard = [];
  if (only) {
    const [path, value] = only;
    const tested = new Objects(["event", "ctx"], "g");
    const keys = alternatives(path)[0] ?? [];
    guard.push(...tested.lines);
    const object = tested.of(keys.slice(0, -1));
    guard.splice(0, guard.length, ...tested.lines);
    guard.push(
      `try { if (${object}?.[${JSON.stringify(keys.at(-1))}] !== ${JSON.stringify(value)}) return false; } catch { return false; }`,
    );
  }
  const body = [
    ...guard,
    ...objects.lines,
    `pack.begin(${index}, wall, mono, ${fields.length});`,
    ...lines,
    "return true;",
  ];
  return `(event, ctx, pack, wall, mono) => {\n    ${body.join("\n    ")}\n  }`;
}

/**
 * @param {string} sources The module's table, as JSON.
 * @returns {string} The module `pickers.js`.
 */
export function pickersOf(sources) {
  /** @type {Table[]} */
  const tables = JSON.parse(sources);
  /** @type {Map<string, string[]>} */
  const bySource = new Map();
  for (const [index, table] of tables.entries()) {
    const facts = JSON.stringify(table.fields.map(({ name }) => name));
    const entry = `{ index: ${index}, facts: ${facts}, pick: ${picker(table, index)} }`;
    bySource.set(table.source, [...(bySource.get(table.source) ?? []), entry]);
  }
  const entries = [...bySource].map(
    ([name, list]) => `  ${JSON.stringify(name)}: [\n    ${list.join(",\n    ")},\n  ],`,
  );
  const heard = (/** @type {string} */ mechanism, /** @type {string} */ gateways) =>
    JSON.stringify([
      ...new Set(
        tables
          .filter((table) => table.mechanism === mechanism && table.gateways === gateways)
          .map(({ source }) => source),
      ),
    ]);
  const hash = createHash("sha256").update(sources).digest("hex").slice(0, 16);
  // Names of events come from other programs: without a prototype, no name finds an inherited property.
  // All usage objects have the same table of names.
  const names = tables.flatMap(({ fields }) => fields).find((field) => field.names)?.names ?? [];
  return `${HEAD}
const NAMES = namesOf(${JSON.stringify(names)});
export const SOURCES = Object.assign(Object.create(null), {
${entries.join("\n")}
});
export const HOOKS = {
  every: ${heard("hook", "every")},
  older: ${heard("hook", "older")},
  newer: ${heard("hook", "newer")},
};
export const INTERNAL_EVENTS = ${heard("internal", "every")};
export const DIAGNOSTICS = ${heard("diagnostic", "every")};
export const TABLE = ${JSON.stringify(hash)};
`;
}
