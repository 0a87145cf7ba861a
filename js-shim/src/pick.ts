/** Copies the declared scalar fields of a stranger's object, and nothing else, into a fresh array. */

/** What crosses into the module; an empty array stands for what is no scalar or could not be read. */
export type Fact = string | number | boolean | null | Fact[];

/** A source's table, as the core declares it. */
export interface SourceTable {
  source: string;
  only: [path: string, value: string] | null;
  fields: Array<{ name: string; path: string }>;
  list: { path: string; max: number; fields: Array<{ name: string; path: string }> } | null;
}

/** Copies one event's fields; `undefined` where the event is none of ours. */
export type Picker = (args: readonly unknown[]) => Fact[] | undefined;

/** Texts beyond this are cut, so that no event costs more than another. */
const MAX_TEXT = 1024;

/** Texts that are no message of anybody's: heartbeats, silent answers, blanks. */
const NOISE = /^(?:HEARTBEAT_OK$|NO_REPLY$|Read HEARTBEAT\.md|$)/i;
/** How much of a text a preview shows, where the operator asked for previews. */
const PREVIEW = 200;

/** Keys one within the other; a handler's path begins with the argument's number. */
type Path = ReadonlyArray<string | number>;

/** A handler's arguments, by their names in paths. */
const ARGUMENTS = ["event", "ctx"];

/** How a field is copied: as it is, as the flag whether it is noise, as a preview, or as a time in ms. */
type Field = { as: "value" | "noise" | "preview" | "time"; paths: readonly Path[] };

/** Makes the picker of a source. Its paths are taken apart once, for the first event: a gateway tells of few sources. */
export function makePicker(table: SourceTable, hasPreviews = false): Picker {
  const copy = (root: unknown, { as, paths }: Field): Fact => {
    if (as === "value") return first(root, paths);
    if (as === "preview" && !hasPreviews) return null;
    const text = first(root, paths);
    if (as === "time") return typeof text === "string" ? Date.parse(text) : text;
    if (as === "noise") return typeof text !== "string" || NOISE.test(text.trim());
    return typeof text === "string" ? text.replaceAll("\n", " ").trim().slice(0, PREVIEW) : null;
  };
  let known: Paths | undefined;
  return (args) => {
    known ??= pathsOf(table);
    const { fields, only, list } = known;
    if (only && first(args, only.paths) !== only.value) return undefined;
    const facts = fields.map((field) => copy(args, field));
    // The list stands where its own field is declared: last.
    if (list) facts[facts.length - 1] = entries(args, list);
    return facts;
  };
}

/** A source's table, taken apart. */
interface Paths {
  fields: Field[];
  only: { paths: Path[]; value: string } | null;
  list: List | null;
}

interface List {
  paths: Path[];
  max: number;
  fields: Path[][];
}

function pathsOf({ fields, only, list }: SourceTable): Paths {
  return {
    fields: fields.map((field) => takeApart(field.path)),
    only: only && { paths: ofArguments(only[0]), value: only[1] },
    list: list && {
      paths: ofArguments(list.path),
      max: list.max,
      fields: list.fields.map((field) => alternatives(field.path)),
    },
  };
}

function takeApart(path: string): Field {
  const [, kind, rest] = /^(noise|preview|time):(.*)$/.exec(path) ?? [];
  return { as: (kind as Field["as"]) ?? "value", paths: ofArguments(rest ?? path) };
}

function ofArguments(path: string): Path[] {
  return alternatives(path).map(([name, ...keys]) => [ARGUMENTS.indexOf(String(name)), ...keys]);
}

function alternatives(path: string): Path[] {
  return path.split("|").map((one) => one.split("."));
}

/** The first of a field's alternatives that is there. */
function first(root: unknown, paths: readonly Path[]): Fact {
  for (const path of paths) {
    const fact = scalar(root, path);
    if (fact !== null) return fact;
  }
  return null;
}

function scalar(root: unknown, path: Path): Fact {
  try {
    const value = follow(root, path);
    switch (typeof value) {
      case "string":
        return value.length > MAX_TEXT ? value.slice(0, MAX_TEXT) : value;
      case "number":
      case "boolean":
        return value;
      case "undefined":
        return null;
      default:
        return value === null ? null : [];
    }
  } catch {
    // A hostile getter or a revoked proxy: the core counts the field as unreadable.
    return [];
  }
}

function follow(root: unknown, path: Path): unknown {
  let value = root;
  for (const key of path) {
    if (value === null || value === undefined) return undefined;
    value = (value as Record<string | number, unknown>)[key];
  }
  return value;
}

function entries(root: unknown, list: List): Fact[] {
  for (const path of list.paths) {
    try {
      const value = follow(root, path);
      if (!Array.isArray(value)) continue;
      const taken: Fact[] = [];
      for (let index = 0; index < Math.min(value.length, list.max); index += 1)
        taken.push(list.fields.map((paths) => first(value[index], paths)));
      return taken;
    } catch {
      // As above: what cannot be read is not there.
    }
  }
  return [];
}
