/** What a value of a file looks like: anything may stand in one. */

/** Whether a value is as expected. */
export type Shape = (value: unknown) => boolean;

/** The largest time that a date can have, in ms since 1970. */
const LAST_MS = 8_640_000_000_000_000;

/** A time in ms since 1970. */
export function isTime(value: unknown): value is number {
  return typeof value === "number" && value >= 0 && value <= LAST_MS;
}

export const isNumber: Shape = (value) => Number.isFinite(value);
export const isText: Shape = (value) => typeof value === "string";

/** An object, and no list. */
export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** A value of one of these shapes, or none. */
export function maybe(...shapes: Shape[]): Shape {
  return (value) => value === undefined || value === null || shapes.some((shape) => shape(value));
}

/** An object in which these fields have these shapes; others may stand there too. */
export function fields(of: Record<string, Shape>): Shape {
  return (value) => isObject(value) && Object.entries(of).every(([name, shape]) => shape(value[name]));
}

/** An object all of whose values have this shape. */
export function each(shape: Shape): Shape {
  return (value) => isObject(value) && Object.values(value).every(shape);
}
