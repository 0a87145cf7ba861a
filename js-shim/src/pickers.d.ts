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

/** Hash of the table: events that were packed by one table are read by the same table only. */
export const TABLE: string;
