/** Deadlines and error texts. */

/** The name and message of an error. */
export function reason(error: unknown): string {
  return error instanceof Error ? `${error.name}: ${error.message}` : String(error);
}

/** Rejects when a promise takes longer than `ms` ms. Its timer keeps no process alive. */
export async function withDeadline<T>(promise: Promise<T>, ms: number): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    // An answer that came while this thread was busy is read first: timers run before the messages of a worker.
    timer = setTimeout(() => setImmediate(() => reject(new Error("no answer in time"))), Math.max(1, ms));
    timer.unref();
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}
