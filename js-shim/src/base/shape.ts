/** Checks values that were read from a file, which may hold anything. */

/** Tells whether a value has the expected shape. */
export type Shape = (value: unknown) => boolean;

/** The latest time of a JavaScript `Date`, in ms since 1970. */
const LAST_MS = 8_640_000_000_000_000;

/** Whether a value is a time in ms since 1970. */
export function isTime(value: unknown): value is number {
  return typeof value === "number" && value >= 0 && value <= LAST_MS;
}

export const isNumber: Shape = (value) => Number.isFinite(value);
export const isText: Shape = (value) => typeof value === "string";

/** Whether a value is an object and no array. */
export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Accepts undefined, null, and values of one of these shapes. */
export function maybe(...shapes: Shape[]): Shape {
  return (value) => value === undefined || value === null || shapes.some((shape) => shape(value));
}

/** Accepts an object whose fields have these shapes; it may have further fields. */
export function fields(of: Record<string, Shape>): Shape {
  return (value) => isObject(value) && Object.entries(of).every(([name, shape]) => shape(value[name]));
}

/** Accepts an object whose values all have this shape. */
export function each(shape: Shape): Shape {
  return (value) => isObject(value) && Object.values(value).every(shape);
}

/** A list all of whose values have this shape. */
export function list(shape: Shape): Shape {
  return (value) => Array.isArray(value) && value.every(shape);
}
