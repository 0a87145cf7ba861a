import type { Pack } from "./pack.js";

/**
 * Packs one event's declared fields.
 *
 * @returns whether the event is one of the source's; nothing was packed otherwise
 */
export type Picker = (event: unknown, ctx: unknown, pack: Pack, wall: number, mono: number) => boolean;

/** A source of events, as the module's table declares it. */
export interface Source {
  /** Its index in the table. */
  index: number;
  /** The names of its facts, in order. */
  facts: readonly string[];
  pick: Picker;
}

/** All sources by the names of their events; made by the build from the module's table (`scripts/lib/pickers.mjs`). */
export const SOURCES: Readonly<Record<string, readonly Source[] | undefined>>;

/** Typed hooks that are read: of every gateway, of 2026.3.13 alone, and those that it would log a warning for. */
export const HOOKS: Readonly<Record<"every" | "older" | "newer", readonly string[]>>;

/** Families of internal events that no typed hook tells of. */
export const INTERNAL_EVENTS: readonly string[];

/** Types of diagnostic events that are read. */
export const DIAGNOSTICS: readonly string[];

/** Hash of the table: events that were packed by one table are read by the same table only. */
export const TABLE: string;
/** Hash of everything that was built with it: a worker of another build does not understand this one. */
export const BUILD: string;
