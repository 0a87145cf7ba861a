import type { Pack } from "./pack.js";

/**
 * Packs one event's declared fields.
 *
 * @returns whether the event is of the source; otherwise nothing is packed
 */
export type Picker = (event: unknown, ctx: unknown, pack: Pack, wall: number, mono: number) => boolean;

/** A source of events, as declared in the module's table. */
export interface Source {
  /** Its index in the table. */
  index: number;
  /** The names of its facts, in order. */
  facts: readonly string[];
  pick: Picker;
}

/** All sources by the names of their events. The build makes this module from the table (`scripts/lib/pickers.mjs`). */
export const SOURCES: Readonly<Record<string, readonly Source[] | undefined>>;

/** Typed hooks that are read: on every gateway, on 2026.3.13 only, and on newer gateways only (2026.3.13 would warn). */
export const HOOKS: Readonly<Record<"every" | "older" | "newer", readonly string[]>>;

/** Families of internal events that have no typed hook. */
export const INTERNAL_EVENTS: readonly string[];

/** Types of diagnostic events that are read. */
export const DIAGNOSTICS: readonly string[];

/** Hash of the table: events that one table packed are read by the same table only. */
export const TABLE: string;
/** Hash of all scripts and modules of this build: a worker of another build cannot run with this recorder. */
export const BUILD: string;
